"""Netlink messages of netfilter: headers, attributes, sockets. What elements, rules and connection tracking share.

Numbers are from linux/netlink.h and linux/netfilter/nfnetlink.h. All but `opened` is PURE. Must not know what a message
is about.
"""

import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
REQUEST, ACK, DUMP, CREATE, APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
ERROR, DONE = 2, 3
NESTED = 0x8000
HEADER_BYTES, FAMILY_HEADER_BYTES = 16, 4
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
RECEIVE_BYTES = 1 << 17
TIMEOUT_SECONDS = 10.0


def attribute(kind: int, value: bytes) -> bytes:
    """One nlattr, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def text(value: str) -> bytes:
    """A name as netlink has it."""
    return value.encode() + b"\0"


def attributes(data: bytes) -> dict[int, bytes]:
    """The nlattrs of a block by type, without flags; the last of equal types wins."""
    return dict(items(data))


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The nlattrs of a block one by one: type without flags, value."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, family: int, body: bytes, *, resource: int = 0) -> bytes:
    """One nfnetlink message: its header, the family's, and the body."""
    head = struct.pack("=IHHII", HEADER_BYTES + FAMILY_HEADER_BYTES + len(body), kind, flags, sequence, 0)
    return head + struct.pack("=BB", family, 0) + struct.pack(">H", resource) + body


def messages(data: bytes, *, sender: bool = False) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence number or port of the sender, what follows the header) of each message of a datagram."""
    offset = 0
    while offset + HEADER_BYTES <= len(data):
        length, kind, _, sequence, port = struct.unpack_from("=IHHII", data, offset)
        if length < HEADER_BYTES:
            return
        yield kind, port if sender else sequence, data[offset + HEADER_BYTES : offset + length]
        offset += (length + 3) & ~3


def error_number(body: bytes) -> int:
    """The errno of an ERROR message; 0 is an acknowledgement."""
    return int(-struct.unpack_from("=i", body)[0])


def opened() -> socket.socket:
    """A blocking socket to netfilter, of the network namespace in which the calling thread is."""
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    found.settimeout(TIMEOUT_SECONDS)
    found.bind((0, 0))
    return found
