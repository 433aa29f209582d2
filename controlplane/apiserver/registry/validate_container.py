"""Containers of pods: regular, init and ephemeral. Owns their rules. Must not know pods as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.apiserver.registry import (
    field,
    names,
    quantities,
    validate_env,
    validate_mount,
    validate_probe,
    validate_security,
    validate_volume,
)
from controlplane.apiserver.registry.field import JSON

PROTOCOLS = ("SCTP", "TCP", "UDP")
RESTARTS = ("Always", "Never", "OnFailure")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESIZE = ("NotRequired", "RestartContainer")
_NOT_EPHEMERAL = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy")
_ONLY_SIDECAR = ("lifecycle", *validate_probe.PROBES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the rules of a container need of its pod."""

    volumes: Mapping[str, JSON]
    claims: frozenset[str]
    grace: int | None
    restart_policy: str
    host_users: bool
    is_pod: bool


def regular(path: str, containers: Sequence[JSON], pod: Pod) -> field.Errors:
    """Faults of `spec.containers`."""
    if not containers:
        return [field.required(path)]
    errors: field.Errors = []
    seen: set[str] = set()
    for index, item in enumerate(containers):
        where, name = f"{path}[{index}]", item.get("name") or ""
        errors += _any(where, item, pod)
        if name in seen:
            errors.append(field.duplicate(f"{where}.name", name))
        seen.add(name)
        errors += _handlers(where, item, pod)
        errors += _restart(where, item)
    return errors + _host_ports(path, containers)


def init(path: str, containers: Sequence[JSON], others: Sequence[JSON], pod: Pod) -> field.Errors:
    """Faults of `spec.initContainers`; `others` are the regular ones."""
    errors: field.Errors = []
    seen = {item.get("name") for item in others}
    for index, item in enumerate(containers):
        where, name = f"{path}[{index}]", item.get("name") or ""
        errors += _any(where, item, pod) + _restart(where, item)
        if name in seen:
            errors.append(field.duplicate(f"{where}.name", name))
        elif name:
            seen.add(name)
        errors += _host_ports(path, [item])
        if item.get("restartPolicy") == "Always":
            errors += _handlers(where, item, pod)
        else:
            why = "may not be set for init containers without restartPolicy=Always"
            errors += [field.forbidden(f"{where}.{key}", why) for key in _ONLY_SIDECAR if key in item]
    return errors


def ephemeral(path: str, containers: Sequence[JSON], others: Sequence[JSON], pod: Pod) -> field.Errors:
    """Faults of `spec.ephemeralContainers`; `others` are the regular and init ones."""
    errors: field.Errors = []
    targets = {item.get("name") for item in others}
    seen = set(targets)
    why = "cannot be set for an Ephemeral Container"
    for index, item in enumerate(containers):
        where, name = f"{path}[{index}]", item.get("name") or ""
        errors += _any(where, item, pod) + image_space(where, item)
        if name in seen:
            errors.append(field.duplicate(f"{where}.name", name))
        seen.add(name)
        target = item.get("targetContainerName")
        if target and target not in targets:
            errors.append(field.not_found(f"{where}.targetContainerName", target))
        errors += [field.forbidden(f"{where}.{key}", why) for key in _NOT_EPHEMERAL if item.get(key)]
        if any((item.get("resources") or {}).values()):
            errors.append(field.forbidden(f"{where}.resources", why))
        for number, mount in enumerate(item.get("volumeMounts") or ()):
            spot = f"{where}.volumeMounts[{number}]"
            errors += [field.forbidden(f"{spot}.{key}", why) for key in ("subPath", "subPathExpr") if mount.get(key)]
    return errors


