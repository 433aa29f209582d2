"""Replies of upstream servers, kept as long as they say. PURE with the time as an argument.

A reply is kept as bytes with the places of its TTLs, which count down when it is given out again. Bounded: when full,
the oldest go first. Failures are kept for a few seconds at most. A reply whose time is over stays for a while longer:
it serves when nobody answers any more.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass, replace

from proxy.dns import wire

MIN_TTL, MAX_TTL, MAX_NEGATIVE_TTL, FAILURE_TTL = 5, 3600, 1800, 5
MAX_ENTRIES = 9984
STALE_TTL = 30
"""What is told of a reply that is given out although its time is over (RFC 8767)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An upstream reply behind its question: flags, counts, body without OPT, and where its TTLs are."""

    rcode: int
    counts: tuple[int, int, int]
    body: bytes
    ttls: tuple[tuple[int, int], ...]
    truncated: bool = False

    def life(self, limits: "Limits | None" = None) -> int:
        """For how many seconds it may be kept."""
        limits = limits or Limits()
        if self.rcode not in (wire.NOERROR, wire.NXDOMAIN):
            return limits.failure
        shortest = min((ttl for _, ttl in self.ttls), default=limits.least)
        negative = self.rcode == wire.NXDOMAIN or not self.counts[0]
        return max(limits.least, min(shortest, limits.negative if negative else limits.positive))

    def aged(self, seconds: int) -> bytes:
        """The body with its TTLs counted down."""
        if not seconds or not self.ttls:
            return self.body
        body = bytearray(self.body)
        for place, ttl in self.ttls:
            struct.pack_into("!I", body, place, max(0, ttl - seconds))
        return bytes(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the cache, seconds. `stale`: how long after its end a reply may serve when nobody answers.

    `prefetch`: how often a reply must have been asked for to be refreshed in the last tenth of its life; 0 never.
    """

    positive: int = MAX_TTL
    negative: int = MAX_NEGATIVE_TTL
    least: int = MIN_TTL
    failure: int = FAILURE_TTL
    stale: int = 3600
    prefetch: int = 2
    entries: int = MAX_ENTRIES


class _Entry:
    __slots__ = ("end", "hits", "kept", "reply")

    def __init__(self, kept: float, end: float, reply: Reply) -> None:
        self.kept, self.end, self.reply, self.hits = kept, end, reply, 0


class Cache:
    """Replies by question key; `now` is monotonic seconds."""

    def __init__(self, entries: int = MAX_ENTRIES, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits(entries=entries)
        self._kept: OrderedDict[bytes, _Entry] = OrderedDict()
        self.hits = self.misses = self.served_stale = self.prefetches = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, *, now: float) -> tuple[Reply, int] | None:
        """The reply and its age in whole seconds."""
        found = self._kept.get(key)
        if found is None or found.end <= now:
            self.misses += 1
            return None
        self.hits += 1
        found.hits += 1
        return found.reply, int(now - found.kept)

    def due(self, key: bytes, *, now: float) -> bool:
        """Whether a popular reply is near its end; said once."""
        found = self._kept.get(key)
        least = self._limits.prefetch
        if found is None or not least or found.hits < least or found.end - now > (found.end - found.kept) / 10:
            return False
        found.hits = 0
        self.prefetches += 1
        return True

    def stale(self, key: bytes, *, now: float) -> Reply | None:
        """A good reply whose time is over, but not for long; its TTLs are short."""
        found = self._kept.get(key)
        if found is None or now > found.end + self._limits.stale or not self._limits.stale:
            return None
        if found.reply.rcode not in (wire.NOERROR, wire.NXDOMAIN):
            return None
        self.served_stale += 1
        body = bytearray(found.reply.body)
        for place, _ in found.reply.ttls:
            struct.pack_into("!I", body, place, STALE_TTL)
        return replace(found.reply, body=bytes(body), ttls=tuple((place, STALE_TTL) for place, _ in found.reply.ttls))

    def put(self, key: bytes, reply: Reply, *, now: float) -> None:
        """Keeps a reply; truncated ones are not kept, and a failure never takes the place of a good one."""
        if reply.truncated:
            return
        old = self._kept.get(key)
        failure = reply.rcode not in (wire.NOERROR, wire.NXDOMAIN)
        if failure and old is not None and now <= old.end + self._limits.stale and self._limits.stale:
            return
        self._kept.pop(key, None)
        while len(self._kept) >= self._limits.entries:
            self._kept.popitem(last=False)
        self._kept[key] = _Entry(now, now + reply.life(self._limits), reply)


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
            place = wire.skip_name(message, place)
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
