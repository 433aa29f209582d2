"""The strategies of Namespaces and Nodes. Owns their defaults, rules and tables. Must not know their controllers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import (
    addresses,
    columns,
    field,
    metadata,
    names,
    quantities,
    validate_scheduling,
)
from controlplane.apiserver.registry.columns import Column, wide
from controlplane.apiserver.registry.strategy import JSON, Plain

FINALIZER = "kubernetes"
NAME_LABEL = "kubernetes.io/metadata.name"
_ROLE_PREFIX, _ROLE = "node-role.kubernetes.io/", "kubernetes.io/role"


class Namespaces(Plain):
    """Namespaces."""

    columns: tuple[Column, ...] = (columns.NAME, Column("Status", "Active or Terminating."), columns.AGE)
    name_rule = staticmethod(names.dns_label)

    def fill(self, obj: JSON) -> None:
        self._label(obj)

    @staticmethod
    def _label(obj: JSON) -> None:
        meta = obj.setdefault("metadata", {})
        if meta.get("name"):
            meta.setdefault("labels", {})[NAME_LABEL] = meta["name"]

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        self._label(obj)
        obj["status"] = {"phase": "Active"}
        spec = obj.setdefault("spec", {})
        finalizers = spec.get("finalizers") or []
        spec["finalizers"] = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        super().prepare_update(obj, old)
        self._label(obj)
        spec, before = obj.setdefault("spec", {}), old.get("spec") or {}
        if "finalizers" in before:
            spec["finalizers"] = before["finalizers"]
        else:
            spec.pop("finalizers", None)

    def validate(self, obj: JSON) -> field.Errors:
        return finalizers("spec.finalizers", (obj.get("spec") or {}).get("finalizers") or [])

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        errors = super().validate_status(obj, old)
        phase = (obj.get("status") or {}).get("phase") or ""
        if (obj.get("metadata") or {}).get("deletionTimestamp"):
            legal, empty = "Terminating", "is not empty"
        else:
            legal, empty = "Active", "is empty"
        if phase != legal:
            why = f"may only be '{legal}' if `deletionTimestamp` {empty}"
            errors.append(field.invalid("status.Phase", phase, why))
        return errors

    def field_values(self, obj: JSON) -> dict[str, str]:
        name = (obj.get("metadata") or {}).get("name") or ""
        return {"status.phase": (obj.get("status") or {}).get("phase") or "", "name": name}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), (obj.get("status") or {}).get("phase") or "", columns.age(obj, now)]


def finalizers(path: str, values: list[str]) -> field.Errors:
    """Faults of a namespace's own finalizers."""
    errors: field.Errors = []
    for name in values:
        errors += field.invalids(path, name, names.qualified_name(name)) + metadata.standard_finalizer(path, name)
    return errors


class Nodes(Plain):
    """Nodes."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Status", "Whether the node takes pods."),
        Column("Roles", "Roles, from the node's labels."),
        columns.AGE,
        Column("Version", "Version of the kubelet."),
        wide("Internal-IP", "Address inside the cluster."),
        wide("External-IP", "Address outside the cluster."),
        wide("OS-Image", "Operating system."),
        wide("Kernel-Version", "Version of the kernel."),
        wide("Container-Runtime", "Name and version of the container runtime."),
    )

    def prepare_create(self, obj: JSON) -> None:
        """A kubelet registers its node with its status."""
        _same_cidrs(obj.setdefault("spec", {}))

    def fill(self, obj: JSON) -> None:
        status = obj.setdefault("status", {})
        obj.setdefault("spec", {})
        for key in ("capacity", "allocatable"):
            quantities.canonical_map(status.get(key))
        if status.get("capacity") and "allocatable" not in status:
            status["allocatable"] = dict(status["capacity"])

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        super().prepare_update(obj, old)
        _same_cidrs(obj.setdefault("spec", {}))

    def validate(self, obj: JSON) -> field.Errors:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        errors = validate_scheduling.taints("metadata.taints", spec.get("taints") or ())
        for key in ("capacity", "allocatable"):
            for name, value in (status.get(key) or {}).items():
                errors += quantities.amount(f"status.{key}.{name}", name, value)
        return errors + _cidrs("spec.podCIDRs", spec.get("podCIDRs") or [])

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        errors: field.Errors = []
        if before.get("podCIDRs") and before["podCIDRs"] != (spec.get("podCIDRs") or []):
            why = 'node updates may not change podCIDR except from "" to valid'
            errors.append(field.forbidden("spec.podCIDRs", why))
        if before.get("providerID") and before["providerID"] != spec.get("providerID"):
            why = 'node updates may not change providerID except from "" to valid'
            errors.append(field.forbidden("spec.providerID", why))
        return errors

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        errors = super().validate_status(obj, old)
        seen: list[JSON] = []
        for index, address in enumerate((obj.get("status") or {}).get("addresses") or ()):
            if address in seen:
                shown = {"Type": address.get("type"), "Address": address.get("address")}
                errors.append(field.duplicate(f"status.addresses[{index}]", shown))
            seen.append(address)
        return errors

    def field_values(self, obj: JSON) -> dict[str, str]:
        return {"spec.unschedulable": "true" if (obj.get("spec") or {}).get("unschedulable") else "false"}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        info = (obj.get("status") or {}).get("nodeInfo") or {}
        return [
            columns.name(obj),
            _node_word(obj),
            ",".join(_roles(obj)) or columns.UNSET,
            columns.age(obj, now),
            info.get("kubeletVersion") or "",
            _address(obj, "InternalIP"),
            _address(obj, "ExternalIP"),
            info.get("osImage") or columns.UNKNOWN,
            info.get("kernelVersion") or columns.UNKNOWN,
            info.get("containerRuntimeVersion") or columns.UNKNOWN,
        ]


def _same_cidrs(spec: JSON) -> None:
    """`podCIDR` is always the first of `podCIDRs`."""
    if spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    elif spec.get("podCIDR"):
        spec["podCIDRs"] = [spec["podCIDR"]]


def _cidrs(path: str, values: list[str]) -> field.Errors:
    errors: field.Errors = []
    for index, text in enumerate(values):
        errors += addresses.cidr(f"{path}[{index}]", text)
    if len(values) > 1:
        if len(values) > 2 or len({":" in text for text in values}) < 2:
            errors.append(field.invalid(path, values, "may specify no more than one CIDR for each IP family"))
        errors += [
            field.duplicate(f"{path}[{index}]", text) for index, text in enumerate(values) if text in values[:index]
        ]
    return errors


def _node_word(obj: JSON) -> str:
    ready = [item for item in (obj.get("status") or {}).get("conditions") or () if item.get("type") == "Ready"]
    words = [("Ready" if item.get("status") == "True" else "NotReady") for item in ready] or ["Unknown"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(obj: JSON) -> list[str]:
    found = set()
    for key, value in ((obj.get("metadata") or {}).get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            found.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE and value:
            found.add(value)
    return sorted(found)


def _address(obj: JSON, kind: str) -> str:
    for item in (obj.get("status") or {}).get("addresses") or ():
        if item.get("type") == kind:
            return str(item.get("address") or "")
    return columns.UNSET
