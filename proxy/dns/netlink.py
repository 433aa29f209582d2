"""The few netlink messages that let this process answer on an address without connection tracking.

Numbers are from linux/rtnetlink.h, linux/netfilter/nfnetlink.h and nf_tables.h. Encoding is pure; `Table` holds a
socket. A table made with the owner flag lives exactly as long as the socket: when this process ends, however it ends,
the kernel takes the rules away in the same moment. When it hangs, the addresses in the set run out.
"""

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
REQUEST, ACK, REPLACE, CREATE, APPEND = 0x1, 0x4, 0x100, 0x400, 0x800
NEW_ROUTE, DELETE_ROUTE = 24, 25
TABLE_LOCAL, PROTOCOL_STATIC, SCOPE_HOST, TYPE_LOCAL = 255, 4, 254, 2
ROUTE_DESTINATION, ROUTE_DEVICE, ROUTE_SOURCE = 1, 4, 7
BATCH_BEGIN, BATCH_END, NFTABLES = 0x10, 0x11, 10
NEW_TABLE, NEW_CHAIN, NEW_RULE, NEW_SET = (NFTABLES << 8 | number for number in (0, 3, 6, 9))
NEW_ELEMENT, DELETE_ELEMENT = (NFTABLES << 8 | number for number in (12, 14))
SET, SET_TIMEOUT, SET_ID = "answering", 0x10, 1
KEY_TYPES = {4: 7, 6: 8}
"""How nft shows the addresses in the set."""
OWNER = 2
PREROUTING, OUTPUT, RAW_PRIORITY = 0, 3, -300
NESTED = 0x8000
ERROR = 2
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
META_L4PROTO = 16
TIMEOUT_SECONDS = 1.0
Address = IPv4Address | IPv6Address


class NetlinkError(Exception):
    """The kernel refused: the text says what and why."""


class Table:
    """An nftables table of our own that leaves DNS on some addresses out of connection tracking."""

    def __init__(self, name: str, addresses: Sequence[str], *, port: int) -> None:
        self._name = name
        self._families: dict[int, list[Address]] = {}
        for address in map(ip_address, addresses):
            self._families.setdefault(address.version, []).append(address)
        self._socket = _opened(NETLINK_NETFILTER)
        try:
            for version in self._families:
                _transact(self._socket, rules(name, version, port=port), f"table {name}")
        except (OSError, NetlinkError):
            self._socket.close()
            raise

    def keep(self, *, seconds: float) -> None:
        """Lets the rules count for so long from now. Raises OSError or NetlinkError."""
        for version, found in self._families.items():
            _transact(self._socket, kept(self._name, version, found, seconds=seconds), f"set {SET} of {self._name}")

    def close(self) -> None:
        """Ends the table."""
        self._socket.close()


def set_local(address: str, *, source: str | None, present: bool) -> None:
    """Makes this machine take packets to an address as its own, or no more. Raises NetlinkError."""
    message = local_route(ip_address(address), source=source, device=socket.if_nametoindex("lo"), present=present)
    with _opened(NETLINK_ROUTE) as opened:
        _transact(opened, [message], f"local route to {address}")


def local_route(address: Address, *, source: str | None, device: int, present: bool) -> bytes:
    """A route of type local. With `source` our own packets there do not get the address itself as theirs."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    kind, flags = (NEW_ROUTE, CREATE | REPLACE) if present else (DELETE_ROUTE, 0)
    body = struct.pack(
        "=BBBBBBBBI", family, address.max_prefixlen, 0, 0, TABLE_LOCAL, PROTOCOL_STATIC, SCOPE_HOST, TYPE_LOCAL, 0
    )
    body += _attribute(ROUTE_DESTINATION, address.packed) + _attribute(ROUTE_DEVICE, struct.pack("=I", device))
    if source is not None and ip_address(source).version == address.version and present:
        body += _attribute(ROUTE_SOURCE, ip_address(source).packed)
    return _message(kind, flags | ACK, body)


def rules(table: str, version: int, *, port: int) -> list[bytes]:
    """One transaction: a table with a set of addresses, and rules for DNS to and from them."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    name = _attribute(1, _text(table))
    shape = ((3, SET_TIMEOUT), (4, KEY_TYPES[version]), (5, 4 if version == 4 else 16), (10, SET_ID))
    addresses = _attribute(2, _text(SET)) + b"".join(_attribute(kind, _be(value)) for kind, value in shape)
    messages = [
        _nft(NEW_TABLE, family, CREATE, name + _attribute(2, _be(OWNER))),
        _nft(NEW_SET, family, CREATE, name + addresses),
        _nft(NEW_CHAIN, family, CREATE, name + _hook("prerouting", PREROUTING)),
        _nft(NEW_CHAIN, family, CREATE, name + _hook("output", OUTPUT)),
    ]
    for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        for chain in ("prerouting", "output"):
            for to in (True, False):
                rule = name + _attribute(2, _text(chain)) + _untracked(version, protocol, port=port, to=to)
                messages.append(_nft(NEW_RULE, family, CREATE | APPEND, rule))
    return _batch(messages)


