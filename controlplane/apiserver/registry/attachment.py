"""The strategies of what storage drivers tell and are told: attachments, capacities, attribute classes.

Owns their rules and tables. Must not know drivers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, names, quantities, selectors
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import JSON, Plain

_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


class VolumeAttachments(Plain):
    """VolumeAttachments: a volume that is, or is to be, attached to a node."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Attacher", "The driver that attaches it.", format="name"),
        Column("PV", "The volume."),
        Column("Node", "The node."),
        Column("Attached", "Whether it is attached.", type="boolean"),
        columns.AGE,
    )

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"attached": False}

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        source, errors = spec.get("source") or {}, []
        for key in ("attacher", "nodeName"):
            if not spec.get(key):
                errors.append(field.required(f"spec.{key}"))
            else:
                errors += field.invalids(f"spec.{key}", spec[key], names.dns_subdomain(spec[key]))
        volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
        if volume is None and inline is None:
            errors.append(field.required("spec.source", _ONE_SOURCE))
        elif volume is not None and inline is not None:
            errors.append(field.forbidden("spec.source", _ONE_SOURCE))
        elif volume == "":
            where = "spec.source.persistentVolumeName"
            errors.append(field.required(where, "must specify non empty persistentVolumeName"))
        elif volume is not None:
            errors += field.invalids("spec.source.persistentVolumeName", volume, names.dns_subdomain(volume))
        return errors

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("spec", obj.get("spec"), old.get("spec"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        return [
            columns.name(obj),
            spec.get("attacher") or "",
            (spec.get("source") or {}).get("persistentVolumeName") or "",
            spec.get("nodeName") or "",
            bool(status.get("attached")),
            columns.age(obj, now),
        ]


class CSIStorageCapacities(Plain):
    """CSIStorageCapacities: how much of a storage class is left where."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("StorageClassName", "The class."),
        Column("Capacity", "How much is left."),
    )

    def fill(self, obj: JSON) -> None:
        for key in ("capacity", "maximumVolumeSize"):
            quantities.canonical_field(obj, key)

    def validate(self, obj: JSON) -> field.Errors:
        name = obj.get("storageClassName") or ""
        errors = selectors.selector("nodeTopology", obj.get("nodeTopology"))
        return errors + field.invalids("storageClassName", name, names.dns_subdomain(name))

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        keys = ("nodeTopology", "storageClassName")
        return [error for key in keys for error in field.immutable(key, obj.get(key), old.get(key))]

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), obj.get("storageClassName") or "", obj.get("capacity") or "<unset>"]


class VolumeAttributesClasses(Plain):
    """VolumeAttributesClasses: what may be changed of a volume while it is used."""

    columns: tuple[Column, ...] = (columns.NAME, Column("DriverName", "The driver it is for."), columns.AGE)

    def validate(self, obj: JSON) -> field.Errors:
        name = obj.get("driverName") or ""
        errors = [] if name else [field.required("driverName")]
        return errors if obj.get("parameters") else [*errors, field.required("parameters")]

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return [
            field.forbidden(key, f"updates to {key} are forbidden.")
            for key in ("driverName", "parameters")
            if (obj.get(key) or None) != (old.get(key) or None)
        ]

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), obj.get("driverName") or "", columns.age(obj, now)]
