"""What one pod interface is to look like. PURE: names, addresses and routes; no netlink.

The host end of the pair is `veth` and eight hex digits of a hash of sandbox and interface, so that DEL and GC find
it without any memory. The pod's MAC follows from its address, so that the tables of its neighbours stay right when an
address is used anew.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from cni.capabilities import Bandwidth
from cni.ipam.ranges import IPAddress
from cni.result import Address, Interface, Link, Result
from cni.spec import Environment, NetConf, Network, RouteWish

NO_LIMIT = Bandwidth()
ANYWHERE_V4 = IPv4Network("0.0.0.0/0")
ANYWHERE_V6 = IPv6Network("::/0")
# Locally administered prefix, as the bridge plugin once used it.
MAC_PREFIX = "0a:58"
HOST_NAME = re.compile(r"veth[0-9a-f]{8}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """The node's bridge with the gateway addresses of the pod ranges."""

    name: str
    mac: str
    mtu: int
    gateways: tuple[Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One pod interface: the pair, its addresses, its routes."""

    host_name: str
    pod_name: str
    pod_mac: str
    mtu: int
    hairpin: bool
    bridge: Bridge
    bandwidth: Bandwidth = NO_LIMIT
    addresses: tuple[Interface, ...]
    routes: tuple[tuple[Network, IPAddress], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What an attachment came to: the MACs of bridge and host end."""

    bridge_mac: str
    host_mac: str


def host_mac(host_name: str) -> str:
    """The host end's MAC. Given, not chosen by the kernel, so that udev has no reason to give it another one later."""
    return "0e:" + hashlib.sha256(host_name.encode()).digest()[:5].hex(":")


def shaper_name(host_name: str) -> str:
    """The ifb device through which the packets of a pod with a limit go: named after the host end."""
    return "ifb" + host_name.removeprefix("veth")


def host_name(container_id: str, ifname: str) -> str:
    """The host end's interface name."""
    return "veth" + hashlib.sha256(f"{container_id}/{ifname}".encode()).hexdigest()[:8]


def is_host_name(name: str) -> bool:
    """Whether an interface is named as a host end of ours is."""
    return bool(HOST_NAME.match(name))


def mac_for(address: IPAddress) -> str:
    """A MAC that follows from an address (its last four bytes)."""
    return f"{MAC_PREFIX}:" + address.packed[-4:].hex(":")


def bridge(config: NetConf, gateways: Sequence[Interface]) -> Bridge:
    """The node's bridge with these gateway addresses."""
    return Bridge(name=config.bridge, mac=mac_for(gateways[0].ip), mtu=config.mtu, gateways=tuple(gateways))


def plan(
    config: NetConf,
    environment: Environment,
    granted: Sequence[tuple[Interface, IPAddress]],
    *,
    routes: Sequence[RouteWish] | None = None,
) -> Attachment:
    """The attachment for the granted addresses, each with its gateway; `routes` instead of the configuration's."""
    gateways = tuple(type(interface)(f"{gateway}/{interface.network.prefixlen}") for interface, gateway in granted)
    return Attachment(
        host_name=host_name(environment.container_id, environment.ifname),
        pod_name=environment.ifname,
        pod_mac=config.requested.mac or mac_for(granted[0][0].ip),
        mtu=config.mtu,
        hairpin=config.hairpin,
        bridge=bridge(config, gateways),
        bandwidth=config.requested.bandwidth,
        addresses=tuple(interface for interface, _ in granted),
        routes=_all_routes(config.routes if routes is None else routes, granted),
    )


def _all_routes(
    wishes: Sequence[RouteWish], granted: Sequence[tuple[Interface, IPAddress]]
) -> tuple[tuple[Network, IPAddress], ...]:
    """Of two ranges of one IP version the first has the routes."""
    found: dict[Network, IPAddress] = {}
    for interface, gateway in granted:
        for route in _routes(wishes, version=interface.version):
            found.setdefault(route.destination, route.gateway or gateway)
    return tuple(found.items())


def _routes(wishes: Sequence[RouteWish], *, version: int) -> Sequence[RouteWish]:
    wanted = [route for route in wishes if route.destination.version == version]
    return wanted or [RouteWish(ANYWHERE_V4 if version == 4 else ANYWHERE_V6)]


def result(attachment: Attachment, made: Made, *, netns: str, dns: dict[str, object]) -> Result:
    """The ADD result of an attachment that was made."""
    return Result(
        links=(
            Link(name=attachment.bridge.name, mac=made.bridge_mac, mtu=attachment.mtu),
            Link(name=attachment.host_name, mac=made.host_mac, mtu=attachment.mtu),
            Link(name=attachment.pod_name, mac=attachment.pod_mac, mtu=attachment.mtu, sandbox=netns),
        ),
        addresses=tuple(
            Address(address=address, gateway=str(gateway.ip), interface=2)
            for address, gateway in zip(attachment.addresses, attachment.bridge.gateways, strict=True)
        ),
        routes=tuple({"dst": str(route), "gw": str(gateway)} for route, gateway in attachment.routes),
        dns=dns,
    )
