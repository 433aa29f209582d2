"""Who answers a question: hosts entries, the cluster's zone, or upstream servers; and how the reply is put together.

Resolving never waits: it answers, or names the question an upstream must be asked first, and is then called again. So
an alias that leads outside, a rewritten name and a completed search path are all one loop. A malformed packet is
answered or dropped, never an exception.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from proxy.dns import rewrite, splice, wire
from proxy.dns.cache import Reply
from proxy.dns.hosts import Hosts
from proxy.dns.rewrite import Rule
from proxy.dns.upstream import Upstream
from proxy.dns.wire import Answer, FormatError, Query
from proxy.dns.zone import Zone

log = logging.getLogger(__name__)

OPCODE_MASK = 0x7800
MAX_TCP_REPLY = 65535
MAX_QUESTIONS = 16
VARIANTS = 4
ARPA = b"\x04arpa\0"

Known = Mapping[bytes, Reply | None]
Search = Callable[[str, bytes], Sequence[bytes]]


class Kept(NamedTuple):
    """An upstream's reply, its age in seconds and the question it belongs to."""

    reply: Reply
    age: int
    asked: Query


Found = Answer | Kept | Query


class Outcome(NamedTuple):
    """A reply; or a query for which upstream must be asked; or neither: drop it. `variants`: replies that differ."""

    reply: bytes | None
    query: Query | None
    rcode: int = 0
    kind: int = 0
    variants: int = 0


class Tally:
    """Counts of replies by (inside, protocol, type, code), and the time they took; read when somebody scrapes."""

    def __init__(self) -> None:
        self.replies: dict[tuple[str, int, int], int] = {}
        self.seconds = 0.0
        self.dropped = 0

    def add(self, proto: str, kind: int, rcode: int, *, times: int = 1) -> None:
        """Some replies of one sort."""
        key = (proto, kind, rcode)
        self.replies[key] = self.replies.get(key, 0) + times