def image_space(path: str, item: JSON) -> field.Errors:
    """Blanks around an image's name are refused in pods, tolerated in templates."""
    image = item.get("image") or ""
    if image == image.strip():
        return []
    return [field.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")]


def _any(path: str, item: JSON, pod: Pod) -> field.Errors:
    errors: field.Errors = []
    name = item.get("name") or ""
    if not name:
        errors.append(field.required(f"{path}.name"))
    elif faults := names.dns_label(name):
        errors += field.invalids(f"{path}.name", name, faults)
    if not item.get("image"):
        errors.append(field.required(f"{path}.image"))
    policy = item.get("terminationMessagePolicy") or ""
    if policy not in _MESSAGE_POLICIES:
        where = f"{path}.terminationMessagePolicy"
        errors.append(field.unsupported(where, policy, _MESSAGE_POLICIES) if policy else field.required(where))
    if found := item.get("ports"):
        errors += ports(f"{path}.ports", found)
    if found := item.get("env"):
        errors += validate_env.variables(f"{path}.env", found)
    if found := item.get("envFrom"):
        errors += validate_env.sources(f"{path}.envFrom", found)
    if "volumeMounts" in item:
        errors += validate_mount.mounts(f"{path}.volumeMounts", item, pod.volumes)
    if "volumeDevices" in item:
        errors += validate_mount.devices(f"{path}.volumeDevices", item, pod.volumes)
    errors += validate_volume.pull_policy(f"{path}.imagePullPolicy", item.get("imagePullPolicy"))
    if resources := item.get("resources"):
        errors += quantities.requirements(f"{path}.resources", resources, claims=pod.claims)
    if found := item.get("resizePolicy"):
        errors += _resize(f"{path}.resizePolicy", found, pod.restart_policy)
    if (context := item.get("securityContext")) is not None:
        errors += validate_security.container(f"{path}.securityContext", context, host_users=pod.host_users)
    return errors


def _handlers(path: str, item: JSON, pod: Pod) -> field.Errors:
    errors: field.Errors = []
    if (found := item.get("lifecycle")) is not None:
        errors += validate_probe.lifecycle(f"{path}.lifecycle", found, grace=pod.grace)
    return errors + validate_probe.probes(path, item, grace=pod.grace)


def _restart(path: str, item: JSON) -> field.Errors:
    policy, rules = item.get("restartPolicy"), item.get("restartPolicyRules") or ()
    errors: field.Errors = []
    if policy is not None and policy not in RESTARTS:
        errors.append(field.unsupported(f"{path}.restartPolicy", policy, RESTARTS))
    if rules and policy is None:
        errors.append(field.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > 20:
        errors.append(field.too_many(f"{path}.restartPolicyRules", len(rules), 20))
    for index, rule in enumerate(rules):
        errors += _restart_rule(f"{path}.restartPolicyRules[{index}]", rule)
    return errors


def _restart_rule(path: str, rule: JSON) -> field.Errors:
    errors: field.Errors = []
    actions = ("Restart", "RestartAllContainers")
    if rule.get("action") not in actions:
        errors.append(field.unsupported(f"{path}.action", rule.get("action") or "", actions))
    codes = rule.get("exitCodes")
    if codes is None:
        return [*errors, field.required(f"{path}.exitCodes", "must be specified")]
    if codes.get("operator") not in ("In", "NotIn"):
        errors.append(field.unsupported(f"{path}.exitCodes.operator", codes.get("operator") or "", ("In", "NotIn")))
    if len(codes.get("values") or ()) > 255:
        errors.append(field.too_many(f"{path}.exitCodes.values", len(codes["values"]), 255))
    return errors


def ports(path: str, values: Sequence[JSON]) -> field.Errors:
    """Faults of a container's ports."""
    errors: field.Errors = []
    seen: set[str] = set()
    for index, port in enumerate(values):
        where, name = f"{path}[{index}]", port.get("name") or ""
        if name:
            if faults := names.port_name(name):
                errors += field.invalids(f"{where}.name", name, faults)
            elif name in seen:
                errors.append(field.duplicate(f"{where}.name", name))
            seen.add(name)
        number = port.get("containerPort") or 0
        if number == 0:
            errors.append(field.required(f"{where}.containerPort"))
        elif faults := names.port_number(number):
            errors += field.invalids(f"{where}.containerPort", number, faults)
        if host := port.get("hostPort"):
            errors += field.invalids(f"{where}.hostPort", host, names.port_number(host))
        protocol = port.get("protocol") or ""
        if protocol not in PROTOCOLS:
            where += ".protocol"
            errors.append(field.unsupported(where, protocol, PROTOCOLS) if protocol else field.required(where))
    return errors


def _host_ports(path: str, containers: Sequence[JSON]) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, item in enumerate(containers):
        for number, port in enumerate(item.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in seen:
                errors.append(field.duplicate(f"{path}[{index}].ports[{number}].hostPort", key))
            seen.add(key)
    return errors


def _resize(path: str, policies: Sequence[JSON], restart: str) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, item in enumerate(policies):
        name, policy = item.get("resourceName") or "", item.get("restartPolicy") or ""
        if name in seen:
            errors.append(field.duplicate(f"{path}[{index}]", name))
        seen.add(name)
        if name not in ("cpu", "memory"):
            errors.append(field.unsupported(path, name, ("cpu", "memory")) if name else field.required(path))
        if policy not in _RESIZE:
            errors.append(field.unsupported(path, policy, _RESIZE) if policy else field.required(path))
        if restart == "Never" and policy != "NotRequired":
            why = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(field.invalid(path, policy, why))
    return errors
