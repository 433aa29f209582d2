"""Every volume of every pod on this node: made ready, kept current, removed.

Owns what is mounted for whom and when files are written again. Must not know containers' lives or the runtime.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from kube import types
from kube.client.rest import Client
from kube.runtime import clock as clocks
from nodeagent.pods import downward, environment
from nodeagent.volumes import folders, kernel, model, objects, payload, persistent, subpath, threads, tokens
from nodeagent.volumes.model import Mount, Propagation, VolumeError

log = logging.getLogger(__name__)

_PROPAGATION: Mapping[str, Propagation] = {
    "None": "private",
    "HostToContainer": "host_to_container",
    "Bidirectional": "bidirectional",
}
_RETRY_SECONDS = 10.0
_LONGEST_WAIT = 60.0


@dataclasses.dataclass(slots=True)
class _Mounted:
    pod: types.Pod
    lock: asyncio.Lock
    paths: Mapping[str, Path] | None = None
    stale: bool = True
    complaint: str = ""


class Volumes:
    """The volumes of this node's pods. `facts` tells what the downward API knows beside the pod's object."""

    def __init__(
        self,
        *,
        root: Path,
        client: Client,
        clock: clocks.Clock,
        facts: Callable[[types.Pod], downward.Facts] = lambda _: downward.Facts(),
        mounter: kernel.Mounter | None = None,
        token_requester: tokens.TokenRequester | None = None,
    ) -> None:
        self._clock = clock
        self._facts = facts
        self._folders = folders.Folders(root, mounter=mounter or kernel.KernelMounter())
        self._tokens = tokens.Tokens(token_requester or tokens.ApiTokens(client=client, clock=clock), clock=clock)
        self._objects = objects.Objects(client=client, clock=clock, on_change=self._object_changed)
        self._persistent = persistent.Claims(client)
        self._pods: dict[str, _Mounted] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Watch what volumes are made of, and write their files again when it changes or a token is due."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._objects.run())
            group.create_task(self._keep_current())

    async def mount(self, pod: types.Pod) -> Mapping[str, Path]:
        """Make all volumes ready and return their paths by volume name. Cheap when nothing changed.

        Raises VolumeError with the text of the event.
        """
        uid = pod.metadata.uid
        held = self._pods.get(uid)
        if held is None:
            held = self._pods[uid] = _Mounted(pod, asyncio.Lock())
        async with held.lock:
            if held.pod is not pod and held.pod.metadata != pod.metadata:
                held.stale = True
            held.pod = pod
            if held.paths is None or held.stale:
                held.stale = False
                try:
                    held.paths = await self._mount_all(pod)
                except BaseException:
                    held.stale = True
                    raise
                self._wake.set()
            return held.paths

    async def unmount(self, pod_uid: str) -> None:
        """Remove a pod's volumes. Does nothing when they are gone. Raises VolumeError when one cannot be removed."""
        held = self._pods.pop(pod_uid, None)
        async with held.lock if held else asyncio.Lock():
            self._objects.release(pod_uid)
            self._tokens.forget(pod_uid)
            try:
                await threads.run(self._folders.remove, pod_uid)
            except OSError as e:
                raise VolumeError(f"cannot remove the volumes of pod {pod_uid}: {e}", reason="FailedUnMount") from e

    def mounts(
        self,
        pod: types.Pod,
        container: environment.Container,
        paths: Mapping[str, Path],
        *,
        env: Iterable[tuple[str, str]] = (),
        images: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Mount]:
        """List the container's mounts of its volumes. Raises VolumeError.

        `env` serves subPathExpr; `images` are those the runtime mounts itself, by volume name.
        """
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        known, found = dict(env), []
        for index, wanted in enumerate(container.volume_mounts):
            path = paths.get(wanted.name)
            if path is None:
                raise VolumeError(
                    f'container {container.name} mounts volume "{wanted.name}", which the pod does not have'
                )
            sub = wanted.sub_path or _expanded(wanted.sub_path_expr, known)
            if image := images.get(wanted.name):
                found.append(Mount("", wanted.mount_path, readonly=True, image=image, image_sub_path=sub))
                continue
            if sub:
                path = self._show_sub_path(pod, container, path, wanted, sub, index)
            readonly = wanted.read_only or payload.is_readonly(volumes[wanted.name])
            propagation = _PROPAGATION[wanted.mount_propagation or "None"]
            found.append(Mount(str(path), wanted.mount_path, readonly, propagation))
        return found

    async def environment_sources(
        self, pod: types.Pod, container: environment.Container
    ) -> tuple[environment.Contents, environment.Contents]:
        """Read the ConfigMaps and Secrets `environment.expand` needs. Raises VolumeError without an answer."""
        wanted = environment.references(container)
        kinds: tuple[tuple[payload.Kind, frozenset[str]], ...] = (
            ("configmap", wanted.config_maps),
            ("secret", wanted.secrets),
        )
        found: list[dict[str, Mapping[str, bytes]]] = []
        for kind, names in kinds:
            contents = {n: await self._objects.read(payload.ObjectKey(kind, pod.metadata.namespace, n)) for n in names}
            found.append({name: content.data for name, content in contents.items() if content is not None})
        return found[0], found[1]

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The data of a Secret read once, None when there is none. Raises VolumeError when the API does not answer."""
        content = await self._objects.read(payload.ObjectKey("secret", namespace, name))
        return content.data if content is not None else None

    def images_of(self, pod_uid: str) -> Path:
        """Where images are shown that a pod has as volumes."""
        return self._folders.pod(pod_uid) / "volumes" / folders.IMAGES

    def leftovers(self, known: Iterable[str]) -> set[str]:
        """The uids of pods that have a folder on this node and are not among the known ones."""
        return self._folders.known() - set(known) - set(self._pods)

    async def _mount_all(self, pod: types.Pod) -> Mapping[str, Path]:
        try:
            async with asyncio.TaskGroup() as group:
                work = {volume.name: group.create_task(self._mount_one(pod, volume)) for volume in pod.spec.volumes}
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return {name: task.result() for name, task in work.items()}

    async def _mount_one(self, pod: types.Pod, volume: types.Volume) -> Path:
        try:
            if volume.persistent_volume_claim is not None or volume.ephemeral is not None:
                found = await self._persistent.volume(pod, volume)
                return await threads.run(persistent.prepare, found, pod)
            files = await self._files(pod, volume) if payload.is_generated(volume) else None
            now = self._clock.now()
            return await threads.run(self._folders.prepare, pod, volume, files=files, now=now)
        except (VolumeError, OSError) as e:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{volume.name}" : {e}') from e

    async def _files(self, pod: types.Pod, volume: types.Volume) -> model.Files:
        wanted, uid = payload.needs(pod, volume), pod.metadata.uid
        try:
            async with asyncio.TaskGroup() as group:
                contents = {key: group.create_task(self._objects.use(key, user=uid)) for key in wanted.objects}
                texts = {key: group.create_task(self._tokens.get(pod, key)) for key in wanted.tokens}
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        inputs = payload.Inputs(
            objects={key: task.result() for key, task in contents.items()},
            tokens={key: task.result() for key, task in texts.items()},
            facts=self._facts(pod),
        )
        return payload.files(pod, volume, inputs)

    def _show_sub_path(
        self,
        pod: types.Pod,
        container: environment.Container,
        volume: Path,
        wanted: types.VolumeMount,
        sub: str,
        index: int,
    ) -> Path:
        target = self._folders.sub_path(pod.metadata.uid, wanted.name, container.name, index)
        handle = subpath.open_beneath(volume, sub)
        try:
            self._folders.show(handle, target)
        except OSError as e:
            raise VolumeError(f"failed to prepare subPath {sub} of volume {wanted.name}: {e}") from e
        finally:
            os.close(handle)
        return target

    def _object_changed(self, key: payload.ObjectKey) -> None:
        for uid in self._objects.users(key):
            if uid in self._pods:
                self._pods[uid].stale = True
        self._wake.set()

    async def _keep_current(self) -> None:
        while True:
            for uid in self._tokens.due():
                if uid in self._pods:
                    self._pods[uid].stale = True
            failed = False
            for held in [held for held in self._pods.values() if held.stale and held.paths is not None]:
                failed |= not await self._refresh(held)
            await self._wait(failed)

    async def _refresh(self, held: _Mounted) -> bool:
        meta = held.pod.metadata
        try:
            await self.mount(held.pod) if self._pods.get(meta.uid) is held else None
        except Exception as e:  # one pod's volumes must not keep the others' from being refreshed
            # The files stay as they were: a running container keeps what it has.
            if held.complaint != str(e):
                unexpected = None if isinstance(e, VolumeError) else e
                text = "volumes of pod %s/%s not brought up to date: %s"
                log.warning(text, meta.namespace, meta.name, e, exc_info=unexpected)
            held.complaint = str(e)
            return False
        held.complaint = ""
        return True

    async def _wait(self, failed: bool) -> None:
        due = self._tokens.next_renewal()
        delay = _LONGEST_WAIT if due is None else max(0.5, (due - self._clock.now()).total_seconds())
        if failed:
            delay = _RETRY_SECONDS
        try:
            async with asyncio.timeout(min(delay, _LONGEST_WAIT)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


def _expanded(expression: str, variables: Mapping[str, str]) -> str:
    """A subPathExpr with its variables; unlike in a command, none may be missing."""
    missing: list[str] = []
    text = environment.substitute(expression, variables, missing=missing)
    if missing:
        raise VolumeError(f'missing value for "{missing[0]}"')
    return text
