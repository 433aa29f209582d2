"""Names outside the cluster: asked of the servers in resolv.conf, cached, and never led back to ourselves.

Owns upstream sockets. A fresh id and source port for every query; TCP after a truncated reply; the next server after
silence; one question in flight for many who ask it.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

from proxy.dns import cache, wire
from proxy.dns.cache import Cache, Reply
from proxy.dns.wire import Query

log = logging.getLogger(__name__)

RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
MAX_UPSTREAMS = 15
TRY_SECONDS, TOTAL_SECONDS = 2.0, 5.0
MAX_CONCURRENT = 1000
DOWN_AFTER, DOWN_SECONDS = 2, 5.0


class LoopError(Exception):
    """The only servers in resolv.conf are on this machine: forwarding would come back to us."""


def nameservers(text: str) -> list[str]:
    """The addresses in a resolv.conf. PURE."""
    words = (line.split() for line in text.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and _is_address(line[1])]


def choose(own: str, systemd: str | None) -> list[str]:
    """The upstreams out of resolv.conf and systemd-resolved's list. PURE. Raises LoopError."""
    found = nameservers(own)
    outside = [server for server in found if not ip_address(server.split("%")[0]).is_loopback]
    if found and not outside and systemd is not None:
        outside = [s for s in nameservers(systemd) if not ip_address(s.split("%")[0]).is_loopback]
    if found and not outside:
        raise LoopError(
            f"the nameservers in resolv.conf ({', '.join(found)}) are on this machine, so forwarding would loop: "
            "name real ones in DNSConfiguration.upstreams"
        )
    return outside[:MAX_UPSTREAMS]


def configured(upstreams: Sequence[str], *, resolv_conf: Path = RESOLV_CONF) -> list[str]:
    """The configured servers, else those of this machine. Raises LoopError."""
    if upstreams:
        return list(upstreams)[:MAX_UPSTREAMS]
    own = resolv_conf.read_text() if resolv_conf.exists() else ""
    systemd = SYSTEMD_RESOLV_CONF.read_text() if SYSTEMD_RESOLV_CONF.exists() else None
    return choose(own, systemd)


class Upstream:
    """Answers questions by asking others."""

    def __init__(self, servers: Sequence[str], *, now: Callable[[], float], port: int = 53) -> None:
        self._servers = list(servers)
        self._port = port
        self._now = now
        self._failures: dict[str, tuple[int, float]] = {}
        self._flying: dict[bytes, asyncio.Future[Reply | None]] = {}
        self.cache = Cache()

    @property
    def available(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._servers)

    def cached(self, query: Query) -> tuple[Reply, int] | None:
        """A kept reply and its age."""
        return self.cache.get(query.key, now=self._now())

    async def ask(self, query: Query) -> Reply | None:
        """The reply of an upstream, or None when nobody answered in time."""
        if len(self._flying) >= MAX_CONCURRENT:
            return None
        waiting = self._flying.get(query.key)
        if waiting is not None:
            return await asyncio.shield(waiting)
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._flying[query.key] = future
        reply: Reply | None = None
        try:
            reply = await self._ask_in_turn(query)
            return reply
        finally:
            del self._flying[query.key]
            future.set_result(reply)

    async def _ask_in_turn(self, query: Query) -> Reply | None:
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                for server in self._order():
                    reply = await self._ask_one(server, query)
                    if reply is not None:
                        self.cache.put(query.key, reply, now=self._now())
                        return reply
        except TimeoutError:
            pass
        return None

    def _order(self) -> list[str]:
        """Random, those that failed lately last (and asked all the same when all did)."""
        now = self._now()
        servers = random.sample(self._servers, len(self._servers))
        return sorted(servers, key=lambda s: self._failures.get(s, (0, 0.0))[1] > now)

    async def _ask_one(self, server: str, query: Query) -> Reply | None:
        try:
            async with asyncio.timeout(TRY_SECONDS):
                reply = await self._by_udp(server, query)
                if reply.truncated:
                    reply = await self._by_tcp(server, query)
        except (OSError, TimeoutError, wire.FormatError, EOFError) as error:
            self._failed(server, error)
            return None
        self._failures.pop(server, None)
        return reply

    def _failed(self, server: str, error: Exception) -> None:
        count = self._failures.get(server, (0, 0.0))[0] + 1
        if count == DOWN_AFTER:
            log.warning("upstream %s does not answer (%s): others are asked first", server, error or "timeout")
        self._failures[server] = (count, self._now() + DOWN_SECONDS if count >= DOWN_AFTER else 0.0)

    async def _by_udp(self, server: str, query: Query) -> Reply:
        loop = asyncio.get_running_loop()
        number = secrets.randbelow(65536)
        received: asyncio.Future[Reply] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Exchange(number, query, received), remote_addr=(server, self._port)
        )
        try:
            transport.sendto(_message(number, query))
            return await received
        finally:
            transport.close()

    async def _by_tcp(self, server: str, query: Query) -> Reply:
        number = secrets.randbelow(65536)
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            message = _message(number, query)
            writer.write(len(message).to_bytes(2, "big") + message)
            reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            if int.from_bytes(reply[:2], "big") != number:
                raise wire.FormatError("the reply has another id")
            return cache.read(reply, question=query.question)
        finally:
            writer.close()


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the one reply that fits; anything else is somebody's guess and is ignored."""

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


def _is_address(text: str) -> bool:
    try:
        ip_address(text.split("%")[0])
    except ValueError:
        return False
    return True
