"""The strategies of Deployments, ReplicaSets and ReplicationControllers.

Owns their defaults, rules and tables. Must not know what their controllers do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, selectors, workload
from controlplane.apiserver.registry.columns import Column, count
from controlplane.apiserver.registry.strategy import JSON, Plain
from kube import labels

STRATEGIES = ("Recreate", "RollingUpdate")


class Deployments(Plain):
    """Deployments."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Ready", "Ready pods of the wanted pods."),
        Column("Up-to-date", "Pods of the newest template."),
        Column("Available", "Pods ready for long enough."),
        columns.AGE,
        columns.CONTAINERS,
        columns.IMAGES,
        columns.SELECTOR,
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        workload.default_template(spec)
        _default_strategy(spec.setdefault("strategy", {}))
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = workload.numbers("spec", spec, "replicas") + workload.selector(spec, kind="deployment")
        errors += workload.template(spec, kind="ReplicaSet") + _strategy("spec.strategy", spec.get("strategy") or {})
        errors += workload.numbers("spec", spec, "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
            why = "must be greater than minReadySeconds"
            errors.append(field.invalid("spec.progressDeadlineSeconds", deadline, why))
        return errors

    def validate_update(self, obj: JSON, old: JSON) -> field.Errors:
        return super().validate_update(obj, old) + same_selector(obj, old)

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        counted = workload.status_counts(
            obj.get("status") or {}, "updatedReplicas", "readyReplicas", "availableReplicas"
        )
        return super().validate_status(obj, old) + counted

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return workload.warnings(obj, old)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        return [
            columns.name(obj),
            f"{status.get('readyReplicas') or 0}/{spec.get('replicas', 1)}",
            status.get("updatedReplicas") or 0,
            status.get("availableReplicas") or 0,
            columns.age(obj, now),
            *_template_cells(spec),
        ]


def _default_strategy(strategy: JSON) -> None:
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def _strategy(path: str, strategy: JSON) -> field.Errors:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "Recreate":
        why = "may not be specified when strategy `type` is 'Recreate'"
        return [] if rolling is None else [field.forbidden(f"{path}.rollingUpdate", why)]
    if kind != "RollingUpdate":
        return [field.unsupported(path, {"Type": kind, "RollingUpdate": rolling}, STRATEGIES)]
    if rolling is None:
        return [field.required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")]
    path += ".rollingUpdate"
    missing, extra = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = workload.int_or_percent(f"{path}.maxUnavailable", missing)
    errors += workload.int_or_percent(f"{path}.maxSurge", extra)
    if workload.is_zero(missing) and workload.is_zero(extra):
        errors.append(field.invalid(f"{path}.maxUnavailable", missing, "may not be 0 when `maxSurge` is 0"))
    return errors + workload.at_most_100_percent(f"{path}.maxUnavailable", missing)


def same_selector(obj: JSON, old: JSON) -> field.Errors:
    """A workload never changes whose pods it owns."""
    new, was = (obj.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    return field.immutable("spec.selector", selectors.shown(new or {}), selectors.shown(was or {}))


def selector_text(value: JSON | None) -> str:
    """A LabelSelector as tables print it."""
    if value is None:
        return columns.UNSET
    try:
        return str(labels.from_object(value)) or columns.UNSET
    except labels.SelectorError as error:
        return f"<error: {error}>"


def _template_cells(spec: JSON) -> list[Any]:
    inner = (spec.get("template") or {}).get("spec")
    return [*columns.containers(inner), selector_text(spec.get("selector"))]


_REPLICAS: tuple[Column, ...] = (
    columns.NAME,
    count("Desired", "Pods wanted."),
    count("Current", "Pods that exist."),
    count("Ready", "Pods that are ready."),
    columns.AGE,
    columns.CONTAINERS,
    columns.IMAGES,
    columns.SELECTOR,
)


class ReplicaSets(Plain):
    """ReplicaSets."""

    columns = _REPLICAS
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        workload.default_template(spec)
        found = (spec["template"].get("metadata") or {}).get("labels")
        if found and not (obj.get("metadata") or {}).get("labels") and self.resource.group == "extensions":
            obj.setdefault("metadata", {})["labels"] = dict(found)

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"replicas": 0}

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = workload.numbers("spec", spec, "replicas", "minReadySeconds")
        return errors + workload.selector(spec, kind="deployment") + workload.template(spec, kind="ReplicaSet")

    def validate_update(self, obj: JSON, old: JSON) -> field.Errors:
        return super().validate_update(obj, old) + same_selector(obj, old)

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        status = obj.get("status") or {}
        counted = workload.status_counts(status, "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
        return super().validate_status(obj, old) + counted

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return workload.warnings(obj, old)

    def field_values(self, obj: JSON) -> dict[str, str]:
        return {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        return [*_replica_cells(obj, now), *_template_cells(spec)]


def _replica_cells(obj: JSON, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted, there, ready = spec.get("replicas", 1), status.get("replicas") or 0, status.get("readyReplicas") or 0
    return [columns.name(obj), wanted, there, ready, columns.age(obj, now)]


class ReplicationControllers(ReplicaSets):
    """ReplicationControllers: a plain map as selector, by default the template's labels."""

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        workload.default_template(spec)
        if found := (spec["template"].get("metadata") or {}).get("labels"):
            spec["selector"] = spec.get("selector") or dict(found)
            meta = obj.setdefault("metadata", {})
            meta["labels"] = meta.get("labels") or dict(found)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = workload.numbers("spec", spec, "minReadySeconds")
        chosen = spec.get("selector") or {}
        errors += [] if chosen else [field.required("spec.selector")]
        errors += workload.numbers("spec", spec, "replicas")
        as_object = {"selector": {"matchLabels": chosen}, "template": spec.get("template")}
        return errors + workload.template(as_object, kind="ReplicationController")

    def validate_update(self, obj: JSON, old: JSON) -> field.Errors:
        return Plain.validate_update(self, obj, old)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        inner = (spec.get("template") or {}).get("spec")
        return [*_replica_cells(obj, now), *columns.containers(inner), columns.joined(spec.get("selector"))]
