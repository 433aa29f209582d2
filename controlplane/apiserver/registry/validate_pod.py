"""Pod specs as a whole, in pods and in templates. Owns the order of the rules. Must not know updates."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.apiserver.registry import (
    addresses,
    field,
    metadata,
    names,
    pod_resources,
    quantities,
    selectors,
    validate_container,
    validate_scheduling,
    validate_security,
    validate_volume,
)
from controlplane.apiserver.registry.field import JSON

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
HOSTNAME_MAX = 64  # bytes the kernel takes
PREEMPTION = ("PreemptLowerPriority", "Never")
MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARS = 3, 32, 2048


def pod(obj: JSON) -> field.Errors:
    """Faults of a pod's annotations and spec, on create and on update."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    errors = annotation_rules("metadata.annotations", meta.get("annotations"), spec)
    errors += spec_of("spec", spec, is_pod=True, name=meta.get("name") or "")
    if not spec.get("serviceAccountName"):
        errors += _no_tokens("spec.volumes", spec.get("volumes") or ())
    for key in ("containers", "initContainers"):
        for index, item in enumerate(spec.get(key) or ()):
            errors += validate_container.image_space(f"spec.{key}[{index}]", item)
    return errors


def template(path: str, value: JSON) -> field.Errors:
    """Faults of a pod template."""
    meta, spec = value.get("metadata") or {}, value.get("spec") or {}
    errors = selectors.labels(f"{path}.labels", meta.get("labels"))
    errors += metadata.annotation_map(f"{path}.annotations", meta.get("annotations"))
    errors += annotation_rules(f"{path}.annotations", meta.get("annotations"), spec)
    errors += spec_of(f"{path}.spec", spec, is_pod=False)
    if spec.get("ephemeralContainers"):
        why = "ephemeral containers not allowed in pod template"
        errors.append(field.forbidden(f"{path}.spec.ephemeralContainers", why))
    return errors


def annotation_rules(path: str, values: dict[str, str] | None, spec: JSON) -> field.Errors:
    """Faults of the annotations that mean something to pods."""
    errors: field.Errors = []
    if not values:
        return errors
    if MIRROR in values and not spec.get("nodeName"):
        why = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(field.invalid(f"{path}[{MIRROR}]", values[MIRROR], why))
    if (cost := values.get(DELETION_COST)) is not None and not _int32(cost):
        errors.append(field.invalid(f"{path}[{DELETION_COST}]", cost, "must be a 32bit integer"))
    return errors


def _int32(text: str) -> bool:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0"):
        return False
    return -(2**31) <= int(text) < 2**31


def _no_tokens(path: str, volumes: Sequence[JSON]) -> field.Errors:
    why = "must not be specified when serviceAccountName is not set"
    return [
        field.forbidden(f"{path}[{index}].projected.sources[{number}].serviceAccountToken", why)
        for index, volume in enumerate(volumes)
        for number, part in enumerate((volume.get("projected") or {}).get("sources") or ())
        if "serviceAccountToken" in part
    ]


def spec_of(path: str, spec: JSON, *, is_pod: bool, name: str = "") -> field.Errors:
    """Faults of a pod spec; `name` is the pod's where there is one."""
    errors: field.Errors = []
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errors.append(field.required(f"{path}.terminationGracePeriodSeconds"))
    volumes, faults = validate_volume.volumes(f"{path}.volumes", spec.get("volumes") or (), pod=name if is_pod else "")
    errors += faults
    around = validate_container.Pod(
        volumes=volumes,
        claims=frozenset(claim.get("name") or "" for claim in spec.get("resourceClaims") or ()),
        grace=grace,
        restart_policy=spec.get("restartPolicy") or "",
        host_users=spec.get("hostUsers", True),
        is_pod=is_pod,
    )
    regular, init = spec.get("containers") or [], spec.get("initContainers") or []
    errors += validate_container.regular(f"{path}.containers", regular, around)
    if init:
        errors += validate_container.init(f"{path}.initContainers", init, regular, around)
    if ephemeral := spec.get("ephemeralContainers"):
        errors += validate_container.ephemeral(f"{path}.ephemeralContainers", ephemeral, [*regular, *init], around)
    if spec.get("resources"):
        errors += pod_resources.check(f"{path}.resources", spec)
    if spec.get("hostNetwork"):
        errors += _host_network(f"{path}.containers", regular, is_pod=is_pod)
    errors += _one_of(f"{path}.restartPolicy", around.restart_policy, RESTART_POLICIES)
    errors += _one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy") or "", DNS_POLICIES)
    if found := spec.get("nodeSelector"):
        errors += selectors.labels(f"{path}.nodeSelector", found)
    errors += validate_security.pod(f"{path}.securityContext", spec.get("securityContext") or {}, spec)
    return errors + _placement(path, spec) + _names(path, spec) + _rest(path, spec)


def _placement(path: str, spec: JSON) -> field.Errors:
    errors: field.Errors = []
    if (value := spec.get("affinity")) is not None:
        errors += validate_scheduling.affinity(f"{path}.affinity", value)
    errors += _dns(f"{path}.dnsConfig", spec)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        where = f"{path}.readinessGates[{index}].conditionType"
        errors += field.invalids(where, kind, names.qualified_name(kind))
    if gates := spec.get("schedulingGates"):
        errors += _gates(f"{path}.schedulingGates", gates)
    if found := spec.get("topologySpreadConstraints"):
        errors += validate_scheduling.spread(f"{path}.topologySpreadConstraints", found)
    return errors + validate_security.host_users(path, spec)


