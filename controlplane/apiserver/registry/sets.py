"""The strategies of DaemonSets, StatefulSets and ControllerRevisions.

Owns their defaults, rules and tables. Must not know what their controllers do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, deployment, field, names, workload
from controlplane.apiserver.registry.columns import Column, count
from controlplane.apiserver.registry.strategy import JSON, Plain

_POLICIES = ("OnDelete", "RollingUpdate")
_MANAGEMENT = ("OrderedReady", "Parallel")
_RETENTION = ("Delete", "Retain")
_FREE = ("replicas", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds")
_UPDATABLE = (
    "'replicas'",
    "'ordinals'",
    "'template'",
    "'updateStrategy'",
    "'revisionHistoryLimit'",
    "'persistentVolumeClaimRetentionPolicy'",
)


class DaemonSets(Plain):
    """DaemonSets."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        count("Desired", "Nodes that should run the pod."),
        count("Current", "Nodes that run it and should."),
        count("Ready", "Nodes where it is ready."),
        count("Up-to-date", "Nodes that run the newest template."),
        count("Available", "Nodes where it has been ready for long enough."),
        Column("Node Selector", "Labels of the nodes that should run it."),
        columns.AGE,
        columns.CONTAINERS,
        columns.IMAGES,
        columns.SELECTOR,
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        workload.default_template(spec)
        strategy = spec.setdefault("updateStrategy", {})
        strategy["type"] = strategy.get("type") or "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        zeros = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        obj["status"] = dict.fromkeys(zeros, 0)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = workload.template(spec, kind="DaemonSet")
        if spec.get("selector") is not None:
            errors = workload.selector(spec, kind="daemonset") + errors
        errors += workload.numbers("spec", spec, "minReadySeconds", "revisionHistoryLimit")
        strategy, path = spec.get("updateStrategy") or {}, "spec.updateStrategy"
        if strategy.get("type") not in _POLICIES:
            shown = {"Type": strategy.get("type") or "", "RollingUpdate": strategy.get("rollingUpdate")}
            return [*errors, field.unsupported(path, shown, ("RollingUpdate", "OnDelete"))]
        rolling = strategy.get("rollingUpdate")
        return errors + (_rolling(f"{path}.rollingUpdate", rolling) if rolling is not None else [])

    def validate_update(self, obj: JSON, old: JSON) -> field.Errors:
        return super().validate_update(obj, old) + deployment.same_selector(obj, old)

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return workload.warnings(obj, old)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        inner = (spec.get("template") or {}).get("spec") or {}
        keys = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
        return [
            columns.name(obj),
            *(status.get(key) or 0 for key in (*keys, "numberAvailable")),
            columns.joined(inner.get("nodeSelector")),
            columns.age(obj, now),
            *columns.containers(inner),
            deployment.selector_text(spec.get("selector")),
        ]


def _rolling(path: str, rolling: JSON) -> field.Errors:
    missing, extra = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = workload.int_or_percent(f"{path}.maxUnavailable", missing)
    errors += workload.at_most_100_percent(f"{path}.maxUnavailable", missing)
    errors += workload.int_or_percent(f"{path}.maxSurge", extra) + workload.at_most_100_percent(
        f"{path}.maxSurge", extra
    )
    zero = (workload.is_zero(missing), workload.is_zero(extra))
    if zero == (False, False):
        errors.append(field.invalid(f"{path}.maxSurge", extra, "may not be set when maxUnavailable is non-zero"))
    elif zero == (True, True):
        errors.append(field.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


class StatefulSets(Plain):
    """StatefulSets."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Ready", "Ready pods of the wanted pods."),
        columns.AGE,
        columns.CONTAINERS,
        columns.IMAGES,
    )
    name_rule = staticmethod(names.dns_label)
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        workload.default_template(spec)
        workload.default_claims(spec)
        spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        strategy["type"] = strategy.get("type") or "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
        spec.setdefault("revisionHistoryLimit", 10)
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for key in ("whenDeleted", "whenScaled"):
            retention[key] = retention.get(key) or "Retain"

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors: field.Errors = []
        policy = spec.get("podManagementPolicy") or ""
        if policy not in _MANAGEMENT:
            why = "must be 'OrderedReady' or 'Parallel'"
            errors.append(field.invalid("spec.podManagementPolicy", policy, why))
        strategy = spec.get("updateStrategy") or {}
        if strategy.get("type") not in _POLICIES:
            why = "must be 'RollingUpdate' or 'OnDelete'"
            shown = {"Type": strategy.get("type") or "", "RollingUpdate": strategy.get("rollingUpdate")}
            errors.append(field.invalid("spec.updateStrategy", shown, why))
        partition = (strategy.get("rollingUpdate") or {}).get("partition")
        errors += field.nonnegative("spec.updateStrategy.rollingUpdate.partition", partition)
        for key, value in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
            if value not in _RETENTION:
                errors.append(field.unsupported(f"spec.persistentVolumeClaimRetentionPolicy.{key}", value, _RETENTION))
        errors += workload.numbers("spec", spec, "replicas", "minReadySeconds")
        errors += field.nonnegative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
        if service := spec.get("serviceName"):
            errors += field.invalids("spec.serviceName", service, names.dns_label(service))
        errors += workload.selector(spec, kind="statefulset")
        return errors + workload.template(spec, kind="StatefulSet")

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        free = {*_FREE, "ordinals", "revisionHistoryLimit"}
        new = {key: value for key, value in (obj.get("spec") or {}).items() if key not in free}
        was = {key: value for key, value in (old.get("spec") or {}).items() if key not in free}
        if new == was:
            return []
        why = f"updates to statefulset spec for fields other than {', '.join(_UPDATABLE)} and 'minReadySeconds' are "
        return [field.forbidden("spec", why + "forbidden")]

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return workload.warnings(obj, old)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        return [
            columns.name(obj),
            f"{status.get('readyReplicas') or 0}/{spec.get('replicas', 1)}",
            columns.age(obj, now),
            *columns.containers((spec.get("template") or {}).get("spec")),
        ]


class ControllerRevisions(Plain):
    """ControllerRevisions: their data never changes."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Controller", "Workload the revision belongs to."),
        Column("Revision", "Number of the revision."),
        columns.AGE,
    )

    def default(self, obj: JSON) -> None:
        """Nothing: nulls inside the data mean something to whoever wrote it."""

    def validate(self, obj: JSON) -> field.Errors:
        errors = [] if obj.get("data") is not None else [field.required("data", "data is mandatory")]
        return errors + field.nonnegative("revision", obj.get("revision"))

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("data", obj.get("data"), old.get("data"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), owner(obj), str(obj.get("revision") or 0), columns.age(obj, now)]


def owner(obj: JSON) -> str:
    """The controlling owner as `kind.group/name`."""
    for reference in (obj.get("metadata") or {}).get("ownerReferences") or ():
        if reference.get("controller"):
            group = (reference.get("apiVersion") or "").rpartition("/")[0]
            kind = (reference.get("kind") or "").lower()
            return f"{kind}.{group}/{reference.get('name')}" if group else f"{kind}/{reference.get('name')}"
    return columns.UNSET
