"""Local copies of collections, shared by everyone in the process who reads them.

Owns caches, indexes, handlers and their sharing; `kube.client.reflector` keeps them up to date. Objects are read-only
projections: never change one, never write one back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast, overload

from kube.client.reflector import Pulse, Reflector, Selection
from kube.client.rest import Client
from kube.runtime import lifetime
from kube.runtime.clock import Clock
from kube.scheme import Resource

log = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[T | None, T | None], None]

SLICE = 256
"""Objects handed to handlers before the loop may do something else."""


class Index(Generic[T]):
    """Objects by what a function says of them; kept up to date before handlers run."""

    def __init__(self, fn: Callable[[T], Iterable[str]]) -> None:
        self._fn = fn
        self._by_value: dict[str, dict[str, T]] = {}
        self._values: dict[str, tuple[str, ...]] = {}

    def get(self, value: str) -> list[T]:
        """The objects under `value`; empty when there is none."""
        return list(self._by_value.get(value, {}).values())

    def values(self) -> list[str]:
        """Every value that has an object."""
        return list(self._by_value)

    def put(self, key: str, obj: T) -> None:
        """For the informer."""
        try:
            values = tuple(self._fn(obj))
        except Exception:
            log.exception("index function failed on %s, which is left out", key)
            values = ()
        for gone in set(self._values.get(key, ())).difference(values):
            self._drop(gone, key)
        for value in values:
            self._by_value.setdefault(value, {})[key] = obj
        self._values[key] = values

    def remove(self, key: str) -> None:
        """For the informer."""
        for value in self._values.pop(key, ()):
            self._drop(value, key)

    def _drop(self, value: str, key: str) -> None:
        under = self._by_value[value]
        under.pop(key, None)
        if not under:
            del self._by_value[value]


class Informer(Generic[T]):
    """A collection's cache, keyed "namespace/name" or "name", and the handlers told of each change.

    It is itself the sink of its reflector.
    """

    def __init__(self, client: Client, selection: Selection, type: type[T], *, clock: Clock, pulse: Pulse) -> None:
        self.cache: dict[str, T] = {}
        self.selection = selection
        self._reflector: Reflector[T] = Reflector(client, selection, type, self, clock=clock, pulse=pulse)
        self._handlers: list[Handler[T]] = []
        self._indexes: list[Index[T]] = []
        self._synced = asyncio.Event()
        self._complaints: set[tuple[int, str]] = set()

    @property
    def synced(self) -> bool:
        """Whether the cache has held the whole collection once and every handler has seen it."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until `synced`; the caller sets the deadline."""
        await self._synced.wait()

    def subscribe(self, handler: Handler[T]) -> Callable[[], None]:
        """Call `handler(old, new)` on each change, at once with (None, obj) for what is there; returns the undo.

        Handlers are quick and synchronous: put a key into a work queue. A component's end undoes it by itself.
        """

        def undo() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)

        self._handlers.append(handler)
        lifetime.at_end(undo)
        for obj in list(self.cache.values()):
            self._call(handler, None, obj)
        return undo

    def add_index(self, fn: Callable[[T], Iterable[str]]) -> Index[T]:
        """An index by the values `fn` gives, filled at once; kept until the component that asked for it ends."""
        index = Index(fn)
        for key, obj in self.cache.items():
            index.put(key, obj)
        self._indexes.append(index)
        lifetime.at_end(lambda: self._indexes.remove(index))
        return index

    async def run(self) -> None:
        """Keep the cache up to date until cancelled."""
        await self._reflector.run()

    async def replace(self, objects: Mapping[str, T]) -> None:
        """The whole collection anew: what vanished meanwhile is told as deleted, what is unchanged is not told."""
        changes: list[tuple[T | None, T | None]] = []
        for key in [key for key in self.cache if key not in objects]:
            changes.append((self._forget(key), None))
        for key, obj in objects.items():
            old = self.cache.get(key)
            if old is None or _revision(old) != _revision(obj):
                changes.append((old, obj))
                self._remember(key, obj)
        handlers = tuple(self._handlers)  # who subscribes from here on is shown the new cache
        for number, (before, after) in enumerate(changes, 1):
            for handler in handlers:
                self._call(handler, before, after)
            if not number % SLICE:
                await asyncio.sleep(0)
        self._synced.set()

    def put(self, key: str, obj: T) -> None:
        """An object was added or changed."""
        old = self.cache.get(key)
        self._remember(key, obj)
        self._tell(old, obj)

    def remove(self, key: str) -> None:
        """An object is gone; handlers get its last known state."""
        if key in self.cache:
            self._tell(self._forget(key), None)

    def _remember(self, key: str, obj: T) -> None:
        self.cache[key] = obj
        for index in self._indexes:
            index.put(key, obj)

    def _forget(self, key: str) -> T:
        for index in self._indexes:
            index.remove(key)
        return self.cache.pop(key)

    def _tell(self, old: T | None, new: T | None) -> None:
        for handler in tuple(self._handlers):
            self._call(handler, old, new)

    def _call(self, handler: Handler[T], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception as error:
            complaint = (id(handler), repr(error))
            if complaint not in self._complaints:
                self._complaints.add(complaint)
                log.exception("%s: a handler failed; it stays subscribed", self.selection)


class Informers:
    """One informer per (resource, type, namespace, selectors), started when asked for, also while running."""

    def __init__(self, client: Client, *, clock: Clock) -> None:
        self._client, self._clock, self._pulse = client, clock, Pulse()
        self._informers: dict[tuple[Selection, type], Informer[Any]] = {}
        self._users: dict[tuple[Selection, type], int] = {}
        self._tasks: dict[tuple[Selection, type], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        client.on_found(self.retry_now)

    @overload
    def get(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer[dict[str, Any]]: ...
    @overload
    def get(
        self,
        resource: Resource,
        type: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer[T]: ...
    def get(
        self,
        resource: Resource,
        type: type = dict,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer[Any]:
        """The informer of a collection, made when nobody asked for it before."""
        selection = Selection(
            resource=resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        key = (selection, type)
        if key not in self._informers:
            self._informers[key] = Informer(self._client, selection, type, clock=self._clock, pulse=self._pulse)
            self._start(key)
        self._users[key] = self._users.get(key, 0) + 1
        return self._informers[key]

    def release(self, informer: Informer[Any]) -> None:
        """Undo one `get`; the last one stops the informer. For collections that are needed for a while only."""
        for key, each in list(self._informers.items()):
            if each is informer:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._informers[key], self._users[key]
                    if (task := self._tasks.pop(key, None)) is not None:
                        task.cancel()

    def retry_now(self) -> None:
        """The server was just reached: informers that wait before another try do it at once."""
        self._pulse.beat()

    def unsynced(self) -> str | None:
        """None when every informer is synced, else which are not; fits a component's `ready`."""
        waiting = [str(each.selection) for each in self._informers.values() if not each.synced]
        return f"waiting for {', '.join(waiting)}" if waiting else None

    async def wait_synced(self) -> None:
        """Wait until every informer asked for so far is synced."""
        for each in list(self._informers.values()):
            await each.wait_synced()

    async def run(self) -> None:
        """Run all informers, present and future, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for key in self._informers:
                    self._start(key)
                await cast("asyncio.Future[None]", asyncio.get_running_loop().create_future())
        finally:
            self._group = None
            self._tasks.clear()

    def _start(self, key: tuple[Selection, type]) -> None:
        if self._group is not None:
            self._tasks[key] = self._group.create_task(self._informers[key].run(), name=f"informer {key[0]}")


def _revision(obj: Any) -> Any:
    if isinstance(obj, dict):
        return obj["metadata"].get("resourceVersion")
    return getattr(obj.metadata, "resource_version", obj)
