"""What a runtime asks for beside the configuration: `runtimeConfig`, `args.cni` and CNI_ARGS. PURE.

Follows the CNI conventions (CONVENTIONS.md): portMappings, bandwidth, ips, mac, ipRanges, dns, aliases. Owns their
checking; every refusal names the key. Must not know how a wish is granted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Any

from cni import errors
from cni.netlink.wire import IPAddress

NAMES = ("portMappings", "bandwidth", "ips", "mac", "ipRanges", "dns", "aliases")
PROTOCOLS = ("tcp", "udp", "sctp")
MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}\Z", re.IGNORECASE)
ALIAS = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,251}[a-z0-9])?\Z", re.IGNORECASE)
# containerd passes this for a burst that nobody has chosen; at its word half a gigabyte would pass without limit.
UNCHOSEN_BURST_BITS = (1 << 32) - 1


@dataclass(frozen=True, slots=True, order=True)
class PortMapping:
    """A port of the node that leads to one of the pod; `host_ip` None means every address of the node."""

    protocol: str
    host_port: int
    container_port: int
    host_ip: IPAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Limits in bits a second and bits, as the pod sees them: ingress is what comes to it. A rate of 0 is no limit."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """The wishes of one call."""

    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    addresses: tuple[IPAddress, ...] = ()
    mac: str = ""
    ranges: tuple[Any, ...] = ()
    dns: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def parse(document: Mapping[str, Any], args: Mapping[str, str]) -> Requested:
    """The wishes in a configuration and in CNI_ARGS. Raises CniError 7 (4 for CNI_ARGS), naming the key."""
    wishes = _mapping(document.get("runtimeConfig"), "runtimeConfig")
    cni = _mapping(_mapping(document.get("args"), "args").get("cni"), "args.cni")
    limits = wishes.get("bandwidth")
    return Requested(
        ports=_ports(wishes.get("portMappings")),
        bandwidth=_bandwidth(document if limits is None else limits),
        addresses=_addresses(wishes, cni, args),
        mac=_mac(wishes.get("mac") or cni.get("mac") or args.get("MAC") or ""),
        ranges=tuple(_list(wishes.get("ipRanges"), "runtimeConfig.ipRanges")),
        dns=_dns(_folded(_mapping(wishes.get("dns"), "runtimeConfig.dns"))),
        aliases=_aliases(wishes.get("aliases"), network=document.get("name")),
    )


def _ports(value: object) -> tuple[PortMapping, ...]:
    found = []
    for number, entry in enumerate(_list(value, "runtimeConfig.portMappings")):
        key = f"runtimeConfig.portMappings[{number}]"
        fields = _folded(_mapping(entry, key))
        if fields.get("hostPort") == 0:
            continue  # a port that is only declared
        found.append(
            PortMapping(
                protocol=_protocol(fields.get("protocol") or "tcp", f"{key}.protocol"),
                host_port=_port(fields.get("hostPort"), f"{key}.hostPort"),
                container_port=_port(fields.get("containerPort"), f"{key}.containerPort"),
                host_ip=_host_ip(fields.get("hostIP") or "", f"{key}.hostIP"),
            )
        )
    return tuple(dict.fromkeys(found))


def _protocol(value: object, key: str) -> str:
    name = value.lower() if isinstance(value, str) else ""
    if name not in PROTOCOLS:
        raise _invalid(key, f"{value!r} is not one of {', '.join(PROTOCOLS)}")
    return name


def _port(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise _invalid(key, f"{value!r} is not between 1 and 65535")
    return value


def _host_ip(value: object, key: str) -> IPAddress | None:
    if not value:
        return None
    try:
        return ip_address(str(value))  # 0.0.0.0 and ::, all addresses of one version, are kept
    except ValueError as error:
        raise _invalid(key, str(error)) from error


def _bandwidth(value: object) -> Bandwidth:
    fields = _folded(_mapping(value, "runtimeConfig.bandwidth"))
    found = Bandwidth(
        ingress_rate=_bits(fields, "ingressRate"),
        ingress_burst=_bits(fields, "ingressBurst"),
        egress_rate=_bits(fields, "egressRate"),
        egress_burst=_bits(fields, "egressBurst"),
    )
    for name, rate, burst in (
        ("ingress", found.ingress_rate, fields.get("ingressBurst")),
        ("egress", found.egress_rate, fields.get("egressBurst")),
    ):
        if burst and not rate:
            raise _invalid(f"runtimeConfig.bandwidth.{name}Rate", f"is needed with {name}Burst")
    return found


def _bits(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _invalid(f"runtimeConfig.bandwidth.{name}", f"{value!r} is not a number of bits")
    return 0 if name.endswith("Burst") and value >= UNCHOSEN_BURST_BITS else value


def _addresses(wishes: Mapping[str, Any], cni: Mapping[str, Any], args: Mapping[str, str]) -> tuple[IPAddress, ...]:
    for key, values in (
        ("runtimeConfig.ips", _list(wishes.get("ips"), "runtimeConfig.ips")),
        ("args.cni.ips", _list(cni.get("ips"), "args.cni.ips")),
        ("CNI_ARGS IP", args.get("IP", "").split(",") if args.get("IP") else []),
    ):
        try:
            found = tuple(ip_interface(str(value)).ip for value in values)
        except ValueError as error:
            raise _invalid(key, str(error)) from error
        if found:
            return found
    return ()


def _mac(value: object) -> str:
    if not value:
        return ""
    if not isinstance(value, str) or not MAC.match(value):
        raise _invalid("runtimeConfig.mac", f"{value!r} is not a MAC")
    if int(value[:2], 16) & 1:
        raise _invalid("runtimeConfig.mac", f"{value!r} is a group address")
    return value.lower().replace("-", ":")


def _dns(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """In the convention's words `servers searches options`, in a result's `nameservers search options`."""
    names = {"servers": "nameservers", "searches": "search", "options": "options"}
    return {names[key]: list(_list(value[key], f"runtimeConfig.dns.{key}")) for key in names if value.get(key)}


def _aliases(value: object, *, network: object) -> tuple[str, ...]:
    """A list of names; podman has such lists by network."""
    names = _list(value.get(network) if isinstance(value, dict) else value, "runtimeConfig.aliases")
    for name in names:
        if not isinstance(name, str) or not ALIAS.match(name):
            raise _invalid("runtimeConfig.aliases", f"{name!r} is not a host name")
    return tuple(dict.fromkeys(names))


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(key, "not an object")
    return value


def _folded(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keys with a small first letter: containerd writes its Go names, and Go's readers do not mind the case."""
    return {key[:1].lower() + key[1:]: value for key, value in fields.items()}


def _list(value: object, key: str) -> Sequence[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(key, "not a list")
    return value


def _invalid(key: str, reason: str) -> errors.CniError:
    return errors.CniError(errors.INVALID_CONFIG, f"invalid network config: {key}", details=reason)
