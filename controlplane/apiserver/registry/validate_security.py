"""Security contexts of pods and containers. Owns their rules. Must not know what the node does with them."""

from __future__ import annotations

import re
from typing import Any

from controlplane.apiserver.registry import field, names, validate_mount
from controlplane.apiserver.registry.field import JSON

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_MEMBERS = (
    "Capabilities",
    "Privileged",
    "SELinuxOptions",
    "WindowsOptions",
    "RunAsUser",
    "RunAsGroup",
    "RunAsNonRoot",
    "ReadOnlyRootFilesystem",
    "AllowPrivilegeEscalation",
    "ProcMount",
    "SeccompProfile",
    "AppArmorProfile",
)
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_POLICIES = {
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    "seLinuxChangePolicy": ("MountOption", "Recursive"),
}


def container(path: str, context: JSON, *, host_users: bool) -> field.Errors:
    """Faults of a container's security context."""
    errors = _ids(path, context, ("runAsUser", "runAsGroup"))
    if (mount := context.get("procMount")) is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(field.unsupported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            why = "`hostUsers` must be false to use `Unmasked`"
            errors.append(field.invalid(f"{path}.procMount", mount, why))
    errors += seccomp(f"{path}.seccompProfile", context.get("seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        errors += _no_escalation(path, context)
    return errors + app_armor(f"{path}.appArmorProfile", context.get("appArmorProfile"))


def _no_escalation(path: str, context: JSON) -> field.Errors:
    errors: field.Errors = []
    why = "cannot set `allowPrivilegeEscalation` to false and "
    if context.get("privileged"):
        errors.append(field.invalid(path, _shown(context), f"{why}`privileged` to true"))
    if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
        errors.append(field.invalid(path, _shown(context), f"{why}`capabilities.Add` CAP_SYS_ADMIN"))
    return errors


def _shown(context: JSON) -> JSON:
    """A container's security context as upstream's messages show it: every member, by its internal name."""
    return {key: _renamed(context.get(key[0].lower() + key[1:])) for key in _MEMBERS} | {
        "SELinuxOptions": _renamed(context.get("seLinuxOptions"))
    }


def _renamed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key[0].upper() + key[1:]: item for key, item in value.items()}


def _ids(path: str, context: JSON, keys: tuple[str, ...]) -> field.Errors:
    errors: field.Errors = []
    for key in keys:
        if (value := context.get(key)) is not None:
            errors += field.invalids(f"{path}.{key}", value, names.unix_id(value))
    return errors


def seccomp(path: str, profile: JSON | None) -> field.Errors:
    """Faults of a seccomp profile."""
    if profile is None:
        return []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    errors = _profile_type(path, kind, "type is required when seccompProfile is set")
    if kind == "Localhost":
        if local is None:
            errors.append(field.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost"))
        else:
            errors += validate_mount.descending(f"{path}.localhostProfile", local)
    elif local is not None:
        why = "can only be set when seccomp type is Localhost"
        shown = {"Type": kind, "LocalhostProfile": local}
        errors.append(field.invalid(f"{path}.localhostProfile", shown, why))
    return errors


def app_armor(path: str, profile: JSON | None) -> field.Errors:
    """Faults of an AppArmor profile."""
    if profile is None:
        return []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if kind == "Localhost":
        return _local_profile(f"{path}.localhostProfile", local)
    errors = _profile_type(path, kind, "type is required when appArmorProfile is set")
    if not errors and local is not None:
        why = "can only be set when AppArmor type is Localhost"
        errors.append(field.invalid(f"{path}.localhostProfile", local, why))
    return errors


def _local_profile(path: str, local: str | None) -> field.Errors:
    if not local:
        return [field.required(path, "must be set when AppArmor type is Localhost")]
    if local != local.strip():
        return [field.invalid(path, local, "must not be padded with whitespace")]
    return [field.too_long(path, 4095)] if len(local) > 4095 else []


def _profile_type(path: str, kind: str, missing: str) -> field.Errors:
    if kind in _PROFILES:
        return []
    return [field.unsupported(f"{path}.type", kind, _PROFILES) if kind else field.required(f"{path}.type", missing)]


def pod(path: str, context: JSON, spec: JSON) -> field.Errors:
    """Faults of a pod's security context."""
    if not context:
        return []
    errors = _ids(path, context, ("fsGroup", "runAsUser", "runAsGroup"))
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        errors += field.invalids(f"{path}.supplementalGroups[{index}]", group, names.unix_id(group))
    errors += _sysctls(f"{path}.sysctls", context.get("sysctls") or (), spec)
    for key, allowed in _POLICIES.items():
        if key in context and context[key] not in allowed:
            errors.append(field.unsupported(f"{path}.{key}", context[key], allowed))
    errors += seccomp(f"{path}.seccompProfile", context.get("seccompProfile"))
    return errors + app_armor(f"{path}.appArmorProfile", context.get("appArmorProfile"))


def _sysctls(path: str, values: Any, spec: JSON) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, item in enumerate(values):
        where, name = f"{path}[{index}].name", item.get("name") or ""
        if not name:
            errors.append(field.required(where))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            pattern = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            why = f"must have at most 253 characters and match regex {pattern}"
            errors.append(field.invalid(where, name, why))
        elif name in seen:
            errors.append(field.duplicate(where, name))
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(field.invalid(where, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and (dotted.startswith(_IPC_SYSCTLS) or dotted == "kernel.sem"):
            errors.append(field.invalid(where, name, "may not be specified when 'hostIPC' is true"))
    return errors


def host_users(path: str, spec: JSON) -> field.Errors:
    """A pod with users of its own shares no other namespace with the host."""
    if spec.get("hostUsers", True):
        return []
    why = "when `hostUsers` is false"
    return [field.forbidden(f"{path}.{key}", why) for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
