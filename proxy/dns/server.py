"""The DNS server's sockets: UDP drained in batches, TCP with several queries a connection.

Owns transport and the choice between zone and upstream. A malformed packet is answered or dropped, never an exception.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.dns import wire
from proxy.dns.cache import Reply
from proxy.dns.upstream import Upstream
from proxy.dns.wire import Answer, FormatError, Query
from proxy.dns.zone import Zone

log = logging.getLogger(__name__)

BATCH = 64
RECEIVE_BUFFER = 4 << 20
MAX_PENDING = 1000
TCP_IDLE_SECONDS, TCP_CONNECTIONS = 10.0, 512
MAX_TCP_REPLY = 65535
OPCODE_MASK = 0x7800

Counted = Callable[[Query, int, str], None]
Local = bytes | None
Peer = tuple[Any, ...]
"""An address as the socket module gives it."""


class Resolver:
    """Decides who answers a message: the zone at once, or upstream later."""

    def __init__(self, zone: Zone, upstream: Upstream, *, count: Counted = lambda query, rcode, proto: None) -> None:
        self._zone = zone
        self._upstream = upstream
        self._count = count

    def local(self, message: bytes, *, proto: str) -> tuple[Local, Query | None]:
        """(reply, None) when it can be answered now; (None, query) when upstream must be asked; (None, None): drop."""
        try:
            query = wire.parse(message)
        except FormatError:
            return wire.error(message, wire.FORMERR), None
        if query.flags & wire.QR:
            return None, None
        answer = self._refusal(query) or self._from_zone(query)
        if answer is None:
            kept = self._upstream.cached(query)
            if kept is None:
                return None, query
            return self._forwarded(query, kept[0], kept[1], proto=proto), None
        return self._reply(query, answer, proto=proto), None

    async def later(self, query: Query, *, proto: str) -> bytes:
        """The reply out of upstream's, or SERVFAIL."""
        reply = await self._upstream.ask(query) if self._upstream.available else None
        if reply is None:
            return self._reply(query, Answer(rcode=wire.SERVFAIL, authoritative=False), proto=proto)
        return self._forwarded(query, reply, 0, proto=proto)

    def _refusal(self, query: Query) -> Answer | None:
        if query.flags & OPCODE_MASK:
            return Answer(rcode=wire.NOTIMP, authoritative=False)
        if query.edns_version:
            return Answer(rcode=wire.BADVERS, authoritative=False)
        if query.cls != wire.IN or query.type in (wire.AXFR, wire.IXFR):
            return Answer(rcode=wire.REFUSED, authoritative=False)
        return None

    def _from_zone(self, query: Query) -> Answer | None:
        if not (self._zone.covers(query.name) or self._zone.has(query.name)):
            return None
        if not self._zone.synced:
            return Answer(rcode=wire.SERVFAIL, authoritative=False)
        return self._zone.answer(query)

    def _reply(self, query: Query, answer: Answer, *, proto: str) -> bytes:
        self._count(query, answer.rcode, proto)
        limit = wire.limit_for(query) if proto == "udp" else MAX_TCP_REPLY
        return wire.respond(query, answer, recursion=self._upstream.available, limit=limit)

    def _forwarded(self, query: Query, reply: Reply, age: int, *, proto: str) -> bytes:
        self._count(query, reply.rcode, proto)
        limit = wire.limit_for(query) if proto == "udp" else MAX_TCP_REPLY
        body = reply.aged(age)
        flags = wire.QR | wire.RA | (query.flags & (wire.RD | wire.CD)) | reply.rcode
        opt = wire.opt(reply.rcode, dnssec_ok=query.dnssec_ok) if query.edns else b""
        counts = reply.counts
        if 12 + len(query.question) + len(body) + len(opt) > limit:
            body, counts, flags = b"", (0, 0, 0), flags | wire.TC
        head = wire.HEADER.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + bool(opt))
        return head + query.question + body + opt


class UdpServer:
    """One socket, drained in batches: a datagram costs no trip through the event loop."""

    def __init__(self, resolver: Resolver, address: str, port: int) -> None:
        self._resolver = resolver
        self._address = address
        self._port = port

    async def run(self, spawn: Callable[[Awaitable[None]], None]) -> None:
        """Serves until cancelled; `spawn` runs what must wait for upstream."""
        with open_udp(self._address, self._port) as opened:
            loop = asyncio.get_running_loop()
            loop.add_reader(opened, self._drain, opened, spawn)
            try:
                await loop.create_future()
            finally:
                loop.remove_reader(opened)

    def _drain(self, opened: socket.socket, spawn: Callable[[Awaitable[None]], None]) -> None:
        for _ in range(BATCH):
            try:
                message, peer = opened.recvfrom(4096)
            except OSError:
                return  # nothing left, or an ICMP error of an earlier reply
            reply, query = self._resolver.local(message, proto="udp")
            if reply is not None:
                _send(opened, reply, peer)
            elif query is not None:
                spawn(self._answer_later(opened, query, peer))

    async def _answer_later(self, opened: socket.socket, query: Query, peer: Peer) -> None:
        _send(opened, await self._resolver.later(query, proto="udp"), peer)


class TcpServer:
    """Queries with two bytes of length before each, answered in any order."""

    def __init__(self, resolver: Resolver, address: str, port: int) -> None:
        self._resolver = resolver
        self._address = address
        self._port = port
        self._open = 0

    async def run(self) -> None:
        """Serves until cancelled."""
        server = await asyncio.start_server(self._serve, self._address, self._port, reuse_address=True)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= TCP_CONNECTIONS:
                async with asyncio.TaskGroup() as group:
                    await self._queries(reader, writer, group)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ExceptionGroup):
            pass  # the client left or fell silent
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _queries(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: asyncio.TaskGroup
    ) -> None:
        while True:
            async with asyncio.timeout(TCP_IDLE_SECONDS):
                message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            reply, query = self._resolver.local(message, proto="tcp")
            if reply is not None:
                await _write(writer, reply)
            elif query is not None:
                group.create_task(self._later(writer, query))

    async def _later(self, writer: asyncio.StreamWriter, query: Query) -> None:
        await _write(writer, await self._resolver.later(query, proto="tcp"))


def open_udp(address: str, port: int) -> socket.socket:
    """A bound non-blocking socket with room for bursts. Raises OSError."""
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.bind((address, port))
    except OSError:
        opened.close()
        raise
    return opened


def _send(opened: socket.socket, reply: bytes, peer: Peer) -> None:
    with contextlib.suppress(OSError):  # a full socket or a vanished peer: the client asks again
        opened.sendto(reply, peer)


async def _write(writer: asyncio.StreamWriter, reply: bytes) -> None:
    writer.write(len(reply).to_bytes(2, "big") + reply)
    await writer.drain()
