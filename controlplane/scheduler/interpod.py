"""Inter-pod affinity: pods that want to be beside, or away from, other pods. Pure, with upstream's texts.

"Beside" means: on a node with the same value of the term's topology key. Anti-affinity works both ways: a pod on a
node can also refuse a newcomer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.projection import JSON, Pod
from kube import labels
from kube.labels import Selector

PLUGIN = "InterPodAffinity"
HARD_AFFINITY_WEIGHT = 1  # what a required term of a pod already placed counts for a newcomer it matches
Place = tuple[str, str]  # topology key, value


@dataclass(frozen=True, slots=True)
class Term:
    """Which pods, in which namespaces, and what beside means. weight is 0 for required terms."""

    topology_key: str
    selector: Selector
    namespaces: frozenset[str]
    namespace_selector: Selector | None
    weight: int = 0

    def matches(self, pod: Pod, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it means this pod. namespaces: labels by namespace name."""
        meta = pod.metadata
        if not self.selector.matches(meta.labels):
            return False
        if meta.namespace in self.namespaces:
            return True
        chosen = self.namespace_selector
        return chosen is not None and chosen.matches(namespaces.get(meta.namespace, {}))


@dataclass(frozen=True, slots=True)
class Terms:
    """All terms of one pod."""

    with_required: tuple[Term, ...] = ()
    away_required: tuple[Term, ...] = ()
    with_preferred: tuple[Term, ...] = ()
    away_preferred: tuple[Term, ...] = ()


NONE = Terms()


def terms(pod: Pod) -> Terms:
    """Read a pod's terms; NONE for the many that have none."""
    beside, away = pod.spec.affinity.get("podAffinity"), pod.spec.affinity.get("podAntiAffinity")
    if not beside and not away:
        return NONE
    return Terms(
        _required(pod, beside),
        _required(pod, away),
        _preferred(pod, beside),
        _preferred(pod, away),
    )


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A pod on a node: its terms, and the labels of the node it is on."""

    pod: Pod
    terms: Terms
    node_labels: Mapping[str, str]


def forbidden(
    pod: Pod, own: Terms, neighbours: Iterable[Neighbour], namespaces: Mapping[str, Mapping[str, str]]
) -> tuple[frozenset[Place], frozenset[Place]]:
    """(places the pod's own anti-affinity rules out, places where pods are that refuse it)."""
    ruled_out: set[Place] = set()
    refusing: set[Place] = set()
    for one in neighbours:
        ruled_out |= _places(own.away_required, one.pod, one, namespaces)
        refusing |= _places(one.terms.away_required, pod, one, namespaces)
    return frozenset(ruled_out), frozenset(refusing)


def attracting(
    own: Terms, neighbours: Iterable[Neighbour], namespaces: Mapping[str, Mapping[str, str]]
) -> list[frozenset[str]]:
    """For each required affinity term, the topology values with a pod that matches all of them."""
    found: list[set[str]] = [set() for _ in own.with_required]
    for one in neighbours:
        if all(term.matches(one.pod, namespaces) for term in own.with_required):
            for values, term in zip(found, own.with_required, strict=True):
                if term.topology_key in one.node_labels:
                    values.add(one.node_labels[term.topology_key])
    return [frozenset(values) for values in found]


def is_first(
    pod: Pod, own: Terms, values: Sequence[frozenset[str]], namespaces: Mapping[str, Mapping[str, str]]
) -> bool:
    """A group whose pods want to be together has to start somewhere: no pod matches yet, but the pod itself does."""
    return not any(values) and all(term.matches(pod, namespaces) for term in own.with_required)


def refuses(places: frozenset[Place], node_labels: Mapping[str, str]) -> bool:
    """Whether a node is in one of the places."""
    return any(node_labels.get(key) == value for key, value in places)


def attraction(
    pod: Pod, own: Terms, neighbours: Iterable[Neighbour], namespaces: Mapping[str, Mapping[str, str]]
) -> dict[Place, int]:
    """How much each place draws (or, below zero, puts off) a pod: its own preferences and those of pods there."""
    found: Counter[Place] = Counter()
    for one in neighbours:
        for term in own.with_preferred:
            _weigh(found, term, one.pod, one, namespaces, term.weight)
        for term in own.away_preferred:
            _weigh(found, term, one.pod, one, namespaces, -term.weight)
        for term in one.terms.with_required:
            _weigh(found, term, pod, one, namespaces, HARD_AFFINITY_WEIGHT)
        for term in one.terms.with_preferred:
            _weigh(found, term, pod, one, namespaces, term.weight)
        for term in one.terms.away_preferred:
            _weigh(found, term, pod, one, namespaces, -term.weight)
    return dict(found)


def scores(drawn: Mapping[Place, int], nodes: Sequence[Mapping[str, str]]) -> list[int]:
    """0 to 100 for each node, given as its labels."""
    by_key: dict[str, dict[str, int]] = defaultdict(dict)
    for (key, value), weight in drawn.items():
        by_key[key][value] = weight
    raw = [sum(values.get(each.get(key, ""), 0) for key, values in by_key.items()) for each in nodes]
    low, high = min(raw, default=0), max(raw, default=0)
    return [100 * (value - low) // (high - low) if high > low else 0 for value in raw]


def _places(
    wanted: Iterable[Term], subject: Pod, where: Neighbour, namespaces: Mapping[str, Mapping[str, str]]
) -> set[Place]:
    return {
        (term.topology_key, where.node_labels[term.topology_key])
        for term in wanted
        if term.topology_key in where.node_labels and term.matches(subject, namespaces)
    }


def _weigh(
    found: Counter[Place],
    term: Term,
    subject: Pod,
    where: Neighbour,
    namespaces: Mapping[str, Mapping[str, str]],
    weight: int,
) -> None:
    value = where.node_labels.get(term.topology_key)
    if value is not None and term.matches(subject, namespaces):
        found[term.topology_key, value] += weight


def _required(pod: Pod, section: JSON | None) -> tuple[Term, ...]:
    entries = (section or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(pod, entry, 0) for entry in entries)


def _preferred(pod: Pod, section: JSON | None) -> tuple[Term, ...]:
    entries = (section or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(pod, entry.get("podAffinityTerm") or {}, entry.get("weight", 0)) for entry in entries)


def _term(pod: Pod, entry: JSON, weight: int) -> Term:
    """Neither namespaces nor a selector of them means the pod's own."""
    named, chosen = entry.get("namespaces") or (), entry.get("namespaceSelector")
    namespaces = frozenset(named) if named or chosen is not None else frozenset((pod.metadata.namespace,))
    return Term(
        entry.get("topologyKey", ""),
        with_label_keys(pod, entry),
        namespaces,
        None if chosen is None else labels.from_object(chosen),
        weight,
    )


def with_label_keys(pod: Pod, entry: JSON) -> Selector:
    """The selector of a term, narrowed by matchLabelKeys and mismatchLabelKeys to the pod's own values."""
    selector = entry.get("labelSelector")
    extra = [
        {"key": key, "operator": operator, "values": [pod.metadata.labels[key]]}
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in entry.get(field) or ()
        if key in pod.metadata.labels
    ]
    if selector is None or not extra:
        return labels.from_object(selector)
    return labels.from_object({**selector, "matchExpressions": [*(selector.get("matchExpressions") or ()), *extra]})
