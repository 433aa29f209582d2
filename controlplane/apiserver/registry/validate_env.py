"""Environment variables of containers. Owns their rules. Must not know how values are resolved."""

from __future__ import annotations

import re
from collections.abc import Iterable

from controlplane.apiserver.registry import field, names
from controlplane.apiserver.registry.field import JSON
from kube import quantity

_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_KNOWN = frozenset((*_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"))
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE = ("requests.hugepages-", "limits.hugepages-")
_SIZES = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
_SUBSCRIPTED = re.compile(r"(.*)\['(.*)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def variables(path: str, values: Iterable[JSON]) -> field.Errors:
    """Faults of a container's `env`."""
    errors: field.Errors = []
    for index, item in enumerate(values):
        name = item.get("name") or ""
        if not name:
            errors.append(field.required(f"{path}[{index}].name"))
        elif faults := names.env_name(name):
            errors += field.invalids(f"{path}[{index}].name", name, faults)
        if (source := item.get("valueFrom")) is not None:
            errors += _source(f"{path}[{index}].valueFrom", source, item.get("value") or "")
    return errors


def _source(path: str, source: JSON, value: str) -> field.Errors:
    errors: field.Errors = []
    found = [name for name in _SOURCES if name in source]
    for name in found:
        errors += _reference(f"{path}.{name}", name, source[name])
    if not found:
        listed = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(field.invalid(path, "", f"must specify one of: {listed}"))
    elif value:
        errors.append(field.invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(found) > 1:
        errors.append(field.invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _reference(path: str, name: str, value: JSON) -> field.Errors:
    if name == "fieldRef":
        return object_field(path, value, _FIELDS)
    if name == "resourceFieldRef":
        return resource_field(path, value, volume=False)
    if name == "fileKeyRef":
        return _file_key(path, value)
    target, key = value.get("name") or "", value.get("key") or ""
    errors = field.invalids(f"{path}.name", target, names.dns_subdomain(target))
    if not key:
        return [*errors, field.required(f"{path}.key")]
    return errors + field.invalids(f"{path}.key", key, names.config_key(key))


def _file_key(path: str, value: JSON) -> field.Errors:
    errors: field.Errors = []
    for name in ("key", "volumeName", "path"):
        if not value.get(name):
            errors.append(field.required(f"{path}.{name}"))
    if key := value.get("key"):
        errors += field.invalids(f"{path}.key", key, names.env_name(key))
    if volume := value.get("volumeName"):
        errors += field.invalids(f"{path}.volumeName", volume, names.dns_label(volume))
    return errors


def object_field(path: str, reference: JSON, allowed: tuple[str, ...]) -> field.Errors:
    """Faults of a reference to a field of the pod."""
    if not reference.get("apiVersion"):
        return [field.required(f"{path}.apiVersion")]
    text = reference.get("fieldPath") or ""
    if not text:
        return [field.required(f"{path}.fieldPath")]
    if reference["apiVersion"] != "v1":
        why = f"error converting fieldPath: unsupported pod version: {reference['apiVersion']}"
        return [field.invalid(f"{path}.fieldPath", text, why)]
    if subscripted := _SUBSCRIPTED.fullmatch(text):
        return _subscript(path, text, subscripted[1], subscripted[2])
    if text not in _KNOWN:
        why = f"error converting fieldPath: field label not supported: {text}"
        return [field.invalid(f"{path}.fieldPath", text, why)]
    return [] if text in allowed else [field.unsupported(f"{path}.fieldPath", text, allowed)]


def _subscript(path: str, text: str, base: str, key: str) -> field.Errors:
    if base in ("metadata.annotations", "metadata.labels"):
        key = key.lower() if base == "metadata.annotations" else key
        return field.invalids(path, key, names.qualified_name(key))
    why = f"error converting fieldPath: field label does not support subscript: {text}"
    return [field.invalid(f"{path}.fieldPath", text, why)]


def resource_field(path: str, reference: JSON, *, volume: bool) -> field.Errors:
    """Faults of a reference to a container's limit or request; a volume must name the container."""
    name = reference.get("resource") or ""
    errors: field.Errors = []
    if volume and not reference.get("containerName"):
        errors.append(field.required(f"{path}.containerName"))
    elif not name:
        errors.append(field.required(f"{path}.resource"))
    elif name not in _RESOURCES and not name.startswith(_HUGE):
        errors.append(field.unsupported(f"{path}.resource", name, _RESOURCES))
    return errors + _divisor(path, name, reference.get("divisor") or "0")


def _divisor(path: str, name: str, text: str | int) -> field.Errors:
    divisor = str(quantity.parse(text))
    if divisor == "0":
        return []
    if name.endswith(".cpu"):
        legal, kind = "1m and 1", "the cpu resource"
        good = divisor in ("1m", "1")
    else:
        legal, kind = _SIZES, _kind(name)
        good = not kind or divisor in _SIZES.split(", ")
    if good:
        return []
    return [field.invalid(f"{path}.divisor", name, f"only divisor's values {legal} are supported with {kind}")]


def _kind(name: str) -> str:
    if name.startswith(_HUGE):
        return "the hugepages resource"
    if name.endswith(".memory"):
        return "the memory resource"
    return "the local ephemeral storage resource" if name.endswith(".ephemeral-storage") else ""


def sources(path: str, values: Iterable[JSON]) -> field.Errors:
    """Faults of a container's `envFrom`."""
    errors: field.Errors = []
    for index, item in enumerate(values):
        if prefix := item.get("prefix"):
            errors += field.invalids(f"{path}[{index}].prefix", prefix, names.env_name(prefix))
        found = [name for name in ("configMapRef", "secretRef") if name in item]
        for name in found:
            target = item[name].get("name") or ""
            where = f"{path}[{index}].{name}.name"
            if not target:
                errors.append(field.required(where))
            else:
                errors += field.invalids(where, target, names.dns_subdomain(names.without_dash(target)))
        if not found:
            errors.append(field.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(found) > 1:
            errors.append(field.invalid(path, "", "may not have more than one field specified at a time"))
    return errors
