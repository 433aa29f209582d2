"""Where a pod may run: affinity, tolerations, spreading, taints. Owns their rules. Must not know nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from controlplane.apiserver.registry import field, names, selectors
from controlplane.apiserver.registry.field import JSON
from kube.status import FieldError

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_POLICIES = ("Honor", "Ignore")
_FIELD_RULES: Mapping[str, Callable[[str], tuple[str, ...]]] = MappingProxyType({"metadata.name": names.dns_subdomain})
_OPERATOR = "not a valid selector operator"


def affinity(path: str, value: JSON) -> field.Errors:
    """Faults of node affinity, pod affinity and pod anti-affinity."""
    errors: field.Errors = []
    if (nodes := value.get("nodeAffinity")) is not None:
        errors += _node_affinity(f"{path}.nodeAffinity", nodes)
    for key in ("podAffinity", "podAntiAffinity"):
        if (pods := value.get(key)) is not None:
            errors += _pod_affinity(f"{path}.{key}", pods)
    return errors


def _node_affinity(path: str, value: JSON) -> field.Errors:
    errors: field.Errors = []
    if (needed := value.get(REQUIRED)) is not None:
        errors += node_selector(f"{path}.{REQUIRED}", needed)
    for index, term in enumerate(value.get(PREFERRED) or ()):
        where = f"{path}.{PREFERRED}[{index}]"
        errors += _weight(where, term) + _node_term(f"{where}.preference", term.get("preference") or {}, strict=False)
    return errors


def node_selector(path: str, value: JSON) -> field.Errors:
    """Faults of a node selector: at least one term."""
    terms = value.get("nodeSelectorTerms") or ()
    if not terms:
        return [field.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: field.Errors = []
    for index, term in enumerate(terms):
        errors += _node_term(f"{path}.nodeSelectorTerms[{index}]", term, strict=True)
    return errors


def _node_term(path: str, term: JSON, *, strict: bool) -> field.Errors:
    errors: field.Errors = []
    for index, item in enumerate(term.get("matchExpressions") or ()):
        errors += _node_expression(f"{path}.matchExpressions[{index}]", item, strict=strict)
    for index, item in enumerate(term.get("matchFields") or ()):
        errors += _node_field(f"{path}.matchFields[{index}]", item)
    return errors


def _node_expression(path: str, item: JSON, *, strict: bool) -> field.Errors:
    operator, values = item.get("operator") or "", item.get("values") or []
    errors: field.Errors = []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(field.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(field.forbidden(f"{path}.values", why))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(field.required(f"{path}.values", why))
    else:
        errors.append(field.invalid(f"{path}.operator", operator, _OPERATOR))
    errors += selectors.label_name(f"{path}.key", item.get("key") or "")
    for index, text in enumerate(values if strict else ()):
        errors += field.invalids(f"{path}.values[{index}]", text, names.label_value(text))
    return errors


def _node_field(path: str, item: JSON) -> field.Errors:
    key, operator, values = item.get("key") or "", item.get("operator") or "", item.get("values") or []
    errors: field.Errors = []
    if operator not in ("In", "NotIn"):
        errors.append(field.invalid(f"{path}.operator", operator, _OPERATOR))
    elif len(values) != 1:
        why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(field.required(f"{path}.values", why))
    rule = _FIELD_RULES.get(key)
    if rule is None:
        return [*errors, field.invalid(f"{path}.key", key, "not a valid field selector key")]
    for index, text in enumerate(values):
        errors += field.invalids(f"{path}.values[{index}]", text, rule(text))
    return errors


def _weight(path: str, term: JSON) -> field.Errors:
    weight = term.get("weight") or 0
    return [] if 1 <= weight <= 100 else [field.invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _pod_affinity(path: str, value: JSON) -> field.Errors:
    errors: field.Errors = []
    for index, term in enumerate(value.get(REQUIRED) or ()):
        errors += _pod_term(f"{path}.{REQUIRED}[{index}]", term)
    for index, item in enumerate(value.get(PREFERRED) or ()):
        where = f"{path}.{PREFERRED}[{index}]"
        errors += _weight(where, item) + _pod_term(f"{where}.podAffinityTerm", item.get("podAffinityTerm") or {})
    return errors


def _pod_term(path: str, term: JSON) -> field.Errors:
    errors = selectors.selector(f"{path}.labelSelector", term.get("labelSelector"))
    errors += selectors.selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for namespace in term.get("namespaces") or ():
        errors += field.invalids(f"{path}.namespace", namespace, names.dns_label(namespace))
    errors += _label_keys(path, term)
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(field.required(f"{path}.topologyKey", "can not be empty"))
    return errors + selectors.label_name(f"{path}.topologyKey", key)


def _label_keys(path: str, term: JSON) -> field.Errors:
    errors: field.Errors = []
    for name in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = term.get(name) or ()
        if keys and term.get("labelSelector") is None:
            errors.append(field.forbidden(f"{path}.{name}", "must not be specified when labelSelector is not set"))
            continue
        for index, key in enumerate(keys):
            errors += selectors.label_name(f"{path}.{name}[{index}]", key)
    other = set(term.get("mismatchLabelKeys") or ())
    for index, key in enumerate(term.get("matchLabelKeys") or ()):
        if key in other:
            why = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(field.invalid(f"{path}.matchLabelKeys[{index}]", key, why))
    return errors


def tolerations(path: str, values: Iterable[JSON]) -> field.Errors:
    """Faults of a pod's tolerations."""
    errors: field.Errors = []
    for index, item in enumerate(values):
        errors += _toleration(f"{path}[{index}]", item)
    return errors


