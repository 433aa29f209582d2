"""The store as the API sees it: objects by resource and key, compare-and-swap writes, lists and watches from the cache.

Owns the order commit -> cache -> answer. Knows no kind and no HTTP; what to index per resource is registered.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from controlplane.store.backend import Backend, Row
from controlplane.store.cache import ResourceCache
from controlplane.store.entries import Entry, Index, Object, encode


class Storage:
    """All resources over one backend."""

    def __init__(self, backend: Backend, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._caches: dict[str, ResourceCache] = {}
        self._monotonic = monotonic
        self._replaying = False
        self._arrivals: list[tuple[int, asyncio.Future[None]]] = []
        self._kept_at: list[tuple[float, int]] = []

    @property
    def revision(self) -> int:
        """The newest revision every cache has seen."""
        return self._backend.revision

    def register(self, resource: str, fields: Index) -> None:
        """Describe how to index a resource; before `open`, so that replayed objects are indexed."""
        self._caches[resource] = ResourceCache(fields=fields, monotonic=self._monotonic)

    def cache(self, resource: str) -> ResourceCache:
        """The cache of a resource such as "pods" or "deployments.apps"."""
        found = self._caches.get(resource)
        if found is None:
            found = self._caches[resource] = ResourceCache(monotonic=self._monotonic)
            found.begin_at(self._backend.floor)
        return found

    def caches(self) -> dict[str, ResourceCache]:
        """Every known resource with its cache."""
        return self._caches

    async def open(self) -> None:
        """Open the backend and fill the caches."""
        self._replaying = True
        await self._backend.open(self._deliver)
        self._replaying = False
        for cache in self._caches.values():
            cache.begin_at(self._backend.floor)

    async def close(self) -> None:
        """End watches, then the backend."""
        for cache in self._caches.values():
            cache.end_watches()
        await self._backend.close()

    def get(self, resource: str, key: str) -> Entry | None:
        """The object at `key` ("namespace/name" or "name"), at the newest revision."""
        return self.cache(resource).items.get(key)

    async def create(self, resource: str, key: str, obj: Object) -> Entry:
        """Store a new object; RevisionConflict when the key is taken."""
        return await self._write(resource, key, obj, expected=0)

    async def replace(self, resource: str, key: str, obj: Object, *, expected: int) -> Entry:
        """Store a new state of the object seen at revision `expected`; RevisionConflict when it moved on."""
        return await self._write(resource, key, obj, expected=expected)

    async def remove(self, resource: str, key: str, obj: Object, *, expected: int) -> Entry:
        """Delete the object seen at revision `expected`; `obj` is its last state, which watchers are shown."""
        return await self._write(resource, key, obj, expected=expected, deleted=True)

    async def _write(self, resource: str, key: str, obj: Object, *, expected: int, deleted: bool = False) -> Entry:
        cache = self.cache(resource)
        hint = _Hint(cache.index(obj))
        await self._backend.write(f"{resource}/{key}", encode(obj), expected=expected, deleted=deleted, hint=hint)
        assert hint.entry is not None
        return hint.entry

    async def arrival(self, revision: int, *, timeout: float) -> bool:
        """Wait until `revision` has been seen; False after `timeout` seconds."""
        if revision <= self.revision:
            return True
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals.append((revision, arrived))
        try:
            async with asyncio.timeout(timeout):
                await arrived
        except TimeoutError:
            return False
        finally:
            self._arrivals = [pair for pair in self._arrivals if pair[1] is not arrived]
        return True

    async def compact(self, *, keep_seconds: float) -> None:
        """Forget history older than `keep_seconds`; call it regularly, it measures age by its own calls."""
        now = self._monotonic()
        self._kept_at.append((now, self.revision))
        old = [revision for at, revision in self._kept_at if now - at >= keep_seconds]
        if old:
            self._kept_at = [pair for pair in self._kept_at if now - pair[0] < keep_seconds]
            await self._backend.compact(old[-1])

    def _deliver(self, rows: Sequence[Row]) -> None:
        floor = self._backend.floor if self._replaying else 0
        for row in rows:
            cache = self.cache(row.name.partition("/")[0])
            hint = row.hint
            if isinstance(hint, _Hint):
                row.hint = hint.keys
                hint.entry = cache.apply(row, remember=True)
            else:
                cache.apply(row, remember=row.revision > floor)
        for revision, arrived in self._arrivals:
            if revision <= rows[-1].revision and not arrived.done():
                arrived.set_result(None)


class _Hint:
    """Carries the index keys to the cache, and the cached entry back to the writer."""

    __slots__ = ("entry", "keys")

    def __init__(self, keys: tuple[dict[str, str], dict[str, str]]) -> None:
        self.keys = keys
        self.entry: Entry | None = None
