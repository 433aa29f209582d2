"""Mirror pods: what the API shows of this node's static pods, made, replaced and removed to follow them.

A mirror changes nothing here: deleting one only makes it come back. Must not know how static pods are read or run.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from kube import scheme, status, types
from kube.client.rest import Client
from kube.runtime import backoff, workqueue
from nodeagent.pods import spec
from nodeagent.sources.api import Source
from nodeagent.sources.files import ManifestFolder
from nodeagent.status import write

log = logging.getLogger(__name__)

Json = dict[str, Any]
RETRY_CAP: Final = 20.0


class Mirrors:
    """One mirror for each static pod. `owner` is the reference to this node once it is registered."""

    def __init__(
        self,
        client: Client,
        *,
        folder: ManifestFolder,
        mirrors: Source,
        statuses: write.StatusWriter,
        owner: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self._client = client
        self._folder = folder
        self._source = mirrors
        self._statuses = statuses
        self._owner = owner
        self._static: dict[str, types.Pod] = {}
        self._mirrors: dict[str, types.Pod] = {}
        self._queue: workqueue.WorkQueue[str] = workqueue.WorkQueue(backoff=backoff.Backoff(0.2, RETRY_CAP))

    async def run(self) -> None:
        """Follows the static pods until cancelled."""
        undo = [
            self._folder.subscribe(lambda old, new: self._note(self._static, old, new)),
            self._source.subscribe(lambda old, new: self._note(self._mirrors, old, new)),
        ]
        try:
            await workqueue.work(self._queue, self._follow, workers=1, name="mirror pods")
        finally:
            for cancel in undo:
                cancel()

    def _note(self, known: dict[str, types.Pod], old: types.Pod | None, new: types.Pod | None) -> None:
        for pod in (old, new):
            if pod is not None:
                self._queue.add(spec.key(pod))
        present = known.get(spec.key(old)) if old is not None else None
        if old is not None and present is not None and present.metadata.uid == old.metadata.uid:
            del known[spec.key(old)]
        if new is not None:
            known[spec.key(new)] = new

    async def _follow(self, key: str) -> None:
        if not (self._folder.synced and self._source.synced):
            self._queue.add_after(key, 0.2)
            return
        static, mirror = self._static.get(key), self._mirrors.get(key)
        if mirror is not None and not (static is not None and stands_for(mirror, static)):
            await self._delete(mirror)
        elif static is not None and mirror is None:
            await self._create(static)
        elif static is not None:
            self._statuses.mirrored(static.metadata.uid, mirror)

    async def _delete(self, mirror: types.Pod) -> None:
        meta = mirror.metadata
        try:
            await self._client.delete(scheme.PODS, meta.name, namespace=meta.namespace, grace_period=0, uid=meta.uid)
        except status.ApiError as e:
            if not (status.is_not_found(e) or status.is_conflict(e)):
                raise

    async def _create(self, static: types.Pod) -> None:
        uid = static.metadata.uid
        obj = self._folder.objects.get(uid)
        if obj is not None:
            await self._client.create(
                scheme.PODS, mirror_of(obj, owner=self._owner()), namespace=static.metadata.namespace
            )
            log.info("static pod %s is shown in the API", spec.key(static))


def stands_for(mirror: types.Pod, static: types.Pod) -> bool:
    """Whether a mirror shows this very static pod and is to stay."""
    return mirror.metadata.annotations[spec.MIRROR] == static.metadata.uid and not mirror.metadata.deletion_timestamp


def mirror_of(obj: Mapping[str, Any], *, owner: Mapping[str, Any] | None) -> Json:
    """The object to create for a static pod."""
    found: Json = copy.deepcopy(dict(obj))
    meta = found["metadata"]
    uid = meta.pop("uid")
    meta["annotations"] = {**meta["annotations"], spec.MIRROR: uid}
    if owner is not None:
        meta["ownerReferences"] = [{**owner, "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", **found}
