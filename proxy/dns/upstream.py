"""Names outside the cluster: asked of other servers, cached, and never led back to ourselves.

Owns the choice of servers for a name, one question in flight for many who ask it, old replies when nobody answers, and
the refresh of popular ones before they end.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence

from proxy.dns import exchange as exchanges
from proxy.dns import pool, resolvconf, wire
from proxy.dns.cache import Cache, Reply
from proxy.dns.exchange import Exchange
from proxy.dns.pool import Pool, Server
from proxy.dns.wire import Query

log = logging.getLogger(__name__)

MAX_CONCURRENT = 1000
PROBE_SECONDS = 60.0
PROBE_LABEL = b"\x11nodeagent-loop-is"
HINFO = 13


class Upstream:
    """Answers questions by asking others. `servers` and those of `stubs` are `address` or `address:port`."""

    def __init__(
        self,
        servers: Sequence[str],
        *,
        now: Callable[[], float],
        port: int = resolvconf.PORT,
        policy: str = pool.RANDOM,
        stubs: Mapping[str, Sequence[str]] | None = None,
        cache: Cache | None = None,
        exchange: Exchange | None = None,
        max_concurrent: int = MAX_CONCURRENT,
    ) -> None:
        self._now = now
        self._exchange = exchange or exchanges.Network()
        self._max_concurrent = max_concurrent
        self._port = port
        self._flying: dict[bytes, asyncio.Future[Reply | None]] = {}
        self._refresh: asyncio.Queue[Query] = asyncio.Queue(maxsize=64)
        self._probes: dict[bytes, Server] = {}
        self.failures: dict[Server, int] = {}
        self.cache = Cache() if cache is None else cache
        self.loops: set[Server] = set()
        self.configure(servers, policy=policy, stubs=stubs or {})

    def configure(self, servers: Sequence[str], *, policy: str, stubs: Mapping[str, Sequence[str]]) -> None:
        """Takes over other servers; questions in flight end as they began."""
        self._pool = self._made(servers, policy)
        made = {wire.encode_name(zone.strip(".")): self._made(each, policy) for zone, each in stubs.items()}
        self._stubs = dict(sorted(made.items(), key=lambda item: -len(item[0])))

    def available(self, name: bytes) -> bool:
        """Whether there is anybody to ask for a name in wire format."""
        return bool(self._pool_for(name).servers)

    def cached(self, query: Query) -> tuple[Reply, int] | None:
        """A kept reply and its age in seconds."""
        found = self.cache.get(query.key, now=self._now())
        if found is not None and self.cache.due(query.key, now=self._now()) and not self._refresh.full():
            self._refresh.put_nowait(query)
        return found

    async def ask(self, query: Query) -> Reply | None:
        """The reply of an upstream, else an old one, or None when nobody answered in time."""
        key = query.key
        while (waiting := self._flying.get(key)) is not None:
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                return waiting.result()  # else who asked for all of us gave up: one of us asks anew
        servers = self._pool_for(query.name)
        if len(self._flying) >= self._max_concurrent:
            return None
        if servers.all_down and (old := self.cache.stale(key, now=self._now())) is not None:
            return old
        return await self._lead(query, servers)

    def is_probe(self, name: bytes) -> bool:
        """Whether a question is one we sent ourselves to find loops: then the server it went to leads back here."""
        if not name.startswith(PROBE_LABEL):
            return False
        server = self._probes.get(name)
        if server is not None and server not in self.loops:
            self.loops.add(server)
            log.error(
                "upstream %s leads back to this server and is not asked any more: name another one in "
                "DNSConfiguration.forward, or in this machine's resolv.conf",
                server[0],
            )
            for each in (self._pool, *self._stubs.values()):
                each.servers = [other for other in each.servers if other not in self.loops]
        return server is not None

    async def run(self) -> None:
        """Health checks, refreshes and the search for loops, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check_health())
            group.create_task(self._refresh_popular())
            group.create_task(self._probe())

    async def _lead(self, query: Query, servers: Pool) -> Reply | None:
        key = query.key
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._flying[key] = future
        try:
            reply = await servers.ask(query)
            if reply is not None:
                self.cache.put(key, reply, now=self._now())
            if reply is None or reply.rcode not in (wire.NOERROR, wire.NXDOMAIN):
                reply = self.cache.stale(key, now=self._now()) or reply
            future.set_result(reply)
            return reply
        finally:
            del self._flying[key]
            future.cancel()

    async def _check_health(self) -> None:
        while True:
            await asyncio.sleep(pool.CHECK_SECONDS)
            for each in (self._pool, *self._stubs.values()):
                await each.check()

    async def _refresh_popular(self) -> None:
        while True:
            query = await self._refresh.get()
            if query.key not in self._flying:
                await self._lead(query, self._pool_for(query.name))

    async def _probe(self) -> None:
        """Sends each server a name nobody else can know."""
        while True:
            for server in dict.fromkeys(
                server for each in (self._pool, *self._stubs.values()) for server in each.servers
            ):
                name = PROBE_LABEL + wire.encode_name(f"{secrets.token_hex(8)}.invalid")
                self._probes = {**dict(list(self._probes.items())[-64:]), name: server}
                end = HINFO.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")
                try:
                    async with asyncio.timeout(pool.TRY_SECONDS):
                        await self._exchange.ask(server, Query(0, wire.RD, name + end, name, HINFO, wire.IN))
                except pool.FAILURES:
                    continue
            await asyncio.sleep(PROBE_SECONDS)

    def _pool_for(self, name: bytes) -> Pool:
        for suffix, each in self._stubs.items():
            if name.endswith(suffix) and _at_label(name, suffix):
                return each
        return self._pool

    def _made(self, servers: Sequence[str], policy: str) -> Pool:
        found = [resolvconf.split(server, port=self._port) for server in servers]
        return Pool(found, exchange=self._exchange, policy=policy, failed=self._count_failure)

    def _count_failure(self, server: Server) -> None:
        self.failures[server] = self.failures.get(server, 0) + 1


def _at_label(name: bytes, suffix: bytes) -> bool:
    place, end = 0, len(name) - len(suffix)
    while place < end:
        place += 1 + name[place]
    return place == end
