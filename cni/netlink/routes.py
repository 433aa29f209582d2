"""Routes of the main table over rtnetlink (numbers from linux/rtnetlink.h). PURE."""

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cni.netlink.wire import CREATE, DUMP, REPLACE, IPAddress, Message, Network, attribute, attributes, nested, number

NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_METRICS = 1, 4, 5, 8
RTAX_MTU = 2
RTNH_F_ONLINK = 4
MAIN_TABLE, SCOPE_UNIVERSE, SCOPE_LINK, UNICAST = 254, 0, 253, 1
PROTOCOL_STATIC = 4
GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV})


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
    """A route of the main table as the kernel reports it."""

    destination: Network
    gateway: IPAddress | None
    interface: int
    protocol: int
    onlink: bool


def new_route(
    destination: Network,
    *,
    gateway: IPAddress | None,
    index: int = 0,
    mtu: int = 0,
    protocol: int = PROTOCOL_STATIC,
    onlink: bool = False,
) -> Message:
    """Adds or replaces a route in the main table; the kernel finds the interface when `index` is 0.

    `onlink`: the gateway is believed to be behind the interface, whatever its addresses say.
    """
    return Message(
        NEWROUTE,
        CREATE | REPLACE,
        _route(destination, gateway=gateway, index=index, mtu=mtu, protocol=protocol, onlink=onlink),
        f"add route {destination} via {gateway}",
    )


def delete_route(
    destination: Network, *, gateway: IPAddress | None, index: int = 0, protocol: int = PROTOCOL_STATIC
) -> Message:
    """Removes one of our routes; one that is gone is no failure."""
    body = _route(destination, gateway=gateway, index=index, mtu=0, protocol=protocol, onlink=False)
    return Message(DELROUTE, 0, body, f"delete route {destination}", GONE)


def dump_routes(version: int) -> Message:
    """Asks for all routes of one IP version."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Message(GETROUTE, DUMP, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")


def _route(
    destination: Network, *, gateway: IPAddress | None, index: int, mtu: int, protocol: int, onlink: bool
) -> bytes:
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    scope = SCOPE_UNIVERSE if gateway else SCOPE_LINK
    flags = RTNH_F_ONLINK if onlink else 0
    head = struct.pack("=BBBBBBBBI", family, destination.prefixlen, 0, 0, MAIN_TABLE, protocol, scope, UNICAST, flags)
    body = head + (attribute(RTA_DST, destination.network_address.packed) if destination.prefixlen else b"")
    body += attribute(RTA_GATEWAY, gateway.packed) if gateway else b""
    body += number(RTA_OIF, index) if index else b""
    body += nested(RTA_METRICS, number(RTAX_MTU, mtu)) if mtu else b""
    return body


def parse_route(body: bytes) -> RouteState | None:
    """A RTM_NEWROUTE reply; None for another table than main."""
    family, prefix, _, _, table, protocol, _, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    if table != MAIN_TABLE or kind != UNICAST:
        return None
    found = attributes(body[12:])
    network = IPv4Network if family == socket.AF_INET else IPv6Network
    address = IPv4Address if family == socket.AF_INET else IPv6Address
    raw = found.get(RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    gateway = found.get(RTA_GATEWAY)
    return RouteState(
        destination=network((raw, prefix)),
        gateway=address(gateway) if gateway else None,
        interface=int.from_bytes(found.get(RTA_OIF, b""), "little"),
        protocol=protocol,
        onlink=bool(flags & RTNH_F_ONLINK),
    )
