"""Node selectors and node affinity: which nodes a pod asks for. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.projection import JSON, Node, PodSpec

HOSTNAME_FIELD = "metadata.name"


def required_terms(spec: PodSpec) -> list[JSON] | None:
    """Terms of required node affinity, of which one must match; None if the pod asks for nothing."""
    section = _node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if section is None else list(section.get("nodeSelectorTerms") or ())


def preferred_terms(spec: PodSpec) -> list[tuple[int, JSON]]:
    """(weight, term) of preferred node affinity."""
    entries = _node_affinity(spec).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return [(entry.get("weight", 0), entry.get("preference") or {}) for entry in entries]


def fits(spec: PodSpec, node: Node, terms: list[JSON] | None) -> bool:
    """Whether a node has the labels of the selector, and matches one of the required terms if there are any."""
    if not spec.node_selector.items() <= node.metadata.labels.items():
        return False
    return terms is None or any(matches(term, node) for term in terms)


def matches(term: JSON, node: Node) -> bool:
    """Whether a node matches one term: all its expressions and fields. An empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels = node.metadata.labels
    return all(_holds(e, labels) for e in expressions) and all(
        _holds(f, {HOSTNAME_FIELD: node.metadata.name}) for f in fields
    )


def named_nodes(terms: list[JSON] | None) -> frozenset[str] | None:
    """Node names when every term names its node (as DaemonSet pods do), so that no other need be looked at."""
    if not terms:
        return None
    found: set[str] = set()
    for term in terms:
        names = [f["values"] for f in term.get("matchFields") or () if _names_node(f)]
        if not names:
            return None
        found.update(names[0])
    return frozenset(found)


def _names_node(field: JSON) -> bool:
    return field.get("key") == HOSTNAME_FIELD and field.get("operator") == "In" and bool(field.get("values"))


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement["key"])
    values: Sequence[str] = requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return _compares(value, values, 1)
        case "Lt":
            return _compares(value, values, -1)
    return False


def _compares(value: str | None, values: Sequence[str], sign: int) -> bool:
    try:
        return sign * (int(value or "") - int(values[0] if values else "")) > 0
    except ValueError:
        return False


def _node_affinity(spec: PodSpec) -> JSON:
    section = spec.affinity.get("nodeAffinity")
    return section if isinstance(section, dict) else {}
