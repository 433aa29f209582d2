"""One question to one upstream server, and its reply: over UDP, and over TCP after a truncated one.

A fresh id and source port for every question; a reply that does not fit is somebody's guess and is ignored.
"""

import asyncio
import secrets
from typing import Protocol

from proxy.dns import cache, wire
from proxy.dns.cache import Reply
from proxy.dns.wire import Query

NS = wire.NS.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")
ROOT = Query(0, wire.RD, b"\0" + NS, b"\0", wire.NS, wire.IN)
"""The question that tells whether a server is alive."""


class Exchange(Protocol):
    """How a server is asked; raises OSError, EOFError or wire.FormatError, and waits as long as it is let."""

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        """The reply to a question."""


class Network:
    """The real exchange."""

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        """The reply, never a truncated one."""
        reply = await _by_udp(server, query)
        return await _by_tcp(server, query) if reply.truncated else reply


async def _by_udp(server: tuple[str, int], query: Query) -> Reply:
    loop = asyncio.get_running_loop()
    number = secrets.randbelow(65536)
    received: asyncio.Future[Reply] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Waiting(number, query, received), remote_addr=server)
    try:
        transport.sendto(_message(number, query))
        return await received
    finally:
        transport.close()


async def _by_tcp(server: tuple[str, int], query: Query) -> Reply:
    number = secrets.randbelow(65536)
    reader, writer = await asyncio.open_connection(*server)
    try:
        message = _message(number, query)
        writer.write(len(message).to_bytes(2, "big") + message)
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        if int.from_bytes(reply[:2], "big") != number:
            raise wire.FormatError("the reply has another id")
        return cache.read(reply, question=query.question)
    finally:
        writer.close()


class _Waiting(asyncio.DatagramProtocol):
    """Waits for the one reply that fits."""

    def __init__(self, number: int, query: Query, received: asyncio.Future[Reply]) -> None:
        self._number = number.to_bytes(2, "big")
        self._query = query
        self._received = received

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] != self._number or self._received.done():
            return
        try:
            self._received.set_result(cache.read(data, question=self._query.question))
        except wire.FormatError:
            return

    def error_received(self, exc: Exception) -> None:
        if not self._received.done():
            self._received.set_exception(exc)


def _message(number: int, query: Query) -> bytes:
    """The question for an upstream: recursion wanted, EDNS with our own size."""
    opt = b"\0" + wire.OPT.to_bytes(2, "big") + wire.OUR_UDP.to_bytes(2, "big") + bytes(6)
    return wire.HEADER.pack(number, wire.RD, 1, 0, 0, 1) + query.question + opt
