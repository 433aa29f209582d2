"""One question to one upstream server, and its reply: over UDP, and over TCP after a truncated one.

A fresh id and source port for every question; a reply that does not fit is somebody's guess and is ignored.
"""

import asyncio
import secrets
import socket
from typing import Protocol

from proxy.dns import cache, wire
from proxy.dns.cache import Reply
from proxy.dns.wire import Query

MAX_REPLY = 65535
NS = wire.NS.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")
ROOT = Query(0, wire.RD, b"\0" + NS, b"\0", wire.NS, wire.IN)
"""The question that tells whether a server is alive."""


class Exchange(Protocol):
    """How a server is asked; raises OSError, EOFError or wire.FormatError, and waits as long as it is let."""

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        """The reply to a question."""


class Network:
    """The real exchange; counts what could not be read."""

    def __init__(self) -> None:
        self.malformed = 0

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        """The reply, never a truncated one."""
        reply = await self._by_udp(server, query)
        return await _by_tcp(server, query) if reply.truncated else reply

    async def _by_udp(self, server: tuple[str, int], query: Query) -> Reply:
        """A socket of its own for each question costs less than asyncio's endpoint, and has a port of its own."""
        loop = asyncio.get_running_loop()
        number = secrets.randbelow(65536)
        expected = number.to_bytes(2, "big")
        with socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.setblocking(False)
            opened.connect(server)
            opened.send(_message(number, query))
            while True:
                data = await loop.sock_recv(opened, MAX_REPLY)
                try:
                    if data[:2] == expected:
                        return cache.read(data, question=query.question)
                except wire.FormatError:
                    self.malformed += 1


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


def _message(number: int, query: Query) -> bytes:
    """The question for an upstream: recursion wanted, EDNS with our own size."""
    opt = b"\0" + wire.OPT.to_bytes(2, "big") + wire.OUR_UDP.to_bytes(2, "big") + bytes(6)
    return wire.HEADER.pack(number, wire.RD, 1, 0, 0, 1) + query.question + opt
