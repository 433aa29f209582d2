"""Records of an upstream's reply made whole, so that they can stand in another message. PURE.

Needed where the answer is not simply the upstream's: behind an alias of ours, or under a name that was rewritten.
"""

import struct
from collections.abc import Iterator

from proxy.dns import wire
from proxy.dns.cache import Reply

MX, RP, AFSDB, DNAME = 15, 17, 18, 39
# How many plain bytes stand before the names in the data, and how many names there are. Of other types (since RFC 3597)
# the data must not be compressed.
NAMES_IN_DATA = {
    wire.NS: (0, 1),
    wire.CNAME: (0, 1),
    wire.PTR: (0, 1),
    DNAME: (0, 1),
    MX: (2, 1),
    AFSDB: (2, 1),
    wire.SRV: (6, 1),
    RP: (0, 2),
    wire.SOA: (0, 2),
}
MAX_JUMPS = 64


def records(reply: Reply, question: bytes, *, age: int = 0) -> tuple[list[tuple[bytes, bytes]], ...]:
    """Per section (owner in wire format, rest of the record) without pointers. Raises wire.FormatError."""
    message = bytes(12) + question + reply.aged(age)
    place = 12 + len(question)
    sections: list[list[tuple[bytes, bytes]]] = []
    for count in reply.counts:
        section = []
        for _ in range(count):
            owner, place = name(message, place)
            kind, cls, ttl, length = struct.unpack_from("!HHIH", message, place)
            data = _data(message, kind, place + 10, place + 10 + length)
            section.append((owner, struct.pack("!HHIH", kind, cls, ttl, len(data)) + data))
            place += 10 + length
        sections.append(section)
    return tuple(sections)


def name(message: bytes, place: int) -> tuple[bytes, int]:
    """The name at a place, without pointers, and where what follows it begins. Raises wire.FormatError."""
    return b"".join(_labels(message, place)), wire.skip_name(message, place)


def under_question(found: list[tuple[bytes, bytes]], asked: bytes) -> tuple[bytes, ...]:
    """Records whose owner is `asked` put under the name of the question, whatever that is; others keep theirs."""
    return tuple((wire.NAME_OF_QUESTION if owner.lower() == asked else owner) + rest for owner, rest in found)


def _labels(message: bytes, place: int) -> Iterator[bytes]:
    jumps = total = 0
    while True:
        if place >= len(message):
            raise wire.FormatError("a name is cut off")
        length = message[place]
        if length & 0xC0 == 0xC0:
            jumps += 1
            if jumps > MAX_JUMPS or place + 2 > len(message):
                raise wire.FormatError("a name's pointers run in a circle")
            place = int.from_bytes(message[place : place + 2], "big") & 0x3FFF
            continue
        total += length + 1
        if length > 63 or total > wire.MAX_NAME or place + 1 + length > len(message):
            raise wire.FormatError("a name is too long")
        yield message[place : place + 1 + length]
        if not length:
            return
        place += 1 + length


def _data(message: bytes, kind: int, place: int, end: int) -> bytes:
    plain, count = NAMES_IN_DATA.get(kind, (0, 0))
    if not count:
        return message[place:end]
    parts = [message[place : place + plain]]
    place += plain
    for _ in range(count):
        found, place = name(message, place)
        parts.append(found)
    if place > end:
        raise wire.FormatError("a name runs out of its record")
    return b"".join(parts) + message[place:end]
