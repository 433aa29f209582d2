"""The strategies of volumes, claims and storage classes. Owns their defaults, first status and tables.

Must not know binding or drivers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, names, quantities, selectors, volume_defaults
from controlplane.apiserver.registry.columns import Column, wide
from controlplane.apiserver.registry.strategy import JSON, Plain
from kube import quantity

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_SHORT = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_RECLAIM = ("Delete", "Recycle", "Retain")
_MODES = ("Block", "Filesystem")
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_UNSET = "<unset>"
_IN_USE = "kubernetes.io/pvc-protection"
"""The finalizer that keeps a claim while pods use it; a controller takes it away."""


def access_text(modes: list[str] | None) -> str:
    """Access modes in their short form, in upstream's order, each once."""
    return ",".join(short for mode, short in _SHORT.items() if mode in (modes or ()))


def _access(path: str, modes: list[str]) -> field.Errors:
    errors = [] if modes else [field.required(path, "at least 1 access mode is required")]
    errors += [field.unsupported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(set(modes) & set(ACCESS_MODES)) > 1:
        errors.append(field.forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def _claim_word(obj: JSON, phase: str) -> str:
    return "Terminating" if (obj.get("metadata") or {}).get("deletionTimestamp") else phase


class PersistentVolumes(Plain):
    """PersistentVolumes."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Capacity", "Size of the volume."),
        Column("Access Modes", "How it may be mounted."),
        Column("Reclaim Policy", "What becomes of it when its claim goes."),
        Column("Status", "Whether it is bound."),
        Column("Claim", "The claim it is bound to."),
        Column("StorageClass", "Class it belongs to."),
        Column("VolumeAttributesClass", "Attributes class it belongs to."),
        Column("Reason", "Why it is in this state."),
        columns.AGE,
        wide("VolumeMode", "File system or block device."),
    )

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        quantities.canonical_map(spec.get("capacity"))
        spec["persistentVolumeReclaimPolicy"] = spec.get("persistentVolumeReclaimPolicy") or "Retain"
        spec.setdefault("volumeMode", "Filesystem")
        volume_defaults.volume({"name": "", **spec})

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = _access("spec.accessModes", spec.get("accessModes") or [])
        capacity = spec.get("capacity") or {}
        if not capacity:
            errors.append(field.required("spec.capacity"))
        elif list(capacity) != ["storage"]:
            errors.append(field.unsupported("spec.capacity", capacity, ("storage",)))
        elif quantity.parse(capacity["storage"]).nano <= 0:
            errors.append(field.invalid("spec.capacity[storage]", capacity["storage"], field.NOT_POSITIVE))
        policy = spec.get("persistentVolumeReclaimPolicy") or ""
        if policy not in _RECLAIM:
            errors.append(field.unsupported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM))
        return errors + _class_and_mode(spec)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        claim = spec.get("claimRef") or {}
        return [
            columns.name(obj),
            (spec.get("capacity") or {}).get("storage") or "0",
            access_text(spec.get("accessModes")),
            spec.get("persistentVolumeReclaimPolicy") or "",
            _claim_word(obj, status.get("phase") or ""),
            f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
            spec.get("storageClassName") or "",
            spec.get("volumeAttributesClassName") or _UNSET,
            status.get("reason") or "",
            columns.age(obj, now),
            spec.get("volumeMode") or _UNSET,
        ]


def _class_and_mode(spec: JSON) -> field.Errors:
    errors: field.Errors = []
    if name := spec.get("storageClassName"):
        errors += field.invalids("spec.storageClassName", name, names.dns_subdomain(name))
    mode = spec.get("volumeMode")
    if mode is not None and mode not in _MODES:
        errors.append(field.unsupported("spec.volumeMode", mode, _MODES))
    return errors


class PersistentVolumeClaims(Plain):
    """PersistentVolumeClaims."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Status", "Whether it is bound."),
        Column("Volume", "The volume it is bound to."),
        Column("Capacity", "Size of that volume."),
        Column("Access Modes", "How it may be mounted."),
        Column("StorageClass", "Class it asks for."),
        Column("VolumeAttributesClass", "Attributes class it asks for."),
        columns.AGE,
        wide("VolumeMode", "File system or block device."),
    )

    def fill(self, obj: JSON) -> None:
        volume_defaults.claim_spec(obj.setdefault("spec", {}))

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"phase": "Pending"}
        finalizers = obj["metadata"].setdefault("finalizers", [])
        if _IN_USE not in finalizers:
            finalizers.append(_IN_USE)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = _access("spec.accessModes", spec.get("accessModes") or [])
        errors += selectors.selector("spec.selector", spec.get("selector"))
        size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if size is None:
            errors.append(field.required("spec.resources[storage]"))
        elif quantity.parse(size).nano <= 0:
            errors.append(field.invalid("spec.resources[storage]", size, field.NOT_POSITIVE))
        return errors + _class_and_mode(spec)

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        spec, before = dict(obj.get("spec") or {}), dict(old.get("spec") or {})
        bound = (old.get("status") or {}).get("phase") == "Bound"
        if not before.get("volumeName"):
            before["volumeName"] = spec.get("volumeName")
        if "storageClassName" not in before:
            before["storageClassName"] = spec.get("storageClassName")
        if bound:
            for part in (spec, before):
                part.pop("resources", None)
                part.pop("volumeAttributesClassName", None)
        errors: field.Errors = []
        if {k: v for k, v in spec.items() if v is not None} != {k: v for k, v in before.items() if v is not None}:
            why = "spec is immutable after creation except resources.requests and volumeAttributesClassName "
            errors.append(field.forbidden("spec", why + "for bound claims\n"))
        return errors + field.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        bound = bool(spec.get("volumeName"))
        return [
            columns.name(obj),
            _claim_word(obj, status.get("phase") or ""),
            spec.get("volumeName") or "",
            ((status.get("capacity") or {}).get("storage") or "0") if bound else "",
            access_text(status.get("accessModes")) if bound else "",
            spec.get("storageClassName") or "",
            spec.get("volumeAttributesClassName") or _UNSET,
            columns.age(obj, now),
            spec.get("volumeMode") or _UNSET,
        ]


