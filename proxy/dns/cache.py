"""Replies of upstream servers, kept as long as they say. PURE with the time as an argument.

A reply is kept as bytes with the places of its TTLs, which count down when it is given out again. Bounded: when full,
the oldest go first. Failures are kept for a few seconds at most.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass

from proxy.dns import wire

MIN_TTL, MAX_TTL, MAX_NEGATIVE_TTL, FAILURE_TTL = 5, 3600, 1800, 5
MAX_ENTRIES = 9984


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An upstream reply behind its question: flags, counts, body without OPT, and where its TTLs are."""

    rcode: int
    counts: tuple[int, int, int]
    body: bytes
    ttls: tuple[tuple[int, int], ...]
    truncated: bool = False

    def life(self) -> int:
        """For how many seconds it may be kept."""
        if self.rcode not in (wire.NOERROR, wire.NXDOMAIN):
            return FAILURE_TTL
        shortest = min((ttl for _, ttl in self.ttls), default=MIN_TTL)
        negative = self.rcode == wire.NXDOMAIN or not self.counts[0]
        return max(MIN_TTL, min(shortest, MAX_NEGATIVE_TTL if negative else MAX_TTL))

    def aged(self, seconds: int) -> bytes:
        """The body with its TTLs counted down."""
        if not seconds or not self.ttls:
            return self.body
        body = bytearray(self.body)
        for place, ttl in self.ttls:
            struct.pack_into("!I", body, place, max(0, ttl - seconds))
        return bytes(body)


class Cache:
    """Replies by question key; `now` is monotonic seconds."""

    def __init__(self, entries: int = MAX_ENTRIES) -> None:
        self._limit = entries
        self._kept: OrderedDict[bytes, tuple[float, float, Reply]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, *, now: float) -> tuple[Reply, int] | None:
        """The reply and its age in whole seconds."""
        found = self._kept.get(key)
        if found is None or found[1] <= now:
            self._kept.pop(key, None)
            self.misses += 1
            return None
        self.hits += 1
        return found[2], int(now - found[0])

    def put(self, key: bytes, reply: Reply, *, now: float) -> None:
        """Keeps a reply; truncated ones are not kept."""
        if reply.truncated:
            return
        self._kept.pop(key, None)
        while len(self._kept) >= self._limit:
            self._kept.popitem(last=False)
        self._kept[key] = (now, now + reply.life(), reply)


def read(message: bytes, *, question: bytes) -> Reply:
    """A reply to `question` out of a message whose question is as long. Raises wire.FormatError."""
    number = len(question)
    if len(message) < 12 + number or message[12 : 12 + number - 4].lower() != question[:-4].lower():
        raise wire.FormatError("the reply is to another question")
    _, flags, questions, *counts = wire.HEADER.unpack_from(message)
    if questions != 1 or not flags & wire.QR:
        raise wire.FormatError("not a reply")
    start = 12 + number
    place, ttls, kept = start, [], bytearray()
    shift = 0
    totals = [0, 0, 0]
    for section, count in enumerate(counts):
        for _ in range(count):
            begin = place
            place = _skip_name(message, place)
            if place + 10 > len(message):
                raise wire.FormatError("a record is cut off")
            kind, _, ttl, length = struct.unpack_from("!HHIH", message, place)
            end = place + 10 + length
            if end > len(message):
                raise wire.FormatError("record data is cut off")
            if kind == wire.OPT:
                shift += end - begin
            elif shift:
                raise wire.FormatError("a record behind OPT")  # names may point into what moved
            else:
                ttls.append((len(kept) + place + 4 - begin, ttl))
                kept += message[begin:end]
                totals[section] += 1
            place = end
    return Reply(
        rcode=flags & 0xF,
        counts=(totals[0], totals[1], totals[2]),
        body=bytes(kept),
        ttls=tuple(ttls),
        truncated=bool(flags & wire.TC),
    )


def _skip_name(message: bytes, place: int) -> int:
    while place < len(message):
        length = message[place]
        if length & 0xC0 == 0xC0:
            return place + 2
        if not length:
            return place + 1
        place += 1 + length
    raise wire.FormatError("a name is cut off")
