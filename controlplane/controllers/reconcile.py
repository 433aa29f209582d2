"""The machinery every controller shares: a queue of keys, caches that must be whole, and memory of own writes.

Owns the loop around a controller. Must not know any kind: each controller says which informers it reads and what
to do for a key.

A controller decides from its caches, which lag behind its own writes. `Unseen` remembers, per key, what was just
written and holds the key back until the cache shows it, so that nothing is made twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.controllers import writes
from kube import status
from kube.client.errors import Unreachable
from kube.client.events import EventRecorder
from kube.client.informer import Informer
from kube.client.rest import Client
from kube.runtime import workqueue
from kube.runtime.clock import Clock
from kube.runtime.component import Deps
from kube.scheme import Resource

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds until a write nobody saw is forgotten: the cache has been relisted by then
SOON = 0.05  # seconds until a key is planned again after someone else wrote first
PARALLEL = 16  # calls of one batch that run side by side


@dataclass(slots=True)
class _Wait:
    key: str
    version: int  # -1: wait for the deletion
    until: float


class Unseen:
    """Own writes that an informer has not shown yet, by the UID written to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waits: dict[str, _Wait] = {}
        self._keys: dict[str, set[str]] = {}
        self._followed: list[Informer[Any]] = []

    def follow(self, informer: Informer[Any]) -> None:
        """Learn from an informer what has become visible; from the first write on that it is to show."""
        if informer not in self._followed:
            self._followed.append(informer)
            informer.subscribe(self._seen)

    def wrote(self, key: str, obj: dict[str, Any], *, informer: Informer[Any]) -> None:
        """Remember that obj, as the API server answered it, was written for key."""
        self.follow(informer)
        meta = obj.get("metadata", {})
        uid, version = meta.get("uid", ""), _version(meta.get("resourceVersion"))
        cached = informer.cache.get(object_key(meta))
        if cached is not None and cached.metadata.uid == uid and _version(cached.metadata.resource_version) >= version:
            return
        self._expect(key, uid, version)

    def deleted(self, key: str, uid: str, *, name: str, informer: Informer[Any]) -> None:
        """Remember that the object of this UID (cached as name) was asked to go."""
        self.follow(informer)
        cached = informer.cache.get(name)
        if cached is not None and cached.metadata.uid == uid and not cached.metadata.deletion_timestamp:
            self._expect(key, uid, -1)

    def settled(self, key: str) -> bool:
        """Whether everything written for key can be seen, or has been waited for long enough."""
        now = self._clock.monotonic()
        for uid in [u for u in self._keys.get(key, ()) if self._waits[u].until <= now]:
            self._drop(uid)
        return key not in self._keys

    def _expect(self, key: str, uid: str, version: int) -> None:
        self._drop(uid)
        self._waits[uid] = _Wait(key, version, self._clock.monotonic() + PATIENCE)
        self._keys.setdefault(key, set()).add(uid)

    def _drop(self, uid: str) -> None:
        wait = self._waits.pop(uid, None)
        if wait is None:
            return
        uids = self._keys[wait.key]
        uids.discard(uid)
        if not uids:
            del self._keys[wait.key]

    def _seen(self, old: Any, new: Any) -> None:
        meta = (new or old).metadata
        wait = self._waits.get(meta.uid)
        if wait is None:
            return
        deletion = wait.version < 0
        if new is None or (
            bool(meta.deletion_timestamp) if deletion else _version(meta.resource_version) >= wait.version
        ):
            self._drop(meta.uid)


class Loop:
    """One controller: keys in, reconcile out. run() may be called again after a failure; nothing subscribes twice."""

    def __init__(
        self,
        name: str,
        *,
        deps: Deps,
        reads: Sequence[Informer[Any]],
        reconcile: Callable[[str], Awaitable[None]],
        workers: int = 1,
        source: str = "",
        everything: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        """source: who tells the events, the loop's name by default.

        everything: all keys there are, for a (re)start; the keys of the first informer's cache by default.
        """
        self.name = name
        self.queue: workqueue.WorkQueue[str] = workqueue.WorkQueue()
        self.unseen = Unseen(deps.clock)
        self._clock = deps.clock
        self._client = deps.client
        # Each controller tells events under its own name, as people know them from upstream.
        self._events = EventRecorder(deps.client, component=source or name, host="", clock=deps.clock)
        self._reads = tuple(reads)
        self._reconcile = reconcile
        self._workers = workers
        self._everything = everything or self._reads[0].cache.keys

    async def run(self) -> None:
        """Wait until every cache is whole, then work until cancelled."""
        for informer in self._reads:
            await informer.wait_synced()
        for key in list(self._everything()):
            self.queue.add(key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run(), name=f"{self.name}-events")
            await workqueue.work(self.queue, self._attend, workers=self._workers, name=self.name)

    def ready(self) -> str | None:
        """None once every cache this controller decides from is whole."""
        waiting = sum(1 for informer in self._reads if not informer.synced)
        return f"{self.name}: {waiting} caches not yet synced" if waiting else None

    async def reload(self) -> None:
        """Nothing to reload."""

    async def close(self) -> None:
        """Nothing to close: informers belong to whoever built them."""

    def tell(self, resource: Resource, meta: Any, *, type: str, reason: str, message: str) -> None:
        """Record an event about an object; never waits."""
        about = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        }
        self._events.event(about, type, reason, message)

    async def write(self, key: str, write: writes.Write, *, informer: Informer[Any]) -> dict[str, Any]:
        """Apply one write for key and remember it until the informer shows it."""
        answer = await writes.apply(self._client, write)
        if isinstance(write, writes.Delete):
            name = f"{write.namespace}/{write.name}" if write.namespace else write.name
            self.unseen.deleted(key, write.uid, name=name, informer=informer)
        else:
            self.unseen.wrote(key, answer, informer=informer)
        return answer

    async def write_all(
        self, key: str, plan: Sequence[writes.Write], *, informer: Informer[Any]
    ) -> list[BaseException | dict[str, Any]]:
        """Apply writes side by side; the answers or the errors, in order. Only API errors are returned."""
        gate = asyncio.Semaphore(PARALLEL)

        async def one(write: writes.Write) -> BaseException | dict[str, Any]:
            async with gate:
                try:
                    return await self.write(key, write, informer=informer)
                except (status.ApiError, Unreachable) as e:
                    return e

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(write)) for write in plan]
        return [task.result() for task in tasks]

    async def _attend(self, key: str) -> None:
        if not self.unseen.settled(key):
            # The event that shows the write brings the key back; this is for the case that none comes.
            self.queue.add_after(key, PATIENCE)
            return
        try:
            await self._reconcile(key)
        except status.ApiError as e:
            if not status.is_conflict(e):
                raise
            log.debug("%s: %s changed meanwhile, planning again", self.name, key)
            self.queue.add_after(key, SOON)


async def still_there(client: Client, resource: Resource, meta: Any) -> bool:
    """Ask the API server itself, before adopting: a cache may show an owner that was replaced or is on its way out."""
    try:
        fresh = await client.get(resource, meta.name, namespace=meta.namespace or None)
    except status.ApiError as e:
        if status.is_not_found(e):
            return False
        raise
    return bool(fresh["metadata"]["uid"] == meta.uid and not fresh["metadata"].get("deletionTimestamp"))


def object_key(meta: dict[str, Any]) -> str:
    """The informer cache key of an object's metadata."""
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def _version(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
