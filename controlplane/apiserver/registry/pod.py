"""The strategy of pods. Owns their first status, selectable fields and grace. Must not know nodes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import (
    field,
    pod_columns,
    pod_defaults,
    pod_update,
    pod_views,
    pod_warnings,
    qos,
    validate_pod,
)
from controlplane.apiserver.registry.strategy import JSON, Plain

GATED = "Scheduling is blocked due to non-empty scheduling gates"


class Pods(Plain):
    """Pods."""

    columns = pod_columns.COLUMNS
    views = pod_views.VIEWS
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        pod_defaults.pod(obj)

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        spec = obj["spec"]
        pod_defaults.mirror_service_account(spec)
        status: JSON = {"phase": "Pending", "qosClass": qos.qos_class(spec)}
        if spec.get("schedulingGates"):
            gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": GATED}
            status["conditions"] = [{**gated, "lastTransitionTime": None, "lastProbeTime": None}]
        obj["status"] = status

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        pod_defaults.mirror_service_account(obj.get("spec") or {})
        super().prepare_update(obj, old)

    def prepare_status(self, obj: JSON, old: JSON) -> None:
        super().prepare_status(obj, old)
        was = (old.get("status") or {}).get("qosClass")
        if was and "status" in obj:
            obj["status"]["qosClass"] = obj["status"].get("qosClass") or was

    def validate_create(self, obj: JSON) -> field.Errors:
        errors = super().validate_create(obj)
        spec = obj.get("spec") or {}
        if spec.get("ephemeralContainers"):
            errors.append(field.forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            why = "cannot be set until all schedulingGates have been cleared"
            errors.append(field.forbidden("spec.nodeName", why))
        return errors

    def validate(self, obj: JSON) -> field.Errors:
        return validate_pod.pod(obj)

    def validate_update(self, obj: JSON, old: JSON) -> field.Errors:
        errors = super().validate_update(obj, old)
        return errors + pod_update.changes(obj, old)

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        return super().validate_status(obj, old) + pod_update.status_changes(obj, old)

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        if old is not None:
            return []
        named = pod_warnings.name(obj, use="the Pod's hostname")
        return named + pod_warnings.of(obj.get("metadata") or {}, obj.get("spec") or {})

    def field_values(self, obj: JSON) -> dict[str, str]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        ips = status.get("podIPs") or ()
        return {
            "spec.nodeName": spec.get("nodeName") or "",
            "spec.restartPolicy": spec.get("restartPolicy") or "",
            "spec.schedulerName": spec.get("schedulerName") or "",
            "spec.serviceAccountName": spec.get("serviceAccountName") or "",
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase") or "",
            "status.podIP": status.get("podIP") or (ips[0].get("ip") if ips else "") or "",
            "status.nominatedNodeName": status.get("nominatedNodeName") or "",
        }

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return pod_columns.cells(obj, now)

    def row_conditions(self, obj: JSON) -> list[JSON]:
        return pod_columns.row_conditions(obj)

    def deletion_grace(self, obj: JSON, options: JSON) -> int | None:
        """Seconds; 0 for pods that no kubelet runs, at least 0 whatever was asked."""
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
            return 0
        asked = options.get("gracePeriodSeconds")
        period = spec.get("terminationGracePeriodSeconds", 0) if asked is None else asked
        return 1 if period < 0 else int(period)


class PodTemplates(Plain):
    """PodTemplates."""

    generation_of = ("template",)

    def fill(self, obj: JSON) -> None:
        pod_defaults.template(obj.setdefault("template", {}))

    def validate(self, obj: JSON) -> field.Errors:
        return validate_pod.template("template", obj.get("template") or {})
