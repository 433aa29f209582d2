"""The encoding that all rtnetlink messages share: headers, attributes, errors. PURE.

Numbers are those of linux/netlink.h and linux/rtnetlink.h. Must not know pods or CNI.
"""

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

REQUEST, ACK, DUMP, REPLACE, EXCL, CREATE, APPEND = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400, 0x800
ERROR, DONE = 2, 3
NESTED = 0x8000
HEADER_BYTES = 16

Network = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Message:
    """One request without its header; `wanted` says in words what it does, for the error that names it.

    `forgiven` are the errnos that are no failure: what is to be removed may be gone.
    """

    kind: int
    flags: int
    body: bytes
    wanted: str
    forgiven: frozenset[int] = frozenset()


class NetlinkError(Exception):
    """The kernel refused a message: `errno` and what the message was meant to do."""

    def __init__(self, number: int, wanted: str) -> None:
        super().__init__(f"{wanted}: {os.strerror(number)}")
        self.errno = number
        self.wanted = wanted


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


def mac_bytes(mac: str) -> bytes:
    """`aa:bb:cc:dd:ee:ff` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def attributes(data: bytes) -> Mapping[int, bytes]:
    """Every rtattr of a block; the last of equal kinds wins."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of one rtattr after the other."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
