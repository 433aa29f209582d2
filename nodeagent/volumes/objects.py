"""The ConfigMaps and Secrets that pods of this node refer to: one watch for each, shared, ended with its last user.

Owns the cache and the watches. Must not know volumes or files. Only named objects are read, never a namespace's.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from kube import scheme, status
from kube.client import errors, watch
from kube.client.rest import Client
from kube.runtime import backoff, clock
from nodeagent.volumes.model import Content, VolumeError
from nodeagent.volumes.payload import ObjectKey

log = logging.getLogger(__name__)

_SETTLE = 0.3
"""Seconds before a watch is opened: a pod that starts has more urgent needs, and the watch misses nothing."""
_RESOURCES = {"configmap": scheme.CONFIG_MAPS, "secret": scheme.SECRETS}


def decode(kind: str, obj: Mapping[str, Any]) -> Content:
    """Decode the data of a ConfigMap or Secret into bytes. Raises ValueError when it is not valid base64."""
    plain: Mapping[str, str] = obj.get("data") or {}
    coded: Mapping[str, str] = obj.get("binaryData") or {}
    if kind == "secret":
        plain, coded = {}, plain
    try:
        data = {key: value.encode() for key, value in plain.items()}
        data |= {key: base64.b64decode(value, validate=True) for key, value in coded.items()}
    except binascii.Error as e:
        raise ValueError(f"data is not base64: {e}") from e
    return Content(data, bool(obj.get("immutable")))


@dataclasses.dataclass(slots=True)
class _Entry:
    key: ObjectKey
    users: set[str]
    lock: asyncio.Lock
    content: Content | None = None
    version: str = ""
    """Where a watch goes on from; empty before the object was seen."""
    task: asyncio.Task[None] | None = None


class Objects:
    """Objects in use, by key. `on_change` is called when the content of one becomes another."""

    def __init__(self, *, client: Client, clock: clock.Clock, on_change: Callable[[ObjectKey], None]) -> None:
        self._client = client
        self._clock = clock
        self._on_change = on_change
        self._entries: dict[ObjectKey, _Entry] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Keep the watches until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for entry in self._entries.values():
                    self._follow(entry)
                await asyncio.Event().wait()
        finally:
            self._group = None
            for entry in self._entries.values():
                entry.task = None

    async def use(self, key: ObjectKey, *, user: str) -> Content | None:
        """Return the object, None when it does not exist, and keep it fresh for this user. Raises VolumeError."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(key, set(), asyncio.Lock())
        entry.users.add(user)
        async with entry.lock:
            if entry.content is None:  # not read yet, or did not exist then
                entry.content, entry.version = await self._fetch(key)
        self._follow(entry)
        return entry.content

    async def read(self, key: ObjectKey) -> Content | None:
        """Read an object once, from a watch's cache where there is one. Raises VolumeError."""
        entry = self._entries.get(key)
        if entry is not None and entry.content is not None:
            return entry.content
        return (await self._fetch(key))[0]

    async def _fetch(self, key: ObjectKey) -> tuple[Content | None, str]:
        try:
            obj = await self._client.get(_RESOURCES[key.kind], key.name, namespace=key.namespace)
            return decode(key.kind, obj), obj["metadata"].get("resourceVersion", "")
        except status.ApiError as e:
            if status.is_not_found(e):
                return None, ""
            raise VolumeError(f"cannot read {key.kind} {key.namespace}/{key.name}: {e}") from e
        except (errors.ClientError, ValueError) as e:
            raise VolumeError(f"cannot read {key.kind} {key.namespace}/{key.name}: {e}") from e

    def release(self, user: str) -> None:
        """Forget a user; objects nobody uses are watched no more."""
        for entry in list(self._entries.values()):
            entry.users.discard(user)
            if not entry.users:
                del self._entries[entry.key]
                if entry.task is not None:
                    entry.task.cancel()

    def users(self, key: ObjectKey) -> frozenset[str]:
        """Who uses the object."""
        entry = self._entries.get(key)
        return frozenset(entry.users) if entry else frozenset()

    def _follow(self, entry: _Entry) -> None:
        immutable = entry.content is not None and entry.content.immutable
        if self._group is not None and entry.task is None and not immutable:
            entry.task = self._group.create_task(self._watch(entry), name=f"watch {entry.key.kind} {entry.key.name}")

    async def _watch(self, entry: _Entry) -> None:
        delays = backoff.Backoff(1.0, 60.0, jitter=0.2)
        pause = _SETTLE
        while True:
            await self._clock.sleep(pause)
            pause = _SETTLE
            try:
                if await self._watch_once(entry):
                    return
                delays.reset(entry.key)
            except errors.ClientError as e:
                pause = delays.next(entry.key)
                _tell(entry.key, e, pause)
            except Exception as e:  # whatever one object's watch meets, the others go on
                entry.version = ""
                if not status.is_gone(e):
                    pause = delays.next(entry.key)
                    _tell(entry.key, e, pause)

    async def _watch_once(self, entry: _Entry) -> bool:
        """Watch from the last known state until the server ends it. True: the object is immutable, nothing is left."""
        resource, selector = _RESOURCES[entry.key.kind], f"metadata.name={entry.key.name}"
        if not entry.version:
            listed = await self._client.list(resource, namespace=entry.key.namespace, field_selector=selector)
            items = listed.get("items") or []
            self._set(entry, decode(entry.key.kind, items[0]) if items else None)
            entry.version = listed["metadata"]["resourceVersion"]
        batches = self._client.watch_batches(
            resource, namespace=entry.key.namespace, field_selector=selector, resource_version=entry.version
        )
        async with contextlib.aclosing(batches):
            if entry.content is not None and entry.content.immutable:
                return True
            async for batch in batches:
                if self._take(entry, batch):
                    return True
        return False

    def _take(self, entry: _Entry, batch: Iterable[watch.WatchEvent]) -> bool:
        """Follow some events. True: the object has become immutable."""
        for event in batch:
            obj = msgspec.json.decode(event.raw)
            version = obj["metadata"]["resourceVersion"]  # before the rest: what has none is no object
            if event.type == "DELETED":
                self._set(entry, None)
            elif event.type in ("ADDED", "MODIFIED"):
                self._set(entry, decode(entry.key.kind, obj))
            entry.version = version
        return entry.content is not None and entry.content.immutable

    def _set(self, entry: _Entry, content: Content | None) -> None:
        if content != entry.content:
            entry.content = content
            self._on_change(entry.key)


def _tell(key: ObjectKey, error: Exception, pause: float) -> None:
    text = str(error) or type(error).__name__
    log.info("watch of %s %s/%s: %s; again in %.0f s", key.kind, key.namespace, key.name, text, pause)
