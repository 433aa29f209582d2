"""Telling users what happened to their objects: core/v1 Events.

Owns naming, aggregation and the bounded queue; recording never blocks and never fails the caller. Knows no reasons.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kube.runtime.log
from kube import scheme, status
from kube.client.errors import ClientError
from kube.client.rest import Client
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock, rfc3339

log = logging.getLogger(__name__)

MAX_QUEUED = 1000
MAX_REMEMBERED = 4096
MAX_TRIES = 12
MAX_MESSAGE = 1024
MAX_NAME = 253
_REFERENCE = ("apiVersion", "kind", "namespace", "name", "uid", "resourceVersion", "fieldPath")


@dataclass(frozen=True, slots=True)
class _Happening:
    reference: Mapping[str, str]
    type: str
    reason: str
    message: str
    when: str
    nanoseconds: int

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for what counts as the same event happening again."""
        same = (self.reference.get(name, "") for name in _REFERENCE if name != "resourceVersion")
        return (*same, self.type, self.reason, self.message)


@dataclass(slots=True)
class _Told:
    name: str
    namespace: str
    count: int


class EventRecorder:
    """Records events as one component on one host; `dropped` counts those lost to a full queue or a dead server."""

    def __init__(self, client: Client, *, component: str, host: str, clock: Clock) -> None:
        self._client, self._component, self._host, self._clock = client, component, host, clock
        self._queue: asyncio.Queue[_Happening] = asyncio.Queue(MAX_QUEUED)
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._last_name = 0
        self.dropped = 0

    def event(self, obj_ref: Mapping[str, Any], type: str, reason: str, message: str) -> None:
        """Record that `reason` happened to an object. `type` is Normal or Warning.

        `obj_ref` is an ObjectReference (`fieldPath` names a container) or a whole object.
        """
        if type not in ("Normal", "Warning"):
            raise ValueError(f"event type {type!r}: want Normal or Warning")
        now = self._clock.now()
        self._last_name = max(self._last_name + 1, int(now.timestamp() * 1e6) * 1000)
        happening = _Happening(reference(obj_ref), type, reason, message[:MAX_MESSAGE], rfc3339(now), self._last_name)
        try:
            self._queue.put_nowait(happening)
        except asyncio.QueueFull:
            self._drop(happening, "the queue is full")

    async def run(self) -> None:
        """Send what is recorded until cancelled."""
        while True:
            happening = await self._queue.get()
            try:
                await self._tell(happening)
            except Exception as error:
                kube.runtime.log.failure(log, f"event {happening.reason} was not recorded", error)
                self.dropped += 1

    async def flush(self, *, seconds: float) -> None:
        """Send what is queued, at most for `seconds`; for a process that ends while `run` no longer runs."""
        try:
            async with asyncio.timeout(seconds):
                while not self._queue.empty():
                    await self._tell(self._queue.get_nowait())
        except TimeoutError:
            log.info("%d events were not sent in time", self._queue.qsize())

    async def _tell(self, happening: _Happening) -> None:
        backoff = Backoff(1.0, 10.0)
        for _ in range(MAX_TRIES):
            try:
                await self._write(happening)
                return
            except status.ApiError as error:
                if error.code < 500 and error.code != 429:
                    raise
                reason = str(error)
            except ClientError as error:
                reason = str(error)
            log.debug("event %s waits: %s", happening.reason, reason)
            await self._clock.sleep(backoff.next())
        self._drop(happening, reason)

    async def _write(self, happening: _Happening) -> None:
        told = self._told.get(happening.identity)
        if told is not None and await self._count_up(told, happening):
            self._told.move_to_end(happening.identity)
            return
        made = self._object(happening)
        await self._client.create(scheme.EVENTS, made, namespace=made["metadata"]["namespace"])
        self._told[happening.identity] = _Told(made["metadata"]["name"], made["metadata"]["namespace"], 1)
        self._told.move_to_end(happening.identity)
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)

    async def _count_up(self, told: _Told, happening: _Happening) -> bool:
        """Whether the event that was told before is still there to be counted up (they live for an hour)."""
        change = {"count": told.count + 1, "lastTimestamp": happening.when}
        try:
            await self._client.patch(scheme.EVENTS, told.name, change, namespace=told.namespace)
        except status.ApiError as error:
            if status.is_not_found(error):
                return False
            raise
        told.count += 1
        return True

    def _object(self, happening: _Happening) -> dict[str, Any]:
        involved = happening.reference
        suffix = f".{happening.nanoseconds:x}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": involved.get("name", "")[: MAX_NAME - len(suffix)] + suffix,
                "namespace": involved.get("namespace") or "default",
            },
            "involvedObject": dict(involved),
            "type": happening.type,
            "reason": happening.reason,
            "message": happening.message,
            "source": {"component": self._component, "host": self._host},
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": happening.when,
            "lastTimestamp": happening.when,
            "count": 1,
        }

    def _drop(self, happening: _Happening, why: str) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8 ...: said, but not for each
            log.warning("event %s is dropped (%d so far): %s", happening.reason, self.dropped, why)


def reference(obj: Mapping[str, Any]) -> dict[str, str]:
    """An ObjectReference from one, or from a whole object."""
    meta = obj.get("metadata")
    flat = {**obj, **meta} if isinstance(meta, Mapping) else obj
    return {name: str(flat[name]) for name in _REFERENCE if flat.get(name)}
