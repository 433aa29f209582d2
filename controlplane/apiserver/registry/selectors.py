"""Labels and label selectors as fields of an object.

Owns their validation. Must not know who carries them; matching is `kube.labels`.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry import field, names


def label_name(path: str, key: str) -> field.Errors:
    """Faults of a label key."""
    faults = names.qualified_name(key)
    return field.invalids(path, key, faults) if faults else []


def labels(path: str, values: dict[str, str] | None) -> field.Errors:
    """Faults of a map of labels; the path is the map's."""
    errors: field.Errors = []
    for key, value in (values or {}).items():
        if faults := names.qualified_name(key):
            errors += field.invalids(path, key, faults)
        if faults := names.label_value(value):
            errors += field.invalids(path, value, faults)
    return errors


def selector(path: str, value: field.JSON | None) -> field.Errors:
    """Faults of a LabelSelector; None has none."""
    if value is None:
        return []
    errors = labels(f"{path}.matchLabels", value.get("matchLabels"))
    for index, expression in enumerate(value.get("matchExpressions") or ()):
        errors += _expression(f"{path}.matchExpressions[{index}]", expression)
    return errors


def _expression(path: str, expression: field.JSON) -> field.Errors:
    errors: field.Errors = []
    operator, values = expression.get("operator") or "", expression.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(field.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(field.forbidden(f"{path}.values", why))
    else:
        errors.append(field.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    errors += label_name(f"{path}.key", expression.get("key") or "")
    for index, item in enumerate(values):
        errors += field.invalids(f"{path}.values[{index}]", item, names.label_value(item))
    return errors


def shown(value: field.JSON) -> field.JSON:
    """A LabelSelector as messages show it: members in upstream's order, labels sorted."""
    found: field.JSON = {}
    if "matchLabels" in value:
        found["matchLabels"] = dict(sorted(value["matchLabels"].items()))
    if expressions := value.get("matchExpressions"):
        order = ("key", "operator", "values")
        found["matchExpressions"] = [{key: item[key] for key in order if key in item} for item in expressions]
    return found


def empty(value: Any) -> bool:
    """True for a LabelSelector that has no condition."""
    return not (value and (value.get("matchLabels") or value.get("matchExpressions")))


def keys(value: field.JSON | None) -> set[str]:
    """Every label key a LabelSelector speaks of."""
    found = set((value or {}).get("matchLabels") or ())
    return found | {expression.get("key") or "" for expression in (value or {}).get("matchExpressions") or ()}
