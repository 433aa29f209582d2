"""The quality of service class of a pod. Owns the rule. Must not know what the node does with it."""

from __future__ import annotations

from controlplane.apiserver.registry.field import JSON
from kube import quantity

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
_COUNTED = ("cpu", "memory")


def qos_class(spec: JSON) -> str:
    """Guaranteed, Burstable or BestEffort, by the cpu and memory the containers (or the pod as a whole) ask for."""
    whole = spec.get("resources")
    parts = [whole] if whole and (whole.get("limits") or whole.get("requests")) else _containers(spec)
    asked = [{kind: _amounts(part.get(kind)) for kind in ("requests", "limits")} for part in parts]
    if not any(amounts for part in asked for amounts in part.values()):
        return BEST_EFFORT
    for part in asked:
        if len(part["limits"]) != len(_COUNTED) or part["requests"] != part["limits"]:
            return BURSTABLE
    return GUARANTEED


def _containers(spec: JSON) -> list[JSON]:
    found = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return [item.get("resources") or {} for item in found]


def _amounts(values: JSON | None) -> dict[str, quantity.Quantity]:
    found = {name: quantity.parse(values[name]) for name in _COUNTED if values and name in values}
    return {name: amount for name, amount in found.items() if amount}
