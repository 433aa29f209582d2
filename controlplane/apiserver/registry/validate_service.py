"""Services: the rules of ports, addresses, families and traffic policies. Must not know what is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controlplane.apiserver.registry import addresses, field, names, selectors, validate_probe
from controlplane.apiserver.registry.field import JSON
from controlplane.apiserver.registry.validate_container import PROTOCOLS

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ADDRESSED = ("ClusterIP", "NodePort", "LoadBalancer")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_TRAFFIC = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
_ONLY_BALANCER = "may only be used when `type` is 'LoadBalancer'"
MAX_AFFINITY = 86400

name_rule = names.dns_label


def service(obj: JSON) -> field.Errors:
    """Faults of a Service's content."""
    spec, notes = obj.get("spec") or {}, (obj.get("metadata") or {}).get("annotations") or {}
    kind, ports = spec.get("type") or "", spec.get("ports") or []
    errors: field.Errors = []
    if _MODE in notes and _HINTS in notes and notes[_MODE] != notes[_HINTS]:
        why = f"must match annotations[{_HINTS}] when both are specified"
        errors.append(field.invalid(f"metadata.annotations[{_MODE}]", notes[_MODE], why))
    if not ports and not headless(spec) and kind != "ExternalName":
        errors.append(field.required("spec.ports"))
    errors += _type(kind, spec) + _ports("spec.ports", ports)
    if spec.get("selector"):
        errors += selectors.labels("spec.selector", spec["selector"])
    errors += _affinity(spec) + cluster_ips(spec) + _external(spec)
    if kind not in TYPES:
        errors.append(field.unsupported("spec.type", kind, TYPES) if kind else field.required("spec.type"))
    return errors + _port_conflicts("spec.ports", kind, ports) + _balancer(spec, notes) + _policies(spec)


def headless(spec: JSON) -> bool:
    """True for a service without an address of its own."""
    return spec.get("clusterIPs") == ["None"]


def _type(kind: str, spec: JSON) -> field.Errors:
    if kind in ("LoadBalancer", "NodePort"):
        if not headless(spec):
            return []
        return [field.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")]
    if kind != "ExternalName":
        return []
    why = "may not be set for ExternalName services"
    errors = [
        field.forbidden(f"spec.{key}", why) for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy") if spec.get(key)
    ]
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*errors, field.required("spec.externalName")]
    return errors + field.invalids("spec.externalName", name, names.dns_subdomain(name))


def _ports(path: str, ports: Sequence[JSON]) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where, name, protocol = f"{path}[{index}]", port.get("name") or "", port.get("protocol") or ""
        if name:
            errors += field.invalids(f"{where}.name", name, names.dns_label(name))
            if name in seen:
                errors.append(field.duplicate(f"{where}.name", name))
            seen.add(name)
        elif len(ports) > 1:
            errors.append(field.required(f"{where}.name"))
        number = port.get("port") or 0
        errors += field.invalids(f"{where}.port", number, names.port_number(number))
        if protocol not in PROTOCOLS:
            spot = f"{where}.protocol"
            errors.append(field.unsupported(spot, protocol, PROTOCOLS) if protocol else field.required(spot))
        errors += validate_probe.port_number_or_name(f"{where}.targetPort", port.get("targetPort") or 0)
        if (app := port.get("appProtocol")) is not None:
            errors += field.invalids(f"{where}.appProtocol", app, names.qualified_name(app))
    return errors


def _port_conflicts(path: str, kind: str, ports: Sequence[JSON]) -> field.Errors:
    errors: field.Errors = []
    if kind == "ClusterIP":
        why = "may not be used when `type` is 'ClusterIP'"
        errors += [
            field.forbidden(f"{path}[{index}].nodePort", why)
            for index, port in enumerate(ports)
            if port.get("nodePort")
        ]
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        if number := port.get("nodePort"):
            if (port.get("protocol"), number) in seen:
                errors.append(field.duplicate(f"{path}[{index}].nodePort", number))
            seen.add((port.get("protocol"), number))
    seen = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errors.append(field.duplicate(f"{path}[{index}]", shown))
        seen.add(key)
    return errors


def _affinity(spec: JSON) -> field.Errors:
    affinity, config, path = (
        spec.get("sessionAffinity") or "",
        spec.get("sessionAffinityConfig"),
        "spec.sessionAffinity",
    )
    if affinity not in ("ClientIP", "None"):
        return [field.unsupported(path, affinity, ("ClientIP", "None")) if affinity else field.required(path)]
    path += "Config"
    if affinity == "None":
        why = "must not be set when session affinity is None"
        return [] if config is None else [field.forbidden(path, why)]
    why = "when session affinity type is ClientIP"
    if config is None:
        return [field.required(path, why)]
    if config.get("clientIP") is None:
        return [field.required(f"{path}.clientIP", why)]
    seconds, path = config["clientIP"].get("timeoutSeconds"), f"{path}.clientIP.timeoutSeconds"
    if seconds is None:
        return [field.required(path, why)]
    if 0 < seconds <= MAX_AFFINITY:
        return []
    return [field.invalid(path, seconds, f"must be greater than 0 and less than {MAX_AFFINITY}")]


