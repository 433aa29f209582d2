"""One open watch: a bounded queue of ready-made lines between cache and connection. Knows neither HTTP nor kinds."""

import asyncio
from collections import deque
from collections.abc import Sequence

from controlplane.store.entries import Event
from controlplane.store.scope import Scope

Change = tuple[str, Event]


class Watcher:
    """Filled by the cache, emptied by a connection. One that does not keep up is dropped: it may not hold memory."""

    __slots__ = ("_changes", "_limit", "_wake", "dropped", "ended", "scope")

    def __init__(self, scope: Scope, *, limit: int) -> None:
        self.scope = scope
        self.dropped = False
        self.ended = False
        self._changes: deque[Change] = deque()
        self._limit = limit
        self._wake: asyncio.Future[None] | None = None

    def offer(self, event: Event) -> None:
        """Queue the change if it is in scope; more than `limit` waiting changes drop the watcher."""
        kind = self.scope.classify(event)
        if kind is None or self.ended:
            return
        if len(self._changes) >= self._limit:
            self.dropped = True
            self._changes.clear()
            self.end()
            return
        self._changes.append((kind, event))
        self._signal()

    def preload(self, changes: Sequence[Change]) -> None:
        """Queue what happened before the watch was registered; not counted against the limit."""
        self._changes.extend(changes)

    def end(self) -> None:
        """No more changes will come; what is queued is still handed out."""
        self.ended = True
        self._signal()

    async def batch(self, *, timeout: float) -> list[Change]:
        """Every waiting change; empty after `timeout` seconds without one, or when the watch has ended."""
        if not self._changes and not self.ended:
            await self._wait(timeout)
        changes = list(self._changes)
        self._changes.clear()
        return changes

    async def _wait(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = loop.call_later(timeout, self._signal)
        try:
            await self._wake
        finally:
            timer.cancel()
            self._wake = None

    def _signal(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
