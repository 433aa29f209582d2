"""The amounts of a pod as a whole: what its containers ask for together, and the pod-level requests and limits.

Owns their defaults and rules. Must not know nodes.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.apiserver.registry import field, quantities
from controlplane.apiserver.registry.field import JSON
from kube import quantity

Amounts = dict[str, quantity.Quantity]


def together(spec: JSON, kind: str) -> Amounts:
    """The `requests` or `limits` of all containers: the sum of those that run side by side, or more while starting."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, kind))
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(sidecars, own)
            own = dict(sidecars)
        else:
            _add(own, sidecars)
        _most(starting, own)
    _most(total, starting)
    return total


def _amounts(container: JSON, kind: str) -> Amounts:
    found = (container.get("resources") or {}).get(kind) or {}
    return {name: quantity.parse(value) for name, value in found.items()}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def _most(total: Amounts, other: Amounts) -> None:
    for name, amount in other.items():
        total[name] = max(total[name], amount) if name in total else amount


def _supported(name: str) -> bool:
    return name in quantities.POD_LEVEL or name.startswith(quantities.HUGE_PAGES)


def default(spec: JSON) -> None:
    """Complete pod-level amounts where the author gave some: from the containers, requests also from limits."""
    resources = spec.get("resources")
    if not resources or not (resources.get("limits") or resources.get("requests")):
        return
    limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
    asked_for_limits = bool(limits)
    for name, amount in together(spec, "limits").items():
        if name.startswith(quantities.HUGE_PAGES) and name not in requests:
            limits.setdefault(name, str(amount))
    if limits:
        for name, amount in together(spec, "requests").items():
            if name in quantities.POD_LEVEL:
                requests.setdefault(name, str(amount))
        for name, value in limits.items():
            if _supported(name):
                requests.setdefault(name, value)
    if not asked_for_limits:
        _default_limits(spec, limits)
    for key, found in (("limits", limits), ("requests", requests)):
        if found:
            resources[key] = found


def _default_limits(spec: JSON, limits: JSON) -> None:
    everyone = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for name, amount in together(spec, "limits").items():
        if name in quantities.POD_LEVEL and all(name in _amounts(item, "limits") for item in everyone):
            limits.setdefault(name, str(amount))


def check(path: str, spec: JSON) -> field.Errors:
    """Faults of `spec.resources`: by itself, and against what the containers ask for."""
    resources: JSON = spec["resources"]
    errors: field.Errors = []
    if resources.get("claims"):
        errors.append(field.forbidden(f"{path}.claims", "claims cannot be set for Resources at pod-level"))
    bare = {key: value for key, value in resources.items() if key != "claims"}
    errors += quantities.requirements(path, bare, name_check=quantities.pod_name)
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, amount in together(spec, "requests").items():
        if amount > quantity.parse(requests.get(name, "0")):
            why = f"must be greater than or equal to aggregate container requests of {amount}"
            errors.append(field.invalid(f"{path}.requests[{name}]", requests.get(name, "0"), why))
    return errors + _container_limits(path, spec.get("containers") or (), limits)


def _container_limits(path: str, containers: Iterable[JSON], limits: JSON) -> field.Errors:
    errors: field.Errors = []
    for index, container in enumerate(containers):
        for name, amount in _amounts(container, "limits").items():
            if name in limits and amount > quantity.parse(limits[name]):
                why = f"must be less than or equal to pod limits of {limits[name]}"
                errors.append(field.invalid(f"{path}.containers[{index}][{name}].limits", str(amount), why))
    return errors
