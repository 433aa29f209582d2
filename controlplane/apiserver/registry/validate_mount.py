"""Volume mounts and block devices of containers. Owns their rules. Must not know volumes' contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controlplane.apiserver.registry import field
from controlplane.apiserver.registry.field import JSON

_PROPAGATION = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")


def mounts(path: str, container: JSON, volumes: Mapping[str, JSON]) -> field.Errors:
    """Faults of a container's `volumeMounts`; `volumes` are the pod's valid ones by name."""
    errors: field.Errors = []
    devices = {item.get("name") or "": item.get("devicePath") or "" for item in container.get("volumeDevices") or ()}
    seen: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}[{index}]"
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(field.required(f"{where}.name"))
        if name not in volumes:
            errors.append(field.not_found(f"{where}.name", name))
        if not target:
            errors.append(field.required(f"{where}.mountPath"))
        if target in seen:
            errors.append(field.invalid(f"{where}.mountPath", target, "must be unique"))
        seen.add(target)
        if name in devices:
            errors.append(field.invalid(f"{where}.name", name, "must not already exist in volumeDevices"))
        if target in devices.values():
            why = "must not already exist as a path in volumeDevices"
            errors.append(field.invalid(f"{where}.mountPath", target, why))
        errors += _details(path, where, mount, container)
    return errors


def _details(path: str, where: str, mount: JSON, container: JSON) -> field.Errors:
    errors: field.Errors = []
    for key in ("subPath", "subPathExpr"):
        value = mount.get(key)
        if not value:
            continue
        if key == "subPathExpr" and mount.get("subPath"):
            errors.append(field.invalid(f"{where}.{key}", value, "subPathExpr and subPath are mutually exclusive"))
        errors += descending(f"{path}.{key}", value)
    if (propagation := mount.get("mountPropagation")) is not None:
        errors += _propagation(f"{path}.mountPropagation", propagation, container)
    if (recursive := mount.get("recursiveReadOnly")) is not None:
        errors += _recursive(f"{path}.recursiveReadOnly", recursive, mount)
    return errors


def _propagation(path: str, value: str, container: JSON) -> field.Errors:
    errors: field.Errors = []
    if value not in _PROPAGATION:
        errors.append(field.unsupported(path, value, _PROPAGATION))
    if value == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        why = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(field.forbidden(path, why))
    return errors


def _recursive(path: str, value: str, mount: JSON) -> field.Errors:
    if value not in _RECURSIVE:
        return [field.unsupported(path, value, _RECURSIVE)]
    errors: field.Errors = []
    if value != "Disabled":
        if not mount.get("readOnly"):
            errors.append(field.forbidden(path, "may only be specified when readOnly is true"))
        if mount.get("mountPropagation", "None") != "None":
            why = "may only be specified when mountPropagation is None or not specified"
            errors.append(field.forbidden(path, why))
    return errors


def devices(path: str, container: JSON, volumes: Mapping[str, JSON]) -> field.Errors:
    """Faults of a container's `volumeDevices`."""
    errors: field.Errors = []
    mounted = {item.get("name") or "": item.get("mountPath") or "" for item in container.get("volumeMounts") or ()}
    names: set[str] = set()
    targets: set[str] = set()
    for index, device in enumerate(container.get("volumeDevices") or ()):
        where, name, target = f"{path}[{index}]", device.get("name") or "", device.get("devicePath") or ""
        errors += _device_name(f"{where}.name", name, names, volumes)
        errors += _device_path(f"{where}.devicePath", target, targets)
        if name in mounted:
            errors.append(field.invalid(f"{where}.name", name, "must not already exist in volumeMounts"))
        if target in mounted.values():
            why = "must not already exist as a path in volumeMounts"
            errors.append(field.invalid(f"{where}.devicePath", target, why))
        names |= {name} if name else set()
        targets.add(target)
    return errors


def _device_name(path: str, name: str, seen: set[str], volumes: Mapping[str, JSON]) -> field.Errors:
    errors: field.Errors = []
    if not name:
        errors.append(field.required(path))
    if name in seen:
        errors.append(field.invalid(path, name, "must be unique"))
    if name not in volumes:
        errors.append(field.not_found(path, name))
    elif not volumes[name].keys() & {"persistentVolumeClaim", "ephemeral"}:
        why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
        errors.append(field.invalid(path, name, why))
    return errors


def _device_path(path: str, target: str, seen: Iterable[str]) -> field.Errors:
    errors: field.Errors = []
    if not target:
        errors.append(field.required(path))
    if target in seen:
        errors.append(field.invalid(path, target, "must be unique"))
    if ".." in target.split("/"):
        errors.append(field.invalid(path, target, "can not contain backsteps ('..')"))
    return errors


def descending(path: str, value: str) -> field.Errors:
    """Faults of a path that must stay below where it starts."""
    errors: field.Errors = []
    if value.startswith("/"):
        errors.append(field.invalid(path, value, "must be a relative path"))
    return errors + no_backsteps(path, value)


def no_backsteps(path: str, value: str) -> field.Errors:
    """Faults of a path that may not go up."""
    return [field.invalid(path, value, "must not contain '..'")] if ".." in value.split("/") else []


def not_reserved(path: str, value: str) -> field.Errors:
    """Faults of a file name inside a volume: names that start with two dots belong to the kubelet."""
    errors = descending(path, value)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(field.invalid(path, value, "must not start with '..'"))
    return errors
