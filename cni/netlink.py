"""A small rtnetlink encoder and socket: whole batches in one send, because one message a time costs a system call each.

Owns bytes of rtnetlink (numbers from linux/rtnetlink.h, if_link.h, if_addr.h, veth.h). Must not know pods or CNI.
The functions that build messages are pure; `Socket` is the only effect, and it is blocking: use it from a thread.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cni.result import Interface

REQUEST, ACK, DUMP, REPLACE, EXCL, CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
NEWLINK, DELLINK, GETLINK, NEWADDR, GETADDR, NEWROUTE, DELROUTE, GETROUTE = 16, 17, 18, 20, 22, 24, 25, 26
ERROR, DONE = 2, 3
NESTED = 0x8000
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
BRPORT_HAIRPIN = 4
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_METRICS = 1, 4, 5, 8
RTAX_MTU = 2
IFF_UP = 0x1
MAIN_TABLE, SCOPE_UNIVERSE, SCOPE_LINK, UNICAST = 254, 0, 253, 1
PROTOCOL_STATIC = 4
TIMEOUT_SECONDS = 10.0
RECEIVE_BYTES = 1 << 16

Network = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Message:
    """One request without its header; `wanted` says in words what it does, for the error that names it."""

    kind: int
    flags: int
    body: bytes
    wanted: str


class NetlinkError(Exception):
    """The kernel refused a message: `errno` and what the message was meant to do."""

    def __init__(self, number: int, wanted: str) -> None:
        super().__init__(f"{wanted}: {os.strerror(number)}")
        self.errno = number
        self.wanted = wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """An interface as the kernel reports it."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    master: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
    """A route of the main table as the kernel reports it."""

    destination: Network
    gateway: IPAddress | None
    interface: int
    protocol: int


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An rtattr that holds others."""
    return attribute(kind | NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute."""
    return attribute(kind, struct.pack("=I", value))


def _interface(*, index: int = 0, up: bool = False) -> bytes:
    flags = IFF_UP if up else 0
    return struct.pack("=BBHiII", 0, 0, 0, index, flags, flags)


def new_bridge(name: str, *, mtu: int, mac: str) -> Message:
    """Creates a bridge that is up, with a fixed MAC (else it changes as ports come and go)."""
    parts = _interface(up=True) + text(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, mac_bytes(mac))
    parts += number(IFLA_MTU, mtu) if mtu else b""
    parts += nested(IFLA_LINKINFO, text(INFO_KIND, "bridge"))
    return Message(NEWLINK, CREATE | EXCL, parts, f"create bridge {name}")


def new_veth(name: str, *, peer: str, peer_mac: str, peer_netns: int, master: int, mtu: int) -> Message:
    """Creates a pair in one message: the host end up and in its bridge, the peer already in the pod's namespace."""
    size = number(IFLA_MTU, mtu) if mtu else b""
    other = _interface() + text(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, mac_bytes(peer_mac)) + size
    other += number(IFLA_NET_NS_FD, peer_netns)
    parts = _interface(up=True) + text(IFLA_IFNAME, name) + size + number(IFLA_MASTER, master)
    parts += nested(IFLA_LINKINFO, text(INFO_KIND, "veth"), nested(INFO_DATA, attribute(VETH_INFO_PEER, other)))
    return Message(NEWLINK, CREATE | EXCL, parts, f"create veth {name}")


def set_hairpin(name: str) -> Message:
    """Lets a bridge port send a frame back where it came from: a pod that reaches itself through its Service."""
    slave = nested(INFO_SLAVE_DATA, attribute(BRPORT_HAIRPIN, b"\x01"))
    parts = _interface() + text(IFLA_IFNAME, name) + nested(IFLA_LINKINFO, text(INFO_SLAVE_KIND, "bridge"), slave)
    return Message(NEWLINK, 0, parts, f"set hairpin on {name}")


def link_up(index: int) -> Message:
    """Brings an interface up."""
    return Message(NEWLINK, 0, _interface(index=index, up=True), f"bring up interface {index}")


def delete_link(name: str) -> Message:
    """Removes an interface (and its veth peer)."""
    return Message(DELLINK, 0, _interface() + text(IFLA_IFNAME, name), f"delete interface {name}")


def get_link(name: str) -> Message:
    """Asks for one interface."""
    return Message(GETLINK, 0, _interface() + text(IFLA_IFNAME, name), f"look up interface {name}")


def dump_links() -> Message:
    """Asks for all interfaces."""
    return Message(GETLINK, DUMP, _interface(), "list interfaces")


def new_address(interface: Interface, *, index: int) -> Message:
    """Gives an interface an address; IPv6 without duplicate detection, which would delay the pod by a second."""
    raw = interface.ip.packed
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, interface.network.prefixlen, 0, SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    if interface.version == 4:
        body += attribute(IFA_BROADCAST, interface.network.broadcast_address.packed)
    else:
        body += number(IFA_FLAGS, IFA_F_NODAD)
    return Message(NEWADDR, CREATE | REPLACE, body, f"add address {interface}")