def kept(table: str, version: int, addresses: Iterable[Address], *, seconds: float) -> list[bytes]:
    """One transaction: the set holds these addresses, for so long."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    where = _attribute(1, _text(table)) + _attribute(2, _text(SET))
    timeout = _attribute(4, int(seconds * 1000).to_bytes(8, "big"))
    rows = b"".join(
        _attribute(1 | NESTED, _attribute(1 | NESTED, _attribute(1, address.packed)) + timeout) for address in addresses
    )
    # Without elements: all of them. That a timeout is renewed in place is known to new kernels only.
    empty = _nft(DELETE_ELEMENT, family, 0, where)
    return _batch([empty, _nft(NEW_ELEMENT, family, CREATE, where + _attribute(3 | NESTED, rows))])


def _batch(messages: Iterable[bytes]) -> list[bytes]:
    edge = struct.pack(">BBH", 0, 0, NFTABLES)
    return [_message(BATCH_BEGIN, 0, edge), *messages, _message(BATCH_END, 0, edge)]


def _untracked(version: int, protocol: int, *, port: int, to: bool) -> bytes:
    """The expressions of "the destination (or source) is in the set, with this port" -> notrack."""
    start = {(4, True): 16, (4, False): 12, (6, True): 24, (6, False): 8}[version, to]
    in_set = _attribute(1, _text(SET)) + _attribute(2, _be(1)) + _attribute(4, _be(SET_ID))
    expressions = [
        ("payload", _payload(NETWORK_HEADER, start, 4 if version == 4 else 16)),
        ("lookup", in_set),
        ("meta", _attribute(1, _be(1)) + _attribute(2, _be(META_L4PROTO))),
        ("cmp", _equal(bytes([protocol]))),
        ("payload", _payload(TRANSPORT_HEADER, 2 if to else 0, 2)),
        ("cmp", _equal(port.to_bytes(2, "big"))),
        ("notrack", b""),
    ]
    rows = b"".join(
        _attribute(1 | NESTED, _attribute(1, _text(name)) + (_attribute(2 | NESTED, data) if data else b""))
        for name, data in expressions
    )
    return _attribute(4 | NESTED, rows)


def _payload(base: int, offset: int, length: int) -> bytes:
    return b"".join(_attribute(kind, _be(value)) for kind, value in enumerate((1, base, offset, length), 1))


def _equal(value: bytes) -> bytes:
    return _attribute(1, _be(1)) + _attribute(2, _be(0)) + _attribute(3 | NESTED, _attribute(1, value))


def _hook(chain: str, number: int) -> bytes:
    where = _attribute(1, _be(number)) + _attribute(2, struct.pack(">i", RAW_PRIORITY))
    return _attribute(3, _text(chain)) + _attribute(4 | NESTED, where) + _attribute(7, _text("filter"))


def _nft(kind: int, family: int, flags: int, body: bytes) -> bytes:
    return _message(kind, flags | ACK, struct.pack(">BBH", family, 0, 0) + body)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags | REQUEST, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _be(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _opened(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    opened.settimeout(TIMEOUT_SECONDS)
    opened.bind((0, 0))
    return opened


def _transact(opened: socket.socket, messages: Sequence[bytes], what: str) -> None:
    """Sends, and waits for as many answers as were asked for."""
    wanted = sum(bool(struct.unpack_from("=H", message, 6)[0] & ACK) for message in messages)
    opened.send(b"".join(messages))
    while wanted:
        data = opened.recv(1 << 16)
        place = 0
        while place + 20 <= len(data):
            length, kind = struct.unpack_from("=IH", data, place)
            if kind == ERROR:
                number = -struct.unpack_from("=i", data, place + 16)[0]
                if number:
                    raise NetlinkError(f"{what}: {os.strerror(number)}")
                wanted -= 1
            place += (length + 3) & ~3