def cluster_ips(spec: JSON) -> field.Errors:
    """Faults of `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` among themselves."""
    if spec.get("type") == "ExternalName":
        return []
    first, ips, path = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], "spec.clusterIPs"
    errors: field.Errors = []
    if first and not ips:
        errors.append(field.required(path))
    elif first and ips[0] != first:
        errors.append(field.invalid(path, ips, "first value must match `clusterIP`"))
    elif ips and not first:
        errors.append(field.invalid(path, ips, "must be empty when `clusterIP` is not specified"))
    errors += _families(spec)
    faults = _each_ip(path, ips)
    errors += faults
    if len(ips) > 2:
        errors.append(field.invalid(path, ips, "may only hold up to 2 values"))
    if faults:
        return errors
    if len(ips) > 1 and not addresses.one_of_each_family(ips):
        errors.append(field.invalid(path, ips, "may specify no more than one IP for each IP family"))
    return errors + ([] if headless(spec) else _match_families(path, ips, spec.get("ipFamilies") or []))


def _families(spec: JSON) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        where = f"spec.ipFamilies[{index}]"
        if family not in _FAMILIES:
            errors.append(field.unsupported(where, family, _FAMILIES))
        if family in seen:
            errors.append(field.duplicate(where, family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _FAMILY_POLICIES:
        errors.append(field.unsupported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    return errors


def _each_ip(path: str, ips: list[str]) -> field.Errors:
    errors: field.Errors = []
    for index, text in enumerate(ips):
        if index == 0 and text == "None":
            if len(ips) > 1:
                errors.append(field.invalid(path, ips, "'None' must be the first and only value"))
        else:
            errors += addresses.ip(f"{path}[{index}]", text)
    return errors


def _match_families(path: str, ips: list[str], families: list[str]) -> field.Errors:
    return [
        field.invalid(f"{path}[{index}]", text, f"expected an {family} value as indicated by `ipFamilies[{index}]`")
        for index, (text, family) in enumerate(zip(ips, families, strict=False))
        if (family == "IPv6") != (":" in text)
    ]


def single_stack(spec: JSON) -> field.Errors:
    """Faults of a service that asks an IPv4 cluster for IPv6; headless services without selector may."""
    if spec.get("type") == "ExternalName" or (spec.get("clusterIP") == "None" and not spec.get("selector")):
        return []
    errors: field.Errors = []
    if spec.get("ipFamilyPolicy") == "RequireDualStack":
        why = "this cluster is not configured for dual-stack services"
        errors.append(field.invalid("spec.ipFamilyPolicy", "RequireDualStack", why))
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        if family == "IPv6":
            errors.append(field.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
    return errors


def _external(spec: JSON) -> field.Errors:
    errors: field.Errors = []
    for index, text in enumerate(spec.get("externalIPs") or ()):
        where = f"spec.externalIPs[{index}]"
        errors += addresses.ip(where, text) or addresses.ordinary(where, text)
    return errors


def _balancer(spec: JSON, notes: dict[str, str]) -> field.Errors:
    balanced = spec.get("type") == "LoadBalancer"
    errors: field.Errors = []
    if ranges := spec.get("loadBalancerSourceRanges"):
        if not balanced:
            errors.append(field.forbidden("spec.LoadBalancerSourceRanges", _ONLY_BALANCER))
        for index, text in enumerate(ranges):
            errors += addresses.cidr(f"spec.LoadBalancerSourceRanges[{index}]", text.strip())
    elif _RANGES in notes:
        where = f"metadata.annotations[{_RANGES}]"
        if not balanced:
            errors.append(field.forbidden(where, _ONLY_BALANCER))
        for text in filter(None, notes[_RANGES].strip().split(",")):
            errors += addresses.cidr(where, text.strip())
    if not balanced and spec.get("allocateLoadBalancerNodePorts") is not None:
        errors.append(field.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCER))
    if balanced and spec.get("allocateLoadBalancerNodePorts") is None:
        errors.append(field.required("allocateLoadBalancerNodePorts"))
    if (kind := spec.get("loadBalancerClass")) is not None:
        if balanced:
            errors += field.invalids("spec.loadBalancerClass", kind, names.qualified_name(kind))
        else:
            errors.append(field.forbidden("spec.loadBalancerClass", _ONLY_BALANCER))
    return errors


def _policies(spec: JSON) -> field.Errors:
    errors = _external_policy(spec) + _health_port(spec)
    inner, path = spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy"
    if inner is None:
        if spec.get("type") in _ADDRESSED:
            errors.append(field.required(path))
    elif inner not in _TRAFFIC:
        errors.append(field.unsupported(path, inner, _TRAFFIC))
    spread = spec.get("trafficDistribution")
    if spread is not None and spread not in _DISTRIBUTIONS:
        errors.append(field.unsupported("spec.trafficDistribution", spread, _DISTRIBUTIONS))
    return errors


def _external_policy(spec: JSON) -> field.Errors:
    policy, path, kind = spec.get("externalTrafficPolicy") or "", "spec.externalTrafficPolicy", spec.get("type")
    reachable = kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if not reachable:
        why = "may only be set for externally-accessible services"
        return [field.invalid(path, policy, why)] if policy else []
    if policy in _TRAFFIC:
        return []
    return [field.unsupported(path, policy, _TRAFFIC) if policy else field.required(path)]


def _health_port(spec: JSON) -> field.Errors:
    number, path = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
        return field.invalids(path, number, names.port_number(number)) if number else [field.required(path)]
    why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
    return [field.invalid(path, number, why)] if number else []


def changes(spec: JSON, before: JSON) -> field.Errors:
    """Faults of an update: addresses and families do not change once set."""
    errors: field.Errors = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        errors += _ip_changes(spec, before) + _family_changes(spec, before)
    if spec.get("type") == before.get("type") == "LoadBalancer":
        kind = spec.get("loadBalancerClass")
        if kind != before.get("loadBalancerClass"):
            errors.append(field.invalid("spec.loadBalancerClass", kind, "may not change once set"))
    old, new = before.get("healthCheckNodePort"), spec.get("healthCheckNodePort")
    local = all(
        item.get("externalTrafficPolicy") == "Local" and item.get("type") == "LoadBalancer" for item in (spec, before)
    )
    if local and old != new:
        errors.append(field.forbidden("spec.healthCheckNodePort", field.IMMUTABLE))
    return errors


def _ip_changes(spec: JSON, before: JSON) -> field.Errors:
    new, old, path = spec.get("clusterIPs") or [], before.get("clusterIPs") or [], "spec.clusterIPs"
    fixed = "may not change once set"
    if headless(spec) and headless(before):
        return []
    if len(new) == len(old):
        return [field.invalid(f"{path}[{index}]", new, fixed) for index, text in enumerate(old) if text != new[index]]
    if not new:
        return [field.invalid(f"{path}[0]", new, "primary clusterIP can not be unset")]
    errors = [field.invalid(f"{path}[0]", new, fixed)] if old and new[0] != old[0] else []
    if len(new) < len(old) and spec.get("ipFamilyPolicy") != "SingleStack":
        why = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(field.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), why))
    return errors


def _family_changes(spec: JSON, before: JSON) -> field.Errors:
    if headless(spec) or headless(before):
        return []
    new, old, path = spec.get("ipFamilies") or [], before.get("ipFamilies") or [], "spec.ipFamilies"
    changed = field.invalid(f"{path}[0]", new, "may not change once set")
    if len(new) == len(old):
        return [changed for index, family in enumerate(old) if family != new[index]]
    errors = [changed] if old and new and new[0] != old[0] else []
    if len(new) == 1 < len(old) and spec.get("ipFamilyPolicy") != "SingleStack":
        why = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errors.append(field.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), why))
    return errors


def load_balancer(status: JSON) -> field.Errors:
    """Faults of the load balancer's addresses in a status."""
    errors: field.Errors = []
    for index, item in enumerate((status.get("loadBalancer") or {}).get("ingress") or ()):
        where, text, mode = f"status.loadBalancer.ingress[{index}]", item.get("ip") or "", item.get("ipMode")
        if text:
            errors += addresses.ip(f"{where}.ip", text)
            if mode is None:
                errors.append(field.required(f"{where}.ipMode", "must be specified when `ip` is set"))
        elif mode is not None:
            errors.append(field.forbidden(f"{where}.ipMode", "may not be specified when `ip` is not set"))
        if text and mode is not None and mode not in ("Proxy", "VIP"):
            errors.append(field.unsupported(f"{where}.ipMode", mode, ("Proxy", "VIP")))
        if host := item.get("hostname"):
            errors += field.invalids(f"{where}.hostname", host, names.dns_subdomain(host))
            if addresses.parse(host):
                errors.append(field.invalid(f"{where}.hostname", host, "must be a DNS name, not an IP address"))
    return errors