class StorageClasses(Plain):
    """StorageClasses."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Provisioner", "Who makes volumes of this class."),
        Column("ReclaimPolicy", "What becomes of a volume when its claim goes."),
        Column("VolumeBindingMode", "When a claim is bound."),
        Column("AllowVolumeExpansion", "Whether volumes may grow.", type="boolean"),
        columns.AGE,
    )

    def fill(self, obj: JSON) -> None:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: JSON) -> field.Errors:
        return [] if obj.get("provisioner") else [field.required("provisioner")]

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        errors: field.Errors = []
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            errors.append(field.forbidden("parameters", "updates to parameters are forbidden."))
        if obj.get("provisioner") != old.get("provisioner"):
            errors.append(field.forbidden("provisioner", "updates to provisioner are forbidden."))
        if obj.get("reclaimPolicy") != old.get("reclaimPolicy"):
            errors.append(field.forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
        return errors + field.immutable("volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        marked = ((obj.get("metadata") or {}).get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
        return [
            columns.name(obj) + (" (default)" if marked else ""),
            obj.get("provisioner") or "",
            obj.get("reclaimPolicy") or "Delete",
            obj.get("volumeBindingMode") or "Immediate",
            bool(obj.get("allowVolumeExpansion")),
            columns.age(obj, now),
        ]


class CSIDrivers(Plain):
    """CSIDrivers."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("AttachRequired", "Whether volumes are attached first.", type="boolean"),
        Column("PodInfoOnMount", "Whether the driver is told about the pod.", type="boolean"),
        Column("StorageCapacity", "Whether the scheduler asks for capacity.", type="boolean"),
        Column("TokenRequests", "Audiences of the tokens it gets."),
        Column("RequiresRepublish", "Whether it is called again and again.", type="boolean"),
        Column("Modes", "Persistent or ephemeral volumes."),
        columns.AGE,
    )

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        defaults = (("attachRequired", True), ("podInfoOnMount", False), ("storageCapacity", False))
        more = (("fsGroupPolicy", "ReadWriteOnceWithFSType"), ("requiresRepublish", False), ("seLinuxMount", False))
        for key, value in (*defaults, *more):
            spec.setdefault(key, value)
        spec["volumeLifecycleModes"] = spec.get("volumeLifecycleModes") or ["Persistent"]

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        tokens = ",".join(item.get("audience") or "" for item in spec.get("tokenRequests") or ())
        return [
            columns.name(obj),
            bool(spec.get("attachRequired", True)),
            bool(spec.get("podInfoOnMount")),
            bool(spec.get("storageCapacity")),
            tokens or _UNSET,
            bool(spec.get("requiresRepublish")),
            ",".join(spec.get("volumeLifecycleModes") or ()) or columns.UNSET,
            columns.age(obj, now),
        ]


class CSINodes(Plain):
    """CSINodes."""

    columns: tuple[Column, ...] = (columns.NAME, columns.count("Drivers", "Number of drivers."), columns.AGE)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), len((obj.get("spec") or {}).get("drivers") or ()), columns.age(obj, now)]
