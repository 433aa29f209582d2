"""Static pods: manifests in a folder of this node, read at the start, when the folder changes, and every 20 s.

Owns what makes a manifest a pod of this node (name, uid, annotations, tolerations; upstream's names for them). Must not
know the API: what is shown there of a static pod is `pods.mirror`'s work.
"""

import asyncio
import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import asyncinotify
import msgspec

from kube import types
from kube.runtime import config as documents
from kube.runtime.clock import Clock, rfc3339
from nodeagent import errors
from nodeagent.pods import spec
from nodeagent.sources.api import Handler

log = logging.getLogger(__name__)

Json = dict[str, Any]
PERIOD: Final = 20.0
SETTLE: Final = 0.05
"""Seconds after a change before the folder is read: files come in several steps."""
MASK: Final = (
    asyncinotify.Mask.CLOSE_WRITE
    | asyncinotify.Mask.MOVED_TO
    | asyncinotify.Mask.MOVED_FROM
    | asyncinotify.Mask.DELETE
    | asyncinotify.Mask.CREATE
)
TOLERATE_ALL: Final = {"operator": "Exists", "effect": "NoExecute"}
FROM_API: Final = ("configMap", "secret", "persistentVolumeClaim")


class ManifestError(errors.NodeagentError):
    """A manifest that is no pod; the message names file, field and reason."""


class ManifestFolder:
    """The static pods of one folder, as a source of pods. A bad file is told once and hinders no other."""

    def __init__(self, folder: Path, *, node_name: str, clock: Clock, period: float = PERIOD) -> None:
        self._folder = folder
        self._node = node_name
        self._clock = clock
        self._period = period
        self._handlers: list[Handler] = []
        self._complaints: dict[str, str] = {}
        self.pods: dict[str, types.Pod] = {}
        self.objects: dict[str, Json] = {}
        """The pods in the API's form, both by uid."""
        self._synced = False

    @property
    def synced(self) -> bool:
        """Whether the folder has been read."""
        return self._synced

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Calls `handler(old, new)` for each change, and for what is there already; returns the undo."""
        self._handlers.append(handler)
        for pod in self.pods.values():
            handler(None, pod)
        return lambda: self._handlers.remove(handler)

    async def run(self) -> None:
        """Reads the folder until cancelled. One that is not there has no pods, and may come later."""
        while True:
            try:
                # A folder that is not there yet is waited for where it will appear.
                place = next(p for p in (self._folder, *self._folder.parents) if p.is_dir())
                with asyncinotify.Inotify() as notices:
                    notices.add_watch(place, MASK | asyncinotify.Mask.DELETE_SELF)
                    await self._read()
                    while await self._changed(notices) and place == self._folder:
                        await self._read()
            except OSError as e:
                log.warning("%s is not watched, it is read every %g s: %s", self._folder, self._period, e)
                await self._read()
                await self._clock.sleep(self._period)

    async def _changed(self, notices: asyncinotify.Inotify) -> bool:
        """Waits for a change or the period; False if the watch has to be set up anew."""
        try:
            async with asyncio.timeout(self._period):
                notice = await notices.get()
        except TimeoutError:
            return False
        await self._clock.sleep(SETTLE)
        return not notice.mask & (asyncinotify.Mask.DELETE_SELF | asyncinotify.Mask.IGNORED)

    async def _read(self) -> None:
        found, complaints = await asyncio.to_thread(read, self._folder, node_name=self._node)
        for file, text in complaints.items():
            if self._complaints.get(file) != text:
                log.error("%s", text)
        self._complaints = complaints
        now = rfc3339(self._clock.now())
        for uid in self.pods.keys() - found.keys():
            old = self.pods.pop(uid)
            del self.objects[uid]
            self._tell(old, None)
        for uid, obj in found.items():
            if uid not in self.pods:
                obj["metadata"]["annotations"][spec.CONFIG_SEEN] = now
                self.objects[uid] = obj
                self.pods[uid] = msgspec.convert(obj, types.Pod)
                self._tell(None, self.pods[uid])
        self._synced = True

    def _tell(self, old: types.Pod | None, new: types.Pod | None) -> None:
        for handler in tuple(self._handlers):
            handler(old, new)


def read(folder: Path, *, node_name: str) -> tuple[dict[str, Json], dict[str, str]]:
    """(pods by uid, complaints by file) of a folder. Hidden files and folders are left out."""
    found: dict[str, Json] = {}
    complaints: dict[str, str] = {}
    names: dict[str, str] = {}
    files = sorted(p for p in folder.glob("*") if not p.name.startswith(".") and p.is_file()) if folder.is_dir() else []
    for file in files:
        try:
            for document in manifests(file):
                obj = static(document, file=file, node_name=node_name)
                meta = obj["metadata"]
                name = f"{meta['namespace']}/{meta['name']}"
                if name in names:
                    raise ManifestError(f"{file}: metadata.name: the pod {name} is also in {names[name]}")
                names[name] = str(file)
                found[meta["uid"]] = obj
        except ManifestError as e:
            complaints[str(file)] = str(e)
    return found, complaints


def manifests(file: Path) -> Iterator[Json]:
    """The documents of a file, which must all be pods."""
    try:
        kinds = documents.load(file)
    except documents.ConfigError as e:
        if not file.exists():
            return
        raise ManifestError(f"static pod: {e}") from e
    for kind, found in kinds.items():
        if kind != "Pod":
            raise ManifestError(f"static pod: {file}: kind: {kind}: only Pod is supported")
        yield from (dict(document) for document in found)


def static(document: Mapping[str, Any], *, file: Path, node_name: str) -> Json:
    """The pod a manifest stands for on this node; any change of it changes its uid. ManifestError if none."""
    obj: Json = copy.deepcopy(dict(document))
    try:
        pod = msgspec.convert(obj, types.Pod)
    except msgspec.ValidationError as e:
        raise ManifestError(f"static pod: {file}: {e}") from e
    for problem in problems(pod, obj):
        raise ManifestError(f"static pod: {file}: {problem}")
    meta = obj.setdefault("metadata", {})
    identity = f"{msgspec.json.encode(document, order='sorted').decode()}\0{node_name}\0{file}"
    uid = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
    meta |= {"name": f"{meta['name']}-{node_name}", "namespace": meta.get("namespace") or "default", "uid": uid}
    meta["annotations"] = {
        **(meta.get("annotations") or {}),
        spec.CONFIG_SOURCE: "file",
        spec.CONFIG_HASH: uid,
    }
    body = obj["spec"]
    body["nodeName"] = node_name
    body["tolerations"] = [*(body.get("tolerations") or []), TOLERATE_ALL]
    obj.pop("status", None)
    return obj


def problems(pod: types.Pod, obj: Json) -> Iterator[str]:
    """What keeps a manifest from being a static pod."""
    if obj.get("apiVersion") != "v1":
        yield f"apiVersion: {obj.get('apiVersion')}: want v1"
    if not pod.metadata.name:
        yield "metadata.name: required"
    if not pod.spec.containers:
        yield "spec.containers: required"
    for number, container in enumerate(pod.spec.containers):
        if not container.name or not container.image:
            yield f"spec.containers[{number}]: name and image are required"
    if pod.spec.service_account_name or pod.spec.service_account:
        yield "spec.serviceAccountName: a static pod has no service account"
    for number, volume in enumerate(obj["spec"].get("volumes") or ()):
        for kind in FROM_API:
            if kind in volume:
                yield f"spec.volumes[{number}].{kind}: a static pod may not depend on objects of the API"
