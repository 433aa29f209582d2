"""The strategies of cluster-wide and quota kinds: priorities, runtimes, budgets, quotas, limits.

Owns their defaults, rules and tables. Must not know who enforces them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, names, quantities, selectors, workload
from controlplane.apiserver.registry.columns import Column, count
from controlplane.apiserver.registry.strategy import JSON, Plain
from controlplane.apiserver.registry.validate_pod import PREEMPTION

_HIGHEST_USER = 1_000_000_000
_SYSTEM_PREFIX = "system-"
_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class PriorityClasses(Plain):
    """PriorityClasses."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        count("Value", "Priority of pods of this class."),
        Column("Global-Default", "True for the class of pods that name none.", type="boolean"),
        columns.AGE,
        Column("PreemptionPolicy", "Whether its pods may push others out.", priority=1),
    )
    generation_of = ("value", "globalDefault", "description", "preemptionPolicy")

    def fill(self, obj: JSON) -> None:
        obj["preemptionPolicy"] = obj.get("preemptionPolicy") or "PreemptLowerPriority"

    def validate(self, obj: JSON) -> field.Errors:
        name, value = (obj.get("metadata") or {}).get("name") or "", obj.get("value") or 0
        errors: field.Errors = []
        if name.startswith(_SYSTEM_PREFIX):
            if _SYSTEM.get(name) != value or obj.get("globalDefault"):
                why = "priority class names with 'system-' prefix are reserved for system use only"
                why += ". error: " + _system_fault(name, obj)
                errors.append(field.forbidden("metadata.name", why))
        elif value > _HIGHEST_USER:
            why = f"maximum allowed value of a user defined priority is {_HIGHEST_USER}"
            errors.append(field.forbidden("value", why))
        policy = obj.get("preemptionPolicy")
        if policy not in PREEMPTION:
            errors.append(field.unsupported("preemptionPolicy", policy, PREEMPTION))
        return errors

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        errors: field.Errors = []
        if (obj.get("value") or 0) != (old.get("value") or 0):
            errors.append(field.forbidden("value", "may not be changed in an update."))
        return errors + field.immutable("preemptionPolicy", obj.get("preemptionPolicy"), old.get("preemptionPolicy"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        policy = obj.get("preemptionPolicy") or "PreemptLowerPriority"
        default = bool(obj.get("globalDefault"))
        return [columns.name(obj), obj.get("value") or 0, default, columns.age(obj, now), policy]


def _system_fault(name: str, obj: JSON) -> str:
    if name not in _SYSTEM:
        return f"{name} is not a known system priority class"
    if obj.get("value") != _SYSTEM[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false"


class RuntimeClasses(Plain):
    """RuntimeClasses."""

    columns: tuple[Column, ...] = (columns.NAME, Column("Handler", "Runtime configuration it names."), columns.AGE)

    def fill(self, obj: JSON) -> None:
        quantities.canonical_map((obj.get("overhead") or {}).get("podFixed"))

    def validate(self, obj: JSON) -> field.Errors:
        handler = obj.get("handler") or ""
        return field.invalids("handler", handler, names.dns_label(handler))

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("handler", obj.get("handler"), old.get("handler"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), obj.get("handler") or "", columns.age(obj, now)]


class PodDisruptionBudgets(Plain):
    """PodDisruptionBudgets."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Min Available", "Pods that must stay available."),
        Column("Max Unavailable", "Pods that may be unavailable."),
        count("Allowed Disruptions", "Pods that may be evicted now."),
        columns.AGE,
    )
    generation_of = ("spec",)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors: field.Errors = []
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if least is not None and most is not None:
            shown = {"MinAvailable": least, "MaxUnavailable": most}
            errors.append(field.invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
        for key, value in (("minAvailable", least), ("maxUnavailable", most)):
            if value is not None:
                errors += workload.int_or_percent(f"spec.{key}", value)
                errors += workload.at_most_100_percent(f"spec.{key}", value)
        return errors + selectors.selector("spec.selector", spec.get("selector"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        return [
            columns.name(obj),
            "N/A" if least is None else str(least),
            "N/A" if most is None else str(most),
            status.get("disruptionsAllowed") or 0,
            columns.age(obj, now),
        ]


class ResourceQuotas(Plain):
    """ResourceQuotas."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Request", "Used and allowed amounts that are no limits."),
        Column("Limit", "Used and allowed limits."),
        columns.AGE,
    )

    def fill(self, obj: JSON) -> None:
        quantities.canonical_map(obj.setdefault("spec", {}).get("hard"))
        for key in ("hard", "used"):
            quantities.canonical_map((obj.get("status") or {}).get(key))

    def validate(self, obj: JSON) -> field.Errors:
        errors: field.Errors = []
        for name, value in ((obj.get("spec") or {}).get("hard") or {}).items():
            errors += quantities.amount(f"spec.hard[{name}]", name, value)
        return errors

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        status = obj.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        shown = [(name, f"{name}: {used.get(name, '0')}/{hard[name]}") for name in sorted(hard)]
        limits = ", ".join(text for name, text in shown if name.startswith("limits"))
        requests = ", ".join(text for name, text in shown if not name.startswith("limits"))
        return [columns.name(obj), requests, limits, columns.age(obj, now)]


class LimitRanges(Plain):
    """LimitRanges."""

    def fill(self, obj: JSON) -> None:
        for item in obj.setdefault("spec", {}).get("limits") or ():
            for key in ("default", "defaultRequest", "max", "min", "maxLimitRequestRatio"):
                quantities.canonical_map(item.get(key))
            if item.get("type") == "Container":
                _container_limits(item)


def _container_limits(item: JSON) -> None:
    """The default limit follows the maximum, the default request the default limit, then the minimum."""
    limits = {**(item.get("max") or {}), **(item.get("default") or {})}
    requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
    if limits:
        item["default"] = limits
    if requests:
        item["defaultRequest"] = requests
