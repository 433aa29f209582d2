"""Keeping up with one collection: the initial state, then every change, over disconnects and lost history.

Owns WatchList, its fallback to list and watch, resumption and back-off. Hands decoded objects to a `Sink`; must not
know caches, handlers or what objects mean.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

import kube.runtime.log
import kube.types
from kube import status
from kube.client.errors import ClientError
from kube.client.rest import Client
from kube.client.watch import WatchEvent
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from kube.scheme import Resource

log = logging.getLogger(__name__)

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
INITIAL_SILENCE_SECONDS = 15.0
WATCH_SECONDS = (300, 600)
SHORT_WATCH_SECONDS = 1.0


class Sink(Protocol[T_contra]):
    """Takes the collection in; each call is one consistent step."""

    async def replace(self, objects: Mapping[str, T_contra]) -> None:
        """The whole collection as it is now."""

    def put(self, key: str, obj: T_contra) -> None:
        """One object was added or changed."""

    def remove(self, key: str) -> None:
        """One object is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which collection: a resource, in one namespace or all, narrowed by selectors."""

    resource: Resource
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""

    def __str__(self) -> str:
        parts = [self.namespace, self.label_selector, self.field_selector]
        return " ".join([self.resource.group_resource, *(part for part in parts if part)])


class Pulse:
    """Ends waits early: once one reflector reaches the server again, its neighbours need not sit out their back-off."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """End every wait."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for a beat, at most for `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Partial(msgspec.Struct, frozen=True):
    metadata: _Meta


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class Reflector(Generic[T]):
    """Feeds a sink until cancelled; `type` is what objects are decoded into (dict for the whole object)."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        type: type[T],
        sink: Sink[T],
        *,
        clock: Clock,
        pulse: Pulse | None = None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._pulse = pulse or Pulse()
        self._client, self._selection, self._sink, self._clock, self._rand = client, selection, sink, clock, rand
        self._type = type
        self._partial = msgspec.json.Decoder(_Partial)
        self._backoff = Backoff(0.8, 30.0, jitter=1.0, rand=rand)
        self._revision = ""
        self._watch_list = True
        self._complaint = ""
        self._undecodable: set[str] = set()

    async def run(self) -> None:
        """Follow the collection for ever; every failure is followed by a wait and another try."""
        while True:
            started = self._clock.monotonic()
            try:
                events = await self._follow()
            except (status.ApiError, ClientError) as error:
                wait = self._failed(error)
            except Exception as error:
                kube.runtime.log.failure(log, f"{self._selection}: informer failed and starts again", error)
                self._revision, wait = "", self._backoff.next()
            else:
                if not events and self._clock.monotonic() - started < SHORT_WATCH_SECONDS:
                    wait = self._backoff.next()  # a server that ends watches at once must not be stormed
                else:
                    self._backoff.reset()
                    wait = 0.0
            if wait:
                await self._pulse.wait(wait)

    async def _follow(self) -> int:
        """One watch from start to end; the number of event batches it brought."""
        if self._revision:
            return await self._watch(initial=False)
        if self._watch_list:
            return await self._watch(initial=True)
        await self._list()
        return await self._watch(initial=False)

    async def _list(self) -> None:
        chosen = self._selection
        body = await self._client.list_raw(
            chosen.resource,
            namespace=chosen.namespace,
            label_selector=chosen.label_selector,
            field_selector=chosen.field_selector,
        )
        found = msgspec.json.decode(body, type=_List)
        objects: dict[str, T] = {}
        for raw in found.items or ():
            self._collect(objects, raw)
        await self._sink.replace(objects)
        self._revision = found.metadata.resource_version

    async def _watch(self, *, initial: bool) -> int:
        chosen, count = self._selection, 0
        shortest, longest = WATCH_SECONDS
        batches = self._client.watch_batches(
            chosen.resource,
            namespace=chosen.namespace,
            label_selector=chosen.label_selector,
            field_selector=chosen.field_selector,
            resource_version="" if initial else self._revision,
            initial_events=initial,
            timeout_seconds=int(shortest + (longest - shortest) * self._rand()),
        )
        pending: dict[str, T] | None = {} if initial else None
        async with contextlib.aclosing(batches):
            while (batch := await self._next(batches, silence=pending is not None)) is not None:
                if not batch:
                    if not initial:
                        self._recovered()
                    continue
                count += 1
                self._backoff.reset()
                if pending is not None:
                    pending = await self._take_initial(batch, pending)
                else:
                    self._take(batch)
        return count

    async def _next(self, batches: Any, *, silence: bool) -> list[WatchEvent] | None:
        """The next batch, or None at the end. A server that does not know WatchList never ends the initial events."""
        try:
            if not silence:
                return await anext(batches, None)
            async with asyncio.timeout(INITIAL_SILENCE_SECONDS):
                return await anext(batches, None)
        except TimeoutError as error:
            self._watch_list = False
            raise ClientError("the initial events did not end; listing instead") from error

    async def _take_initial(self, batch: list[WatchEvent], pending: dict[str, T]) -> dict[str, T] | None:
        """Collect until the bookmark that ends the initial events; then hand over, and take the rest as changes."""
        for number, event in enumerate(batch):
            if event.type == "BOOKMARK":
                meta = self._partial.decode(event.raw).metadata
                if (meta.annotations or {}).get(INITIAL_EVENTS_END) == "true":
                    await self._sink.replace(pending)
                    self._recovered()
                    self._revision = meta.resource_version
                    self._take(batch[number + 1 :])
                    return None
            elif event.type == "DELETED":
                pending.pop(_key(self._partial.decode(event.raw).metadata), None)
            else:
                self._collect(pending, event.raw)
        return pending

    def _take(self, batch: list[WatchEvent]) -> None:
        for event in batch:
            if event.type == "DELETED":
                self._sink.remove(_key(self._partial.decode(event.raw).metadata))
            elif event.type != "BOOKMARK" and (obj := self._decode(event.raw)) is not None:
                self._sink.put(_key_of(obj), obj)
        if batch and (revision := self._partial.decode(batch[-1].raw).metadata.resource_version):
            if revision.isdigit() and self._revision.isdigit() and int(revision) < int(self._revision):
                raise status.expired(f"the server went back from revision {self._revision} to {revision}")
            self._revision = revision

    def _collect(self, objects: dict[str, T], raw: msgspec.Raw) -> None:
        if (obj := self._decode(raw)) is not None:
            objects[_key_of(obj)] = obj

    def _decode(self, raw: msgspec.Raw) -> T | None:
        """The object, or None (said once) when it is not what the type says: one odd object must not stop the rest."""
        try:
            return kube.types.decode(raw, self._type)
        except kube.types.DecodeError as error:
            key = _key(self._partial.decode(raw).metadata)
            if key not in self._undecodable:
                self._undecodable.add(key)
                log.error("%s: %s is ignored, it cannot be read: %s", self._selection, key, error)
            return None

    def _failed(self, error: status.ApiError | ClientError) -> float:
        """Decide how to go on after a failure; how long to wait first."""
        if isinstance(error, status.ApiError):
            if _history_lost(error):
                log.info("%s: starting over: %s", self._selection, error)
                had_some, self._revision = bool(self._revision), ""
                return 0.0 if had_some else self._backoff.next()
            if not self._revision and self._watch_list and _refused(error):
                log.debug("%s: the server refuses WatchList, listing instead: %s", self._selection, error)
                self._watch_list = False
                return 0.0
        else:
            self._client.lost()
        text = kube.runtime.log.describe(error)
        complaint = text if isinstance(error, status.ApiError) else type(error).__name__
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning("%s: cannot be watched, will try again: %s", self._selection, text)
        return max(self._backoff.next(), float(getattr(error, "retry_after", None) or 0))

    def _recovered(self) -> None:
        if self._complaint:
            self._complaint = ""
            log.info("%s: watched again", self._selection)
            self._pulse.beat()


def _history_lost(error: status.ApiError) -> bool:
    """Whether the revision to resume from is of no use: compacted, or from the future of a restored store."""
    causes = error.details.get("causes") or ()
    return status.is_gone(error) or any(each.get("reason") == "ResourceVersionTooLarge" for each in causes)


def _refused(error: status.ApiError) -> bool:
    """Whether a plain list may fare better: also after a fault, as upstream answers on a storage too old for it."""
    return error.code not in (401, 403, 404, 408, 410, 429, 503)


def _key(meta: _Meta) -> str:
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def _key_of(obj: Any) -> str:
    if isinstance(obj, dict):
        meta = obj["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
    else:
        namespace, name = obj.metadata.namespace, obj.metadata.name
    return f"{namespace}/{name}" if namespace else str(name)
