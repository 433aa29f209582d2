"""Writing pod statuses to the API: the newest one of each pod, only when it differs, retried until it is there."""

import asyncio
import dataclasses
import logging
from typing import Any, Final

import msgspec

from kube import scheme, status, types
from kube.client.rest import Client
from kube.runtime import backoff, workqueue
from nodeagent.pods import spec
from nodeagent.status import patch

log = logging.getLogger(__name__)

Json = dict[str, Any]
WRITERS: Final = 4


@dataclasses.dataclass(slots=True)
class Entry:
    """One pod: what shall be there, and what is known to be there."""

    pod: types.Pod
    wanted: Json
    written: Json
    lock: asyncio.Lock
    gone: bool = False
    version: int = 0
    """The resourceVersion in which `written` was there."""


class StatusWriter:
    """Statuses on their way to the API."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._entries: dict[str, Entry] = {}
        self._mirrors: dict[str, str] = {}
        self._queue: workqueue.WorkQueue[str] = workqueue.WorkQueue(backoff=backoff.Backoff(0.2, 10.0))

    def publish(self, pod: types.Pod, wanted: Json, *, delay: float = 0.0) -> None:
        """Has `wanted` written, unless it is there already: now, or after `delay` seconds if nothing newer comes."""
        uid = pod.metadata.uid
        entry = self._entries.get(uid)
        if entry is None:
            known: Json = msgspec.to_builtins(pod.status)
            entry = self._entries[uid] = Entry(pod=pod, wanted=wanted, written=known, lock=asyncio.Lock())
        entry.pod, entry.wanted = pod, wanted
        if patch.between(entry.written, wanted):
            self._queue.add_after(uid, delay)

    def heed(self, uid: str, told: types.Pod) -> None:
        """The API tells of the pod with this uid, `told`. What somebody else made of its status, as when this node was
        believed lost, is written anew.
        """
        if (entry := self._entries.get(uid)) is not None and _disturbed(entry, told):
            self._queue.add(uid)

    def mirrored(self, uid: str, mirror: types.Pod | None) -> None:
        """The status of the static pod with this uid is shown on that mirror pod from now on."""
        if mirror is None:
            self._mirrors.pop(uid, None)
        elif self._mirrors.get(uid) != mirror.metadata.uid:
            self._mirrors[uid] = mirror.metadata.uid
            if (entry := self._entries.get(uid)) is not None:
                entry.gone, entry.written = False, msgspec.to_builtins(mirror.status)
                self._queue.add(uid)
        else:
            self.heed(uid, mirror)

    async def write_now(self, uid: str) -> None:
        """Writes the newest status of a pod and returns when it is there; raises what the client raises."""
        entry = self._entries.get(uid)
        if entry is None or (spec.is_static(entry.pod) and uid not in self._mirrors):
            return  # nothing there to write to, or not yet
        async with entry.lock:
            wanted = entry.wanted
            difference = patch.between(entry.written, wanted)
            if difference and not entry.gone:
                answer = await self._send(entry.pod, difference)
                entry.gone, entry.written = answer is None, wanted
                if answer is not None:
                    entry.version = max(entry.version, _version(answer["metadata"].get("resourceVersion")))
                    if patch.disturbed(answer.get("status") or {}, wanted):
                        entry.written = answer["status"]  # somebody wrote since; what they changed is not in our patch
                        self._queue.add(uid)

    def forget(self, uid: str) -> None:
        """Drops a pod that is gone."""
        self._entries.pop(uid, None)
        self._mirrors.pop(uid, None)

    async def run(self) -> None:
        """Writes until cancelled."""
        await workqueue.work(self._queue, self.write_now, workers=WRITERS, name="pod status")

    async def _send(self, pod: types.Pod, difference: Json) -> Json | None:
        """One patch; the pod as it is then, None if there is no such pod any more."""
        meta = pod.metadata
        uid = self._mirrors.get(meta.uid, meta.uid)
        body = {"metadata": {"uid": uid}, "status": difference}
        try:
            return await self._client.patch(
                scheme.PODS, meta.name, body, namespace=meta.namespace, kind="strategic", subresource="status"
            )
        except status.ApiError as e:
            if status.is_not_found(e) or (status.is_conflict(e) and await self._replaced(pod, uid)):
                log.debug("status of pod %s (uid %s) is not wanted any more: %s", spec.key(pod), meta.uid, e)
                return None
            raise

    async def _replaced(self, pod: types.Pod, uid: str) -> bool:
        """Whether another pod has taken the name."""
        try:
            current = await self._client.get(scheme.PODS, pod.metadata.name, namespace=pod.metadata.namespace)
        except status.ApiError as e:
            if status.is_not_found(e):
                return True
            raise
        return bool(current["metadata"]["uid"] != uid)


def _disturbed(entry: Entry, told: types.Pod) -> bool:
    """Whether the API tells of a status that somebody else has changed since our last write; it is remembered then."""
    if (version := _version(told.metadata.resource_version)) <= entry.version:
        return False
    entry.version = version
    known: Json = {
        "phase": told.status.phase,
        "conditions": [{"type": c.type, "status": c.status} for c in told.status.conditions],
    }
    if not patch.disturbed(known, entry.written):
        return False
    entry.written = msgspec.to_builtins(told.status)
    return True


def _version(text: str | None) -> int:
    """A resourceVersion as a number, which clients may compare since Kubernetes 1.35; 0 for none."""
    return int(text) if text and text.isdigit() else 0