class Resolver:
    """Answers messages. `search`: (client address, name) -> the names to try in place of a missing one."""

    def __init__(
        self,
        zone: Zone,
        upstream: Upstream,
        *,
        hosts: Hosts | None = None,
        rewrites: Sequence[Rule] = (),
        search: Search | None = None,
        tally: Tally | None = None,
        say: bool = False,
    ) -> None:
        self._zone = zone
        self._upstream = upstream
        self.configure(hosts=hosts or Hosts(), rewrites=rewrites)
        self._search = search
        self._say = say
        self.tally = tally or Tally()

    def configure(self, *, hosts: Hosts, rewrites: Sequence[Rule]) -> None:
        """Takes over other entries and rules."""
        self._hosts = hosts
        self._rewrites = tuple(rewrites)

    @property
    def moment(self) -> tuple[int, bool, int]:
        """While this is the same, the same message has the same reply."""
        return self._zone.serial, self._zone.synced, int(time.monotonic())

    def local(self, message: bytes, *, proto: str, client: str = "") -> Outcome:
        """The reply when it can be given now."""
        try:
            query = wire.parse(message)
        except FormatError:
            reply = wire.error(message, wire.FORMERR)
            if reply is not None:
                self.tally.add(proto, 0, wire.FORMERR)
            return Outcome(reply, None, wire.FORMERR)
        if query.flags & wire.QR:
            return Outcome(None, None)
        found: Found = self._refusal(query) or self._resolve(query, client, {})
        if isinstance(found, Query):
            return Outcome(None, query)
        reply, rcode = self._render(query, found, proto=proto)
        self.tally.add(proto, query.type, rcode)
        return Outcome(reply, None, rcode, query.type, self._variants(found))

    async def later(self, query: Query, *, proto: str, client: str = "") -> bytes:
        """The reply with what upstream servers say, or SERVFAIL."""
        known: dict[bytes, Reply | None] = {}
        found: Found = query
        for _ in range(MAX_QUESTIONS):
            found = self._resolve(query, client, known)
            if not isinstance(found, Query):
                break
            known[found.key] = await self._upstream.ask(found)
        if isinstance(found, Query):
            found = Answer(rcode=wire.SERVFAIL, authoritative=False)
        reply, rcode = self._render(query, found, proto=proto)
        self.tally.add(proto, query.type, rcode)
        return reply

    def _variants(self, found: Answer | Kept) -> int:
        if isinstance(found, Kept):
            return 1
        if self._search is not None and (found.rcode == wire.NXDOMAIN or _is_alias(found)):
            return 0  # it depends on who asks
        return max(1, min(VARIANTS, len(found.answers)))

    def _refusal(self, query: Query) -> Answer | None:
        if query.flags & OPCODE_MASK:
            return Answer(rcode=wire.NOTIMP, authoritative=False)
        if query.edns_version:
            return Answer(rcode=wire.BADVERS, authoritative=False)
        if query.cls != wire.IN or query.type in (wire.AXFR, wire.IXFR):
            return Answer(rcode=wire.REFUSED, authoritative=False)
        return None

    def _resolve(self, query: Query, client: str, known: Known) -> Found:
        asked = query
        if self._rewrites and (name := rewrite.rewritten(self._rewrites, query.name)) != query.name:
            asked = _under(query, name)
        found = self._one(asked, known)
        if self._search is None or not isinstance(found, Answer) or found.rcode != wire.NXDOMAIN:
            return found
        return self._completed(asked, client, known) or found

    def _one(self, asked: Query, known: Known) -> Found:
        """The answer to one name."""
        by_hand = self._hosts.answer(asked) if self._hosts else None
        if by_hand is not None:
            return by_hand
        zone = self._zone
        if zone.has(asked.name) or zone.covers(asked.name):
            if not zone.synced:
                return Answer(rcode=wire.SERVFAIL, authoritative=False)
            return self._followed(asked, zone.answer(asked), known)
        if not zone.synced and asked.name.endswith(ARPA):
            return Answer(rcode=wire.SERVFAIL, authoritative=False)  # it may be one of ours
        return self._outside(asked, known)

    def _followed(self, asked: Query, answer: Answer, known: Known) -> Found:
        """An alias that leads outside gets the addresses of its target, when they are to be had."""
        target = self._zone.external_target(asked) if _is_alias(answer) else None
        if target is None or not self._upstream.available(target):
            return answer
        found = self._outside(_under(asked, target), known)
        if isinstance(found, Query):
            return found
        if isinstance(found, Kept):
            return answer._replace(answers=answer.answers + _whole(found))
        return answer

    def _outside(self, asked: Query, known: Known) -> Found:
        if asked.key in known:
            reply = known[asked.key]
            return Kept(reply, 0, asked) if reply is not None else Answer(rcode=wire.SERVFAIL, authoritative=False)
        if self._upstream.is_probe(asked.name):
            return Answer(rcode=wire.REFUSED, authoritative=False)
        kept = self._upstream.cached(asked)
        if kept is not None:
            return Kept(kept[0], kept[1], asked)
        if not self._upstream.available(asked.name):
            return Answer(rcode=wire.SERVFAIL, authoritative=False)
        return asked

    def _completed(self, asked: Query, client: str, known: Known) -> Found | None:
        """The first name of the client's search path that is there, as the target of an alias."""
        if self._search is None or asked.type not in (wire.A, wire.AAAA):
            return None
        for name in self._search(client, asked.name):
            found = self._one(_under(asked, name), known)
            if isinstance(found, Query):
                return found
            records = found.answers if isinstance(found, Answer) else _whole(found)
            rcode = found.rcode if isinstance(found, Answer) else found.reply.rcode
            if rcode == wire.NOERROR:
                alias = wire.record(wire.CNAME, self._zone.ttl, name)
                owned = [name + each[2:] if each.startswith(wire.NAME_OF_QUESTION) else each for each in records]
                return Answer(answers=(alias, *owned))
        return None

    def _render(self, query: Query, found: Answer | Kept, *, proto: str) -> tuple[bytes, int]:
        limit = wire.limit_for(query) if proto == "udp" else MAX_TCP_REPLY
        if isinstance(found, Kept) and found.asked is not query:
            found = _answer(found)
        if isinstance(found, Kept):
            reply, rcode = _spliced(query, found, limit=limit), found.reply.rcode
        else:
            recursion = self._upstream.available(b"")
            reply, rcode = wire.respond(query, found, recursion=recursion, limit=limit), found.rcode
        if self._say:
            log.info("%s %d %s -> %d", wire.decode_name(query.name), query.type, proto, rcode)
        return reply, rcode


def _is_alias(found: Answer) -> bool:
    return bool(found.answers) and found.answers[0].startswith(wire.NAME_OF_QUESTION + wire.CNAME.to_bytes(2, "big"))


def _under(query: Query, name: bytes) -> Query:
    """The same question for another name."""
    return query._replace(name=name, question=name + query.question[-4:])


def _answer(found: Kept) -> Answer:
    """An upstream's reply as an answer under the name of whatever question."""
    try:
        sections = splice.records(found.reply, found.asked.question, age=found.age)
    except FormatError:
        return Answer(rcode=wire.SERVFAIL, authoritative=False)
    parts = [splice.under_question(section, found.asked.name) for section in sections]
    return Answer(found.reply.rcode, parts[0], parts[1], parts[2], authoritative=False)


def _whole(found: Kept) -> tuple[bytes, ...]:
    """The answer records of an upstream's reply, each with its full name."""
    try:
        section = splice.records(found.reply, found.asked.question, age=found.age)[0]
    except FormatError:
        return ()
    return tuple(owner + rest for owner, rest in section)


def _spliced(query: Query, found: Kept, *, limit: int) -> bytes:
    """The upstream's reply behind the client's own question; the names in it point to the same places."""
    reply = found.reply
    body = reply.aged(found.age)
    flags = wire.QR | wire.RA | (query.flags & (wire.RD | wire.CD)) | reply.rcode
    opt = wire.opt(reply.rcode, dnssec_ok=query.dnssec_ok) if query.edns else b""
    counts = reply.counts
    if 12 + len(query.question) + len(body) + len(opt) > limit:
        body, counts, flags = b"", (0, 0, 0), flags | wire.TC
    head = wire.HEADER.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + bool(opt))
    return head + query.question + body + opt
