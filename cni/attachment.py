"""What one pod interface is to look like. PURE: names, addresses and routes; no netlink.

The host end of the pair is `veth` and eight hex digits of a hash of sandbox and interface, so that DEL and GC find
it without any memory. The pod's MAC follows from its address, so that the tables of its neighbours stay right when an
address is used anew.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from cni.ipam.ranges import IPAddress
from cni.result import Address, Interface, Link, Result
from cni.spec import Environment, NetConf, Network

ANYWHERE_V4 = IPv4Network("0.0.0.0/0")
ANYWHERE_V6 = IPv6Network("::/0")
# Locally administered prefix, as the bridge plugin once used it.
MAC_PREFIX = "0a:58"


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
    addresses: tuple[Interface, ...]
    routes: tuple[tuple[Network, IPAddress], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the kernel answered when an attachment was made: the MACs that it chose."""

    bridge_mac: str
    host_mac: str


def host_name(container_id: str, ifname: str) -> str:
    """The host end's interface name."""
    return "veth" + hashlib.sha256(f"{container_id}/{ifname}".encode()).hexdigest()[:8]


def mac_for(address: IPAddress) -> str:
    """A MAC that follows from an address (its last four bytes)."""
    return f"{MAC_PREFIX}:" + address.packed[-4:].hex(":")


def plan(config: NetConf, environment: Environment, granted: Sequence[tuple[Interface, IPAddress]]) -> Attachment:
    """The attachment for the addresses that the store granted, each with its gateway."""
    gateways = tuple(type(interface)(f"{gateway}/{interface.network.prefixlen}") for interface, gateway in granted)
    return Attachment(
        host_name=host_name(environment.container_id, environment.ifname),
        pod_name=environment.ifname,
        pod_mac=mac_for(granted[0][0].ip),
        mtu=config.mtu,
        hairpin=config.hairpin,
        bridge=Bridge(name=config.bridge, mac=mac_for(gateways[0].ip), mtu=config.mtu, gateways=gateways),
        addresses=tuple(interface for interface, _ in granted),
        routes=tuple(
            (route, gateway) for interface, gateway in granted for route in _routes(config, version=interface.version)
        ),
    )


def _routes(config: NetConf, *, version: int) -> Sequence[Network]:
    wanted = [route for route in config.routes if route.version == version]
    return wanted or [ANYWHERE_V4 if version == 4 else ANYWHERE_V6]


def result(attachment: Attachment, made: Made, *, netns: str, dns: dict[str, object]) -> Result:
    """The ADD result of an attachment that was made."""
    gateways = {gateway.version: str(gateway.ip) for gateway in attachment.bridge.gateways}
    return Result(
        links=(
            Link(name=attachment.bridge.name, mac=made.bridge_mac, mtu=attachment.mtu),
            Link(name=attachment.host_name, mac=made.host_mac, mtu=attachment.mtu),
            Link(name=attachment.pod_name, mac=attachment.pod_mac, mtu=attachment.mtu, sandbox=netns),
        ),
        addresses=tuple(
            Address(address=address, gateway=gateways[address.version], interface=2) for address in attachment.addresses
        ),
        routes=tuple({"dst": str(route), "gw": str(gateway)} for route, gateway in attachment.routes),
        dns=dns,
    )
