"""Connection tracking: reads the kernel's entries, and deletes those that the caller picks.

One dump, never one command per entry. The kernel's own filter (CTA_FILTER) is not used: it is wrong for IPv6 and would
take all the others. Numbers are from linux/netfilter/nfnetlink_conntrack.h. Blocking; it works in the network namespace
of the calling thread. Must not know pods, Services or policies: which entries are stale is the caller's to say.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from kube.runtime import netlink
from kube.runtime.netlink import ACK, DONE, DUMP, ERROR, FAMILIES, NESTED, REQUEST, attribute, attributes

SUBSYSTEM = 1
GET, DELETE = (SUBSYSTEM << 8) | 1, (SUBSYSTEM << 8) | 2
TUPLE_ORIGINAL, TUPLE_REPLY = 1, 2
TUPLE_IP, TUPLE_PROTOCOL = 1, 2
SOURCE, DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}
PROTOCOL_NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One direction of a connection: from whom to whom. Ports are 0 where the protocol has none."""

    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A connection: who opened it to whom, and how answers come; they differ where addresses were translated.

    `name` is the raw original tuple, by which the kernel finds the entry again; `protocol` is a number.
    """

    version: int
    protocol: int
    original: Side
    reply: Side
    name: bytes

    @property
    def addresses(self) -> frozenset[str]:
        """Who opened it, to whom, and who answers."""
        return frozenset({self.original.source, self.original.destination, self.reply.source})


def parse(version: int, body: bytes) -> Entry:
    """An entry out of the attributes of a message. PURE. Raises KeyError where there are no tuples."""
    found = attributes(body)
    protocol, original = _side(version, found[TUPLE_ORIGINAL])
    return Entry(
        version=version,
        protocol=protocol,
        original=original,
        reply=_side(version, found[TUPLE_REPLY])[1],
        name=found[TUPLE_ORIGINAL],
    )


def entries(version: int, *, containing: bytes = b"") -> Iterator[Entry]:
    """All entries of an IP version, or those with these bytes in them: a quick first look. Raises OSError."""
    with netlink.opened() as opened:
        opened.send(netlink.message(GET, REQUEST | DUMP, 1, FAMILIES[version], b""))
        while True:
            for kind, _, body in netlink.messages(opened.recv(netlink.RECEIVE_BYTES)):
                if kind == DONE:
                    return
                if kind == ERROR:
                    number = netlink.error_number(body)
                    raise OSError(number, f"cannot read the connections: {os.strerror(number)}")
                if containing in body:
                    yield parse(version, body[netlink.FAMILY_HEADER_BYTES :])


def delete(version: int, stale: Callable[[Entry], bool], *, containing: bytes = b"") -> int:
    """Deletes the entries for which `stale` is true; how many. Raises OSError."""
    chosen = [entry.name for entry in entries(version, containing=containing) if stale(entry)]
    if not chosen:
        return 0
    with netlink.opened() as opened:
        for sequence, name in enumerate(chosen, 1):
            body = attribute(TUPLE_ORIGINAL | NESTED, name)
            opened.send(netlink.message(DELETE, REQUEST | ACK, sequence, FAMILIES[version], body))
            number = netlink.error_number(opened.recv(netlink.RECEIVE_BYTES)[netlink.HEADER_BYTES :])
            if number not in (0, errno.ENOENT):  # it may have timed out meanwhile
                raise OSError(number, f"cannot delete a connection: {os.strerror(number)}")
    return len(chosen)


def forget(address: str) -> int:
    """Deletes all entries with an address at one of their ends; how many. Raises OSError.

    For an address that another one gets: packets of a known connection pass without being judged.
    """
    parsed = ip_address(address)
    return delete(parsed.version, lambda entry: str(parsed) in entry.addresses, containing=parsed.packed)


def _side(version: int, data: bytes) -> tuple[int, Side]:
    found = attributes(data)
    ends, transport = attributes(found[TUPLE_IP]), attributes(found.get(TUPLE_PROTOCOL, b""))
    return transport.get(PROTOCOL_NUMBER, b"\0")[0], Side(
        source=str(ip_address(ends[SOURCE[version]])),
        destination=str(ip_address(ends[DESTINATION[version]])),
        source_port=int.from_bytes(transport.get(SOURCE_PORT, b""), "big"),
        destination_port=int.from_bytes(transport.get(DESTINATION_PORT, b""), "big"),
    )