def dump_addresses() -> Message:
    """Asks for all addresses of both families."""
    return Message(GETADDR, DUMP, struct.pack("=BBBBI", 0, 0, 0, 0, 0), "list addresses")


def new_route(
    destination: Network, *, gateway: IPAddress | None, index: int = 0, mtu: int = 0, protocol: int = PROTOCOL_STATIC
) -> Message:
    """Adds or replaces a route in the main table; the kernel finds the interface when `index` is 0."""
    return Message(
        NEWROUTE,
        CREATE | REPLACE,
        _route(destination, gateway=gateway, index=index, mtu=mtu, protocol=protocol),
        f"add route {destination} via {gateway}",
    )


def delete_route(destination: Network, *, gateway: IPAddress | None, protocol: int = PROTOCOL_STATIC) -> Message:
    """Removes one of our routes."""
    body = _route(destination, gateway=gateway, index=0, mtu=0, protocol=protocol)
    return Message(DELROUTE, 0, body, f"delete route {destination}")


def dump_routes(version: int) -> Message:
    """Asks for all routes of one IP version."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Message(GETROUTE, DUMP, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")


def _route(destination: Network, *, gateway: IPAddress | None, index: int, mtu: int, protocol: int) -> bytes:
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    scope = SCOPE_UNIVERSE if gateway else SCOPE_LINK
    head = struct.pack("=BBBBBBBBI", family, destination.prefixlen, 0, 0, MAIN_TABLE, protocol, scope, UNICAST, 0)
    body = head + (attribute(RTA_DST, destination.network_address.packed) if destination.prefixlen else b"")
    body += attribute(RTA_GATEWAY, gateway.packed) if gateway else b""
    body += number(RTA_OIF, index) if index else b""
    body += nested(RTA_METRICS, number(RTAX_MTU, mtu)) if mtu else b""
    return body


def mac_bytes(mac: str) -> bytes:
    """`aa:bb:cc:dd:ee:ff` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def attributes(data: bytes) -> Mapping[int, bytes]:
    """Every rtattr of a block; the last of equal kinds wins."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def parse_link(body: bytes) -> LinkState:
    """A RTM_NEWLINK reply."""
    _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", body)
    found = attributes(body[16:])
    return LinkState(
        index=index,
        name=found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=int.from_bytes(found.get(IFLA_MTU, b""), "little"),
        up=bool(flags & IFF_UP),
        master=int.from_bytes(found.get(IFLA_MASTER, b""), "little"),
    )


def parse_address(body: bytes) -> tuple[int, str]:
    """A RTM_NEWADDR reply as (interface index, `address/prefix`)."""
    family, prefix, _, _, index = struct.unpack_from("=BBBBI", body)
    found = attributes(body[8:])
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")
    return index, f"{socket.inet_ntop(family, raw)}/{prefix}"


def parse_route(body: bytes) -> RouteState | None:
    """A RTM_NEWROUTE reply; None for another table than main."""
    family, prefix, _, _, table, protocol, _, kind, _ = struct.unpack_from("=BBBBBBBBI", body)
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
    )


class Socket:
    """A blocking rtnetlink socket in the network namespace in which the calling thread is when it opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def apply(self, messages: Sequence[Message]) -> None:
        """Sends all in one system call; raises NetlinkError for the first that the kernel refused."""
        first = self._send(messages, flags=REQUEST | ACK)
        failed: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for kind, sequence, body in self._receive():
                if kind != ERROR:
                    continue
                waiting -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code and failed is None:
                    failed = NetlinkError(code, messages[sequence - first].wanted)
        if failed:
            raise failed

    def ask(self, message: Message) -> list[bytes]:
        """The replies to one question; [] where the asked-for thing is not there."""
        self._send([message], flags=REQUEST | (0 if message.flags & DUMP else ACK))
        replies: list[bytes] = []
        while True:
            for kind, _, body in self._receive():
                if kind == DONE:
                    return replies
                if kind == ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code in (errno.ENODEV, errno.ENOENT):
                        return []
                    if code:
                        raise NetlinkError(code, message.wanted)
                    return replies
                replies.append(body)

    def link(self, name: str) -> LinkState | None:
        """One interface, or None."""
        replies = self.ask(get_link(name))
        return parse_link(replies[0]) if replies else None

    def _send(self, messages: Sequence[Message], *, flags: int) -> int:
        first = self._sequence + 1
        packet = bytearray()
        for message in messages:
            self._sequence += 1
            length = 16 + len(message.body)
            packet += (
                struct.pack("=IHHII", length, message.kind, flags | message.flags, self._sequence, 0) + message.body
            )
            packet += b"\0" * (-length % 4)
        self._socket.send(packet)
        return first

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
            yield kind, sequence, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3
