"""What the CNI specification 1.1.0 defines: the environment, the network configuration, and how both are checked.

Owns parsing and validation of a request. Must not know links, addresses or sockets.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from cni import capabilities, errors
from cni.capabilities import Requested
from cni.netlink.wire import IPAddress

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
TYPE, HOST_LOCAL = "nodeagent-cni", "host-local"
# The versions in which each verb exists; the others date from the first supported version.
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
REQUIRED_ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")
INTERFACE_NAME = re.compile(r"[^/:\s]{1,15}\Z")
MAX_CONFIG_BYTES = 1 << 20

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The CNI_* variables of one call, checked."""

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    path: str = ""

    def with_command(self, command: str) -> "Environment":
        """The same call with another verb."""
        return dataclasses.replace(self, command=command)


@dataclass(frozen=True, slots=True)
class RouteWish:
    """A route for the pod; without a gateway it takes that of the pod's range."""

    destination: Network
    gateway: IPAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConf:
    """Our own plugin's configuration, one object of a conflist's `plugins`."""

    version: str
    name: str
    bridge: str
    mtu: int
    hairpin: bool
    ranges: tuple[tuple[Mapping[str, str], ...], ...]
    routes: tuple[RouteWish, ...]
    data_dir: str
    dns: Mapping[str, Any]
    previous: Mapping[str, Any] | None
    valid_attachments: tuple[tuple[str, str], ...]
    requested: Requested
    type: str = ""
    ipam_type: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)


def parse_environment(variables: Mapping[str, str]) -> Environment:
    """Checks CNI_COMMAND and what it requires. Raises CniError 4, naming every variable that is wrong."""
    command = variables.get("CNI_COMMAND", "")
    if command not in REQUIRED_ENVIRONMENT:
        raise errors.CniError(errors.BAD_ENVIRONMENT, "unknown CNI_COMMAND", details=repr(command))
    missing = [name for name in REQUIRED_ENVIRONMENT[command] if not variables.get(name)]
    if missing:
        raise errors.CniError(errors.BAD_ENVIRONMENT, "required env variables missing", details=", ".join(missing))
    container_id = variables.get("CNI_CONTAINERID", "")
    if container_id and not CONTAINER_ID.match(container_id):
        raise errors.CniError(errors.BAD_ENVIRONMENT, "invalid CNI_CONTAINERID", details=repr(container_id))
    ifname = variables.get("CNI_IFNAME", "")
    if ifname and (ifname in (".", "..") or not INTERFACE_NAME.match(ifname)):
        raise errors.CniError(errors.BAD_ENVIRONMENT, "invalid CNI_IFNAME", details=repr(ifname))
    return Environment(
        command=command,
        container_id=container_id,
        netns=variables.get("CNI_NETNS", ""),
        ifname=ifname,
        args=parse_args(variables.get("CNI_ARGS", "")),
        path=variables.get("CNI_PATH", ""),
    )


def parse_args(text: str) -> Mapping[str, str]:
    """`K=V;K=V` as a mapping. Raises CniError 4 for a part without `=`."""
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(";")):
        name, sign, value = part.partition("=")
        if not sign:
            raise errors.CniError(errors.BAD_ENVIRONMENT, "invalid CNI_ARGS", details=repr(part))
        pairs[name] = value
    return pairs


def decode(stdin: bytes) -> Mapping[str, Any]:
    """The JSON object on standard input. Raises CniError 6."""
    if len(stdin) > MAX_CONFIG_BYTES:
        raise errors.CniError(errors.DECODING_FAILURE, "network configuration is larger than 1 MiB")
    try:
        document = json.loads(stdin)
    except ValueError as error:
        raise errors.CniError(
            errors.DECODING_FAILURE, "cannot decode network configuration", details=str(error)
        ) from error
    if not isinstance(document, dict):
        raise errors.CniError(errors.DECODING_FAILURE, "network configuration is not a JSON object")
    return document


