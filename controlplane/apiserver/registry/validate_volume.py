"""Volumes of pods. Owns the rules of every source. Must not know mounts or contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from controlplane.apiserver.registry import field, names, validate_env, validate_mount
from controlplane.apiserver.registry.field import JSON
from kube import quantity

MODE = "must be a number between 0 and 0777 (octal), both inclusive"
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_HOST_PATHS = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")

_ORDER = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
]


def volumes(path: str, values: Iterable[JSON], *, pod: str = "") -> tuple[dict[str, JSON], field.Errors]:
    """(valid volumes by name, faults); `pod` is the pod's name where there is one."""
    found: dict[str, JSON] = {}
    errors: field.Errors = []
    created = {f"{pod}-{item.get('name')}" for item in values if pod and "ephemeral" in item}
    for index, item in enumerate(values):
        where, name = f"{path}[{index}]", item.get("name") or ""
        faults = source(where, item, pod=pod)
        if not name:
            faults.append(field.required(f"{where}.name"))
        elif bad := names.dns_label(name):
            faults += field.invalids(f"{where}.name", name, bad)
        if name in found:
            faults.append(field.duplicate(f"{where}.name", name))
        if faults:
            errors += faults
        else:
            found[name] = item
        claim = (item.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and claim in created:
            why = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(field.invalid(f"{where}.persistentVolumeClaim.claimName", claim, why))
    return found, errors


def source(path: str, item: JSON, *, pod: str = "") -> field.Errors:
    """Faults of a volume's source: exactly one of them."""
    errors: field.Errors = []
    found = [key for key in item if key != "name"]
    if len(found) > 1:
        found.sort(key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    for count, key in enumerate(found):
        if count:
            errors.append(field.forbidden(f"{path}.{key}", "may not specify more than 1 volume type"))
        elif check := _BY_SOURCE.get(key):
            errors += check(f"{path}.{key}", item[key])
    if not found:
        errors.append(field.required(path, "must specify a volume type"))
    if pod and "ephemeral" in item and item.get("name"):
        claim = f"{pod}-{item['name']}"
        faults = (f'PVC name "{claim}": {fault}' for fault in names.dns_subdomain(claim))
        errors += field.invalids(f"{path}.name", item["name"], faults)
    return errors


def mode(path: str, value: int | None) -> field.Errors:
    """Faults of file permissions."""
    return [] if value is None or 0 <= value <= 0o777 else [field.invalid(path, value, MODE)]


def pull_policy(path: str, value: str | None) -> field.Errors:
    """Faults of an image pull policy."""
    if value in PULL_POLICIES:
        return []
    return [field.unsupported(path, value, PULL_POLICIES) if value else field.required(path)]


def _needs(*keys: str) -> Callable[[str, JSON], field.Errors]:
    def check(path: str, value: JSON) -> field.Errors:
        return [field.required(f"{path}.{key}") for key in keys if not value.get(key)]

    return check


def _empty_dir(path: str, value: JSON) -> field.Errors:
    size = value.get("sizeLimit")
    if size is not None and quantity.parse(size).nano < 0:
        return [field.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _host_path(path: str, value: JSON) -> field.Errors:
    target = value.get("path") or ""
    if not target:
        return [field.required(f"{path}.path")]
    errors = validate_mount.no_backsteps(f"{path}.path", target)
    if value.get("type", "") not in _HOST_PATHS:
        errors.append(field.unsupported(f"{path}.type", value["type"], _HOST_PATHS))
    return errors


def _keyed(name: str) -> Callable[[str, JSON], field.Errors]:
    def check(path: str, value: JSON) -> field.Errors:
        errors = [] if value.get(name) else [field.required(f"{path}.{name}")]
        return errors + mode(f"{path}.defaultMode", value.get("defaultMode")) + _items(f"{path}.items", value)

    return check


def _items(path: str, value: JSON) -> field.Errors:
    errors: field.Errors = []
    for index, item in enumerate(value.get("items") or ()):
        where, target = f"{path}[{index}]", item.get("path") or ""
        if not item.get("key"):
            errors.append(field.required(f"{where}.key"))
        if not target:
            errors.append(field.required(f"{where}.path"))
        errors += validate_mount.not_reserved(f"{where}.path", target)
        errors += mode(f"{where}.mode", item.get("mode"))
    return errors


def _downward(path: str, value: JSON) -> field.Errors:
    errors = mode(f"{path}.defaultMode", value.get("defaultMode"))
    for item in value.get("items") or ():
        errors += _downward_file(path, item)
    return errors


def _downward_file(path: str, item: JSON) -> field.Errors:
    target, errors = item.get("path") or "", field.Errors()
    if not target:
        errors.append(field.required(f"{path}.path"))
    errors += validate_mount.not_reserved(f"{path}.path", target)
    if "fieldRef" in item:
        errors += validate_env.object_field(f"{path}.fieldRef", item["fieldRef"], validate_env.VOLUME_FIELDS)
        if "resourceFieldRef" in item:
            why = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(field.invalid(path, "resource", why))
    elif "resourceFieldRef" in item:
        errors += validate_env.resource_field(f"{path}.resourceFieldRef", item["resourceFieldRef"], volume=True)
    else:
        errors.append(field.required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + mode(f"{path}.mode", item.get("mode"))


def _projected(path: str, value: JSON) -> field.Errors:
    errors = mode(f"{path}.defaultMode", value.get("defaultMode"))
    taken: set[str] = set()
    for index, part in enumerate(value.get("sources") or ()):
        where = f"{path}.sources[{index}]"
        for name in ("secret", "configMap"):
            if name in part:
                errors += _projected_keys(path, f"{where}.{name}", part[name], taken)
        if "downwardAPI" in part:
            for item in part["downwardAPI"].get("items") or ():
                errors += _downward_file(f"{where}.downwardAPI", item)
                errors += _taken(path, item.get("path") or "", taken)
        if "serviceAccountToken" in part:
            errors += _token(path, f"{where}.serviceAccountToken", part["serviceAccountToken"])
        if "clusterTrustBundle" in part:
            errors += _trust_bundle(path, f"{where}.clusterTrustBundle", part["clusterTrustBundle"], taken)
        if len(part) > 1:
            errors.append(field.forbidden(where, "may not specify more than 1 volume type per source"))
    return errors


def _projected_keys(path: str, where: str, value: JSON, taken: set[str]) -> field.Errors:
    name = value.get("name") or ""
    errors = [] if name else [field.required(f"{where}.name")]
    errors += _items(f"{where}.items", value)
    for item in value.get("items") or ():
        errors += _taken(path, item.get("path") or "", taken, shown=name)
    return errors


def _taken(path: str, target: str, taken: set[str], *, shown: str | None = None) -> field.Errors:
    if not target or target not in taken:
        taken |= {target} if target else set()
        return []
    return [field.invalid(path, target if shown is None else shown, "conflicting duplicate paths")]


def _token(path: str, where: str, value: JSON) -> field.Errors:
    seconds, target = value.get("expirationSeconds") or 0, value.get("path") or ""
    errors: field.Errors = []
    if seconds < 600:
        why = "may not specify a duration less than 10 minutes"
        errors.append(field.invalid(f"{where}.expirationSeconds", seconds, why))
    if seconds > 1 << 32:
        why = "may not specify a duration larger than 2^32 seconds"
        errors.append(field.invalid(f"{where}.expirationSeconds", seconds, why))
    if not target:
        return [*errors, field.required(f"{path}.path")]
    return errors + validate_mount.not_reserved(f"{path}.path", target)


def _trust_bundle(path: str, where: str, value: JSON, taken: set[str]) -> field.Errors:
    errors: field.Errors = []
    if "name" in value and "signerName" in value:
        errors.append(field.invalid(where, value, "only one of name and signerName may be used"))
    elif "name" not in value and "signerName" not in value:
        errors.append(field.required(where, "either name or signerName must be specified"))
    target = value.get("path") or ""
    if not target:
        errors.append(field.required(f"{where}.path"))
    return errors + validate_mount.not_reserved(f"{where}.path", target) + _taken(path, target, taken)


def _image(path: str, value: JSON) -> field.Errors:
    errors = [] if value.get("reference") else [field.required(f"{path}.reference")]
    return errors + pull_policy(f"{path}.pullPolicy", value.get("pullPolicy"))


def _nfs(path: str, value: JSON) -> field.Errors:
    errors = _needs("server", "path")(path, value)
    if not (value.get("path") or "").startswith("/"):
        errors.append(field.invalid(f"{path}.path", value.get("path") or "", "must be an absolute path"))
    return errors


def _git_repo(path: str, value: JSON) -> field.Errors:
    return _needs("repository")(path, value) + validate_mount.descending(
        f"{path}.directory", value.get("directory") or ""
    )


def _ephemeral(path: str, value: JSON) -> field.Errors:
    template = value.get("volumeClaimTemplate")
    if template is None:
        return [field.required(f"{path}.volumeClaimTemplate")]
    spec, where = template.get("spec") or {}, f"{path}.volumeClaimTemplate.spec"
    errors: field.Errors = []
    if not spec.get("accessModes"):
        errors.append(field.required(f"{where}.accessModes", "at least 1 access mode is required"))
    if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
        errors.append(field.required(f"{where}.resources[storage]"))
    return errors


_BY_SOURCE: Mapping[str, Callable[[str, JSON], field.Errors]] = MappingProxyType(
    {
        "azureFile": _needs("secretName", "shareName"),
        "cephfs": _needs("monitors"),
        "cinder": _needs("volumeID"),
        "configMap": _keyed("name"),
        "csi": _needs("driver"),
        "downwardAPI": _downward,
        "emptyDir": _empty_dir,
        "ephemeral": _ephemeral,
        "flexVolume": _needs("driver"),
        "gitRepo": _git_repo,
        "glusterfs": _needs("endpoints", "path"),
        "hostPath": _host_path,
        "image": _image,
        "iscsi": _needs("targetPortal", "iqn"),
        "nfs": _nfs,
        "persistentVolumeClaim": _needs("claimName"),
        "projected": _projected,
        "rbd": _needs("monitors", "image"),
        "scaleIO": _needs("gateway", "system", "volumeName"),
        "secret": _keyed("secretName"),
        "vsphereVolume": _needs("volumePath"),
    }
)
