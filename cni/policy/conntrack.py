"""Forgets the connections of an address, when a pod gets the address that another had.

Packets of a known connection pass without being judged; those of the pod before must not reach the new one. Entries are
read and picked here: the kernel's own filter (CTA_FILTER) is wrong for IPv6 and would take all the others. Numbers are
from linux/netfilter/nfnetlink_conntrack.h. Must not know pods or policies.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

from kube.runtime.nfelements import FAMILIES, NESTED, NETLINK_NETFILTER, attribute, attributes, message

GET, DELETE = (1 << 8) | 1, (1 << 8) | 2
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
TUPLE_ORIGINAL, TUPLE_REPLY, TUPLE_IP = 1, 2, 1
SOURCES, DESTINATIONS = (1, 3), (2, 4)
HEADER_BYTES, RECEIVE_BYTES = 20, 1 << 17
TIMEOUT_SECONDS = 10.0


def forget(address: str) -> int:
    """Deletes all entries of an address in the network namespace of the calling thread; how many. Raises OSError."""
    parsed = ip_address(address)
    family = FAMILIES[parsed.version]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as opened:
        opened.settimeout(TIMEOUT_SECONDS)
        opened.bind((0, 0))
        opened.send(message(GET, REQUEST | DUMP, 1, family, b""))
        found = [original for entry in _entries(opened) if (original := concerned(entry, parsed.packed))]
        for sequence, original in enumerate(found, 2):
            body = attribute(TUPLE_ORIGINAL | NESTED, original)
            opened.send(message(DELETE, REQUEST | ACK, sequence, family, body))
            code = -struct.unpack_from("=i", opened.recv(RECEIVE_BYTES), 16)[0]
            if code not in (0, errno.ENOENT):  # it may have timed out meanwhile
                raise OSError(code, f"cannot forget the connections of {address}: {os.strerror(code)}")
    return len(found)


def concerned(entry: bytes, packed: bytes) -> bytes:
    """The original tuple, which names an entry, when an address is one of its ends before or after translation. PURE.

    Ends are who opened it, to whom, and who answers.
    """
    if packed not in entry:
        return b""  # one look over the bytes, for the thousands that are somebody else's
    found = attributes(entry)
    original = found.get(TUPLE_ORIGINAL, b"")
    ends, answers = (attributes(attributes(each).get(TUPLE_IP, b"")) for each in (original, found[TUPLE_REPLY]))
    held = {ends.get(kind) for kind in (*SOURCES, *DESTINATIONS)} | {answers.get(kind) for kind in SOURCES}
    return original if packed in held else b""


def _entries(opened: socket.socket) -> Iterator[bytes]:
    """The attributes of each entry of a dump."""
    while True:
        data = opened.recv(RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if kind == DONE:
                return
            if kind == ERROR:
                code = -struct.unpack_from("=i", data, offset + 16)[0]
                raise OSError(code, f"cannot read the connections: {os.strerror(code)}")
            yield data[offset + HEADER_BYTES : offset + length]
            offset += (length + 3) & ~3
