"""The DNS server's sockets: UDP drained in batches, TCP with several queries a connection.

Owns transport only. What was answered in this second is remembered as the bytes behind the id: the same question again
costs one look-up and one copy.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.dns.resolver import Resolver
from proxy.dns.wire import Query

log = logging.getLogger(__name__)

BATCH = 64
RECEIVE_BUFFER = 4 << 20
MAX_PENDING = 1000
MEMO_ENTRIES = 4096
TCP_IDLE_SECONDS, TCP_WRITE_SECONDS = 10.0, 10.0
TCP_CONNECTIONS, TCP_PENDING = 512, 64
MAX_MESSAGE = 4096

Peer = tuple[Any, ...]
"""An address as the socket module gives it."""
Spawn = Callable[[Awaitable[None]], None]


class _Memo:
    """The replies to one message, and how often they were given."""

    __slots__ = ("kind", "rcode", "replies", "times")

    def __init__(self, replies: list[bytes], kind: int, rcode: int) -> None:
        self.replies, self.kind, self.rcode, self.times = replies, kind, rcode, 0


class UdpServer:
    """One socket, drained in batches: a datagram costs no trip through the event loop."""

    def __init__(self, resolver: Resolver, address: str, port: int, *, free: bool = False) -> None:
        self._resolver = resolver
        self._address = address
        self._port = port
        self._free = free
        self._memo: dict[bytes, _Memo] = {}
        self._moment: object = None
        self._pending = 0

    async def run(self, spawn: Spawn) -> None:
        """Serves until cancelled; `spawn` runs what must wait for upstream."""
        with open_udp(self._address, self._port, free=self._free) as opened:
            loop = asyncio.get_running_loop()
            loop.add_reader(opened, self._drain, opened, spawn)
            try:
                await loop.create_future()
            finally:
                loop.remove_reader(opened)
                self._count()

    def _drain(self, opened: socket.socket, spawn: Spawn) -> None:
        begin = time.perf_counter()
        if (moment := self._resolver.moment) != self._moment:
            self._count()
            self._moment = moment
        memo = self._memo
        receive, send = opened.recvfrom, opened.sendto
        for _ in range(BATCH):
            try:
                message, peer = receive(MAX_MESSAGE)
            except OSError:
                break  # nothing left, or an ICMP error of an earlier reply
            known = memo.get(message[2:])
            if known is not None:
                replies = known.replies
                known.times += 1
                reply: bytes | None = message[:2] + replies[known.times % len(replies)]
            else:
                reply = self._first(message, peer, opened, spawn)
            if reply is not None:
                with contextlib.suppress(OSError):  # a full socket or a vanished peer: the client asks again
                    send(reply, peer)
        self._resolver.tally.seconds += time.perf_counter() - begin

    def _first(self, message: bytes, peer: Peer, opened: socket.socket, spawn: Spawn) -> bytes | None:
        """The reply to a message that is new in this moment."""
        found = self._resolver.local(message, proto="udp", client=peer[0])
        if found.query is not None:
            if self._pending < MAX_PENDING:
                self._pending += 1
                spawn(self._answer_later(opened, found.query, peer))
            else:
                self._resolver.tally.dropped += 1
            return None
        if found.reply is not None and found.variants:
            again = (self._resolver.local(message, proto="udp").reply for _ in range(found.variants - 1))
            replies = [found.reply[2:], *(reply[2:] for reply in again if reply)]
            if len(self._memo) >= MEMO_ENTRIES:
                self._count()
            self._memo[message[2:]] = _Memo(replies, found.kind, found.rcode)
            self._resolver.tally.add("udp", found.kind, found.rcode, times=1 - found.variants)
        return found.reply

    def _count(self) -> None:
        """Forgets what is remembered, after adding up how often it was asked for."""
        for known in self._memo.values():
            if known.times:
                self._resolver.tally.add("udp", known.kind, known.rcode, times=known.times)
        self._memo.clear()

    async def _answer_later(self, opened: socket.socket, query: Query, peer: Peer) -> None:
        try:
            reply = await self._resolver.later(query, proto="udp", client=peer[0])
            with contextlib.suppress(OSError):
                opened.sendto(reply, peer)
        finally:
            self._pending -= 1


class TcpServer:
    """Queries with two bytes of length before each, answered in any order."""

    def __init__(self, resolver: Resolver, address: str, port: int, *, free: bool = False) -> None:
        self._resolver = resolver
        self._address = address
        self._port = port
        self._free = free
        self._open = 0

    async def run(self) -> None:
        """Serves until cancelled."""
        with open_tcp(self._address, self._port, free=self._free) as opened:
            server = await asyncio.start_server(self._serve, sock=opened)
            async with server:
                await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= TCP_CONNECTIONS:
                async with asyncio.TaskGroup() as group:
                    await self._queries(reader, writer, group)
        except (OSError, TimeoutError, ExceptionGroup):
            pass  # the client left while it was answered
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _queries(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: asyncio.TaskGroup
    ) -> None:
        """Reads queries until the client says no more or falls silent; what is still to be answered is answered."""
        client = writer.get_extra_info("peername")[0]
        free = asyncio.Semaphore(TCP_PENDING)
        while True:
            try:
                async with asyncio.timeout(TCP_IDLE_SECONDS):
                    message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            except (asyncio.IncompleteReadError, TimeoutError, OSError):
                return
            found = self._resolver.local(message, proto="tcp", client=client)
            if found.reply is not None:
                await _write(writer, found.reply)
            elif found.query is not None:
                await free.acquire()
                group.create_task(self._later(writer, found.query, client, free))

    async def _later(self, writer: asyncio.StreamWriter, query: Query, client: str, free: asyncio.Semaphore) -> None:
        try:
            await _write(writer, await self._resolver.later(query, proto="tcp", client=client))
        finally:
            free.release()


def open_udp(address: str, port: int, *, free: bool = False) -> socket.socket:
    """A bound non-blocking socket with room for bursts; `free`: the address need not be this machine's. OSError."""
    return _bound(address, port, socket.SOCK_DGRAM, free=free)


def open_tcp(address: str, port: int, *, free: bool = False) -> socket.socket:
    """A bound socket to listen on. Raises OSError."""
    return _bound(address, port, socket.SOCK_STREAM, free=free)


def _bound(address: str, port: int, kind: socket.SocketKind, *, free: bool) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        opened.setblocking(False)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if free:
            opened.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        opened.bind((address, port))
    except OSError:
        opened.close()
        raise
    return opened


IP_FREEBIND = 15
"""From linux/in.h; Python has no name for it."""


async def _write(writer: asyncio.StreamWriter, reply: bytes) -> None:
    async with asyncio.timeout(TCP_WRITE_SECONDS):
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
