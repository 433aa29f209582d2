"""Some upstream servers that know the same names: in which order they are asked, and which are down.

Owns what is known of their health. Two failures mark a server as down; it is then asked every half second whether it is
back. When all are down one is asked all the same.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from proxy.dns import exchange as exchanges
from proxy.dns import wire
from proxy.dns.cache import Reply
from proxy.dns.exchange import Exchange
from proxy.dns.wire import Query

log = logging.getLogger(__name__)

RANDOM, ROUND_ROBIN, SEQUENTIAL = "random", "round_robin", "sequential"
POLICIES = (RANDOM, ROUND_ROBIN, SEQUENTIAL)
TRY_SECONDS, TOTAL_SECONDS = 2.0, 5.0
DOWN_AFTER, CHECK_SECONDS = 2, 0.5
Server = tuple[str, int]
FAILURES = (OSError, TimeoutError, wire.FormatError, EOFError)


class Pool:
    """Servers and their health."""

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        exchange: Exchange,
        policy: str = RANDOM,
        failed: Callable[[Server], None] = lambda server: None,
    ) -> None:
        self.servers = list(servers)
        self._exchange = exchange
        self._policy = policy
        self._failed_hook = failed
        self._failures: dict[Server, int] = {}
        self._turn = 0

    @property
    def down(self) -> list[Server]:
        """The servers that do not answer."""
        return [server for server in self.servers if self._failures.get(server, 0) >= DOWN_AFTER]

    @property
    def all_down(self) -> bool:
        """Whether nobody is known to answer."""
        return bool(self.servers) and len(self.down) == len(self.servers)

    async def ask(self, query: Query) -> Reply | None:
        """The first good reply; else the best of the bad; None when nobody answered in time."""
        bad: Reply | None = None
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                for server in self._order():
                    reply = await self._ask_one(server, query)
                    if reply is not None and reply.rcode in (wire.NOERROR, wire.NXDOMAIN):
                        return reply
                    bad = reply or bad
        except TimeoutError:
            pass
        return bad

    async def check(self) -> None:
        """Asks each server that is down whether it is back."""
        for server in self.down:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._exchange.ask(server, exchanges.ROOT)
            except FAILURES:
                continue
            self._failures.pop(server, None)
            log.info("upstream %s answers again", server[0])

    def _order(self) -> list[Server]:
        """As the policy says, those that are down last."""
        servers = list(self.servers)
        if self._policy == RANDOM:
            random.shuffle(servers)
        elif self._policy == ROUND_ROBIN and servers:
            self._turn += 1
            place = self._turn % len(servers)
            servers = servers[place:] + servers[:place]
        down = set(self.down)
        up = [server for server in servers if server not in down]
        return up + [server for server in servers if server in down][: 1 if up else None]

    async def _ask_one(self, server: Server, query: Query) -> Reply | None:
        try:
            async with asyncio.timeout(TRY_SECONDS):
                reply = await self._exchange.ask(server, query)
        except FAILURES as error:
            self._failed(server, error)
            return None
        self._failures.pop(server, None)
        return reply

    def _failed(self, server: Server, error: Exception) -> None:
        count = self._failures[server] = self._failures.get(server, 0) + 1
        self._failed_hook(server)
        if count == DOWN_AFTER:
            log.warning("upstream %s does not answer (%s): others are asked first", server[0], error or "timeout")