def requested_version(document: Mapping[str, Any], *, command: str) -> str:
    """The version to answer in. Raises CniError 1 for one we do not speak, or which lacks the verb."""
    version = document.get("cniVersion") or "0.1.0"
    if version not in VERSIONS:
        raise errors.CniError(
            errors.INCOMPATIBLE_VERSION,
            f"incompatible CNI version: config is {version!r}",
            details=f"plugin supports {list(VERSIONS)}",
        )
    since = SINCE.get(command, VERSIONS[0])
    if VERSIONS.index(version) < VERSIONS.index(since):
        raise errors.CniError(
            errors.INCOMPATIBLE_VERSION,
            f"config version {version} does not allow {command}",
            details=f"it needs {since}",
        )
    return str(version)


def parse_config(document: Mapping[str, Any], *, version: str, args: Mapping[str, str] | None = None) -> NetConf:
    """Our NetConf out of a decoded document. Raises CniError 2 (unsupported) or 7 (invalid), naming the key."""
    name = document.get("name")
    if not isinstance(name, str) or not CONTAINER_ID.match(name):
        raise _invalid("name", f"invalid network name {name!r}")
    ipam = _mapping(document, "ipam")
    wishes = capabilities.parse(document, args or {})
    mtu = document.get("mtu", 0)
    if not isinstance(mtu, int) or isinstance(mtu, bool) or not (mtu == 0 or 68 <= mtu <= 65535):
        raise _invalid("mtu", f"{mtu!r} is not 0 or between 68 and 65535")
    bridge = document.get("bridge", "cni0")
    if not isinstance(bridge, str) or not INTERFACE_NAME.match(bridge):
        raise _invalid("bridge", f"invalid interface name {bridge!r}")
    return NetConf(
        version=version,
        name=name,
        bridge=bridge,
        mtu=mtu,
        hairpin=bool(document.get("hairpinMode", True)),
        ranges=_range_sets(wishes.ranges) + _ranges(ipam),
        routes=_routes(ipam),
        data_dir=str(ipam.get("dataDir") or "/var/lib/cni/networks"),
        dns=_mapping(document, "dns"),
        previous=_previous(document),
        valid_attachments=_attachments(document),
        requested=wishes,
        type=_text(document, "type"),
        ipam_type=_text(ipam, "type", prefix="ipam."),
        document=document,
    )


def _invalid(key: str, reason: str) -> errors.CniError:
    return errors.CniError(errors.INVALID_CONFIG, f"invalid network config: {key}", details=reason)


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(key, "not an object")
    return value


def _text(document: Mapping[str, Any], key: str, *, prefix: str = "") -> str:
    value = document.get(key) or ""
    if not isinstance(value, str):
        raise _invalid(prefix + key, "not a text")
    return value


def _previous(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return _mapping(document, "prevResult") if document.get("prevResult") is not None else None


def _ranges(ipam: Mapping[str, Any]) -> tuple[tuple[Mapping[str, str], ...], ...]:
    sets = ipam.get("ranges")
    if sets is None:
        sets = (
            [[{k: ipam[k] for k in ("subnet", "rangeStart", "rangeEnd", "gateway") if k in ipam}]]
            if "subnet" in ipam
            else []
        )
    return _range_sets(sets)


def _range_sets(sets: object) -> tuple[tuple[Mapping[str, str], ...], ...]:
    if not isinstance(sets, list | tuple) or not all(
        isinstance(s, list) and s and all(isinstance(r, dict) for r in s) for s in sets
    ):
        raise _invalid("ipam.ranges", "must be a list of non-empty lists of ranges")
    return tuple(tuple(ranges) for ranges in sets)


def _routes(ipam: Mapping[str, Any]) -> tuple[RouteWish, ...]:
    try:
        return tuple(
            RouteWish(ip_network(route["dst"]), ip_address(route["gw"]) if route.get("gw") else None)
            for route in ipam.get("routes") or ()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _invalid("ipam.routes", str(error)) from error


def _attachments(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((str(a["containerID"]), str(a["ifname"])) for a in document.get("cni.dev/valid-attachments") or ())
    except (KeyError, TypeError) as error:
        raise _invalid("cni.dev/valid-attachments", f"each needs containerID and ifname ({error})") from error