def _toleration(path: str, item: JSON) -> field.Errors:
    key, operator, value = item.get("key") or "", item.get("operator") or "", item.get("value") or ""
    effect = item.get("effect") or ""
    errors: field.Errors = []
    if key:
        errors += selectors.label_name(f"{path}.key", key)
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(field.invalid(f"{path}.operator", operator, why))
    if item.get("tolerationSeconds") is not None and effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(field.invalid(f"{path}.effect", effect, why))
    if operator in ("", "Equal"):
        if faults := names.label_value(value):
            errors.append(field.invalid(f"{path}.operator", value, ";".join(faults)))
    elif operator == "Exists":
        if value:
            errors.append(field.invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'"))
    else:
        errors.append(field.unsupported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in EFFECTS:
        errors.append(field.unsupported(f"{path}.effect", effect, EFFECTS))
    return errors


def taints(path: str, values: Iterable[JSON]) -> field.Errors:
    """Faults of a node's taints: unique by key and effect."""
    errors: field.Errors = []
    seen: set[tuple[str, str]] = set()
    for index, item in enumerate(values):
        where, key = f"{path}[{index}]", item.get("key") or ""
        value, effect = item.get("value") or "", item.get("effect") or ""
        errors += selectors.label_name(f"{where}.key", key)
        if faults := names.label_value(value):
            errors.append(field.invalid(f"{where}.value", value, ";".join(faults)))
        if not effect:
            errors.append(field.required(f"{where}.effect"))
        elif effect not in EFFECTS:
            errors.append(field.unsupported(f"{where}.effect", effect, EFFECTS))
        if (key, effect) in seen:
            why = "taints must be unique by key and effect pair"
            shown = {"Key": key, "Value": value, "Effect": effect, "TimeAdded": item.get("timeAdded")}
            errors.append(FieldError("Duplicate", where, why, shown))
        seen.add((key, effect))
    return errors


def spread(path: str, constraints: Sequence[JSON]) -> field.Errors:
    """Faults of topology spread constraints."""
    errors: field.Errors = []
    for index, item in enumerate(constraints):
        where = f"{path}[{index}]"
        key, action = item.get("topologyKey") or "", item.get("whenUnsatisfiable") or ""
        if (item.get("maxSkew") or 0) <= 0:
            errors.append(field.invalid(f"{where}.maxSkew", item.get("maxSkew") or 0, field.NOT_POSITIVE))
        if not key:
            errors.append(field.required(f"{where}.topologyKey", "can not be empty"))
        if action not in _ACTIONS:
            errors.append(field.unsupported(f"{where}.whenUnsatisfiable", action, _ACTIONS))
        if any(
            (key, action) == (later.get("topologyKey"), later.get("whenUnsatisfiable"))
            for later in _after(constraints, index)
        ):
            errors.append(field.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        errors += _spread_details(where, item, action)
    return errors


def _after(constraints: Sequence[JSON], index: int) -> Sequence[JSON]:
    return constraints[index + 1 :]


def _spread_details(path: str, item: JSON, action: str) -> field.Errors:
    errors: field.Errors = []
    if (domains := item.get("minDomains")) is not None:
        if domains <= 0:
            errors.append(field.invalid(f"{path}.minDomains", domains, field.NOT_POSITIVE))
        if action != "DoNotSchedule":
            why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            errors.append(field.invalid(f"{path}.minDomains", domains, why))
    for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if (policy := item.get(key)) is not None and policy not in _POLICIES:
            errors.append(field.unsupported(f"{path}.{key}", policy, _POLICIES))
    keys, selector = item.get("matchLabelKeys") or (), item.get("labelSelector")
    if keys and selector is None:
        errors.append(field.forbidden(f"{path}.matchLabelKeys", "must not be specified when labelSelector is not set"))
    chosen = selectors.keys(selector)
    for index, key in enumerate(keys):
        where = f"{path}.matchLabelKeys[{index}]"
        errors += selectors.label_name(where, key)
        if key in chosen:
            errors.append(field.invalid(where, key, "exists in both matchLabelKeys and labelSelector"))
    return errors + selectors.selector(f"{path}.labelSelector", selector)
