"""The queue between events and reconciliation: keys, never objects.

Owns the three promises every controller leans on: a key waits at most once, is never worked on twice at once, and a
key added while it is worked on is worked on again. Retry lives here and nowhere else. Knows nothing about objects.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import kube.runtime.log
from kube.runtime.backoff import Backoff

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Bounded by the number of different keys. To be used on one event loop."""

    def __init__(self, *, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(0.005, 60.0)
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._complaints: dict[K, str] = {}

    def __len__(self) -> int:
        """Keys that wait to be worked on now (those due later not counted)."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Have `key` worked on as soon as a worker is free."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` worked on in `seconds`; of several such wishes the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if (pending := self._later.get(key)) is not None:
            if pending.when() <= due:
                return
            pending.cancel()
        self._later[key] = loop.call_at(due, self._due, key)

    def retry(self, key: K) -> None:
        """Add `key` after its back-off, which grows until `forget`."""
        self.add_after(key, self._backoff.next(key))

    def forget(self, key: K) -> None:
        """Reset the back-off of `key`: it succeeded, or is gone."""
        self._backoff.reset(key)
        self._complaints.pop(key, None)

    async def get(self) -> K:
        """The next key; the caller owes a `done` for it."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """Work on `key` ended; if it was added meanwhile, it is due again."""
        self._working.discard(key)
        if key in self._waiting:
            self._ready.put_nowait(key)

    def close(self) -> None:
        """Drop the timers of keys due later."""
        for handle in self._later.values():
            handle.cancel()
        self._later.clear()

    def first_complaint(self, key: K, text: str) -> bool:
        """Whether `text` is news about `key`, so that a lasting failure is logged once and not at every retry."""
        if self._complaints.get(key) == text:
            return False
        self._complaints[key] = text
        return True

    def _due(self, key: K) -> None:
        self._later.pop(key, None)
        self.add(key)


async def work(queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[None]], *, workers: int, name: str) -> None:
    """Reconcile keys with `workers` tasks until cancelled; a failed key is logged and retried with back-off."""
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(_worker(queue, reconcile, name=name), name=f"{name}-worker-{number}")
    finally:
        queue.close()


async def _worker(queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[None]], *, name: str) -> None:
    while True:
        key = await queue.get()
        try:
            await _shielded(reconcile, key)
        except Exception as error:
            if queue.first_complaint(key, repr(error)):
                kube.runtime.log.failure(log, f"{name}: {key} failed and will be tried again", error)
            queue.retry(key)
        else:
            queue.forget(key)
        finally:
            queue.done(key)


async def _shielded(reconcile: Callable[[K], Awaitable[None]], key: K) -> None:
    """Reconcile; a cancellation that was not meant for this worker (of something it waited for) is a failure."""
    try:
        await reconcile(key)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise InterruptedError("something it waited for was cancelled") from error