def _names(path: str, spec: JSON) -> field.Errors:
    errors: field.Errors = []
    if (value := spec.get("serviceAccountName")) and (faults := names.dns_subdomain(value)):
        errors += field.invalids(f"{path}.serviceAccountName", value, faults)
    if (value := spec.get("nodeName")) and (faults := names.dns_subdomain(value)):
        errors += field.invalids(f"{path}.nodeName", value, faults)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= field.MAX_INT32:
        why = field.in_range(1, field.MAX_INT32)
        errors.append(field.invalid(f"{path}.activeDeadlineSeconds", deadline, why))
    for key in ("hostname", "subdomain"):
        if value := spec.get(key):
            errors += field.invalids(f"{path}.{key}", value, names.dns_label(value))
    if (value := spec.get("hostnameOverride")) is not None:
        errors += _hostname_override(f"{path}.hostnameOverride", value, spec)
    return errors


def _hostname_override(path: str, value: str, spec: JSON) -> field.Errors:
    clashing = [key for key in ("setHostnameAsFQDN", "hostNetwork") if spec.get(key)]
    errors = [field.forbidden(path, f"may not be specified when {key} is true") for key in clashing]
    if len(value) > HOSTNAME_MAX:
        errors.append(field.too_long(path, HOSTNAME_MAX))
    return errors + field.invalids(path, value, names.dns_subdomain(value))


def _rest(path: str, spec: JSON) -> field.Errors:
    errors: field.Errors = []
    if found := spec.get("tolerations"):
        errors += validate_scheduling.tolerations(f"{path}.tolerations", found)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        errors += addresses.ip(f"{path}.hostAliases[{index}].ip", alias.get("ip") or "")
        for number, host in enumerate(alias.get("hostnames") or ()):
            where = f"{path}.hostAliases[{index}].hostnames[{number}]"
            errors += field.invalids(where, host, names.dns_subdomain(host))
    if value := spec.get("priorityClassName"):
        errors += field.invalids(f"{path}.priorityClassName", value, names.dns_subdomain(value))
    if (value := spec.get("runtimeClassName")) is not None:
        errors += field.invalids(f"{path}.runtimeClassName", value, names.dns_subdomain(value))
    if (value := spec.get("preemptionPolicy")) is not None:
        errors += _one_of(f"{path}.preemptionPolicy", value, PREEMPTION)
    if overhead := spec.get("overhead"):
        errors += quantities.requirements(f"{path}.overhead", {"limits": overhead})
    if (system := spec.get("os")) is not None:
        errors += _os(f"{path}.os", system.get("name") or "")
    return errors


def _os(path: str, name: str) -> field.Errors:
    if not name:
        return [field.required(f"{path}.name", "cannot be empty")]
    return [] if name in ("linux", "windows") else [field.unsupported(path, name, ("linux", "windows"))]


def _one_of(path: str, value: str, allowed: tuple[str, ...]) -> field.Errors:
    if value in allowed:
        return []
    return [field.unsupported(path, value, allowed) if value else field.required(path)]


def _host_network(path: str, containers: Sequence[JSON], *, is_pod: bool) -> field.Errors:
    errors: field.Errors = []
    for index, item in enumerate(containers):
        for number, port in enumerate(item.get("ports") or ()):
            host, inner = port.get("hostPort") or 0, port.get("containerPort") or 0
            if (is_pod or host) and host != inner:
                why = "must match `containerPort` when `hostNetwork` is true"
                errors.append(field.invalid(f"{path}[{index}].ports[{number}].hostPort", host, why))
    return errors


def _gates(path: str, gates: Sequence[JSON]) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        name = gate.get("name") or ""
        errors += field.invalids(f"{path}[{index}]", name, names.qualified_name(name))
        if name in seen:
            errors.append(field.duplicate(f"{path}[{index}]", name))
        seen.add(name)
    return errors


def _dns(path: str, spec: JSON) -> field.Errors:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [field.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [field.required(f"{path}.nameservers", why)]
    if not config:
        return []
    errors: field.Errors = []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _MAX_NAMESERVERS:
        why = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.append(field.invalid(f"{path}.nameservers", servers, why))
    for index, text in enumerate(servers):
        errors += addresses.ip(f"{path}.nameservers[{index}]", text)
    if len(searches) > _MAX_SEARCHES:
        why = f"must not have more than {_MAX_SEARCHES} search paths"
        errors.append(field.invalid(f"{path}.searches", searches, why))
    if len(" ".join(searches)) > _MAX_SEARCH_CHARS:
        why = f"must not have more than {_MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        errors.append(field.invalid(f"{path}.searches", searches, why))
    for index, text in enumerate(searches):
        if text != ".":
            text = text.removesuffix(".")
            errors += field.invalids(f"{path}.searches[{index}]", text, names.dns_subdomain_underscore(text))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(field.required(f"{path}.options[{index}]", "must not be empty"))
    return errors
