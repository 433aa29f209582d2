"""The loops of volumes and claims: when to look at which, and the claims that ephemeral volumes make.

One write a round: the caches show it before the next is planned. Must not decide: `plan` does.
"""

from collections.abc import Iterator
from typing import TypeAlias

from controlplane import claims
from controlplane.controllers import podstate, reconcile, writes
from controlplane.controllers.volumes import plan
from controlplane.projection import Pod
from kube import scheme, types
from kube.runtime.component import Deps
from kube.status import ApiError, is_already_exists

Claim: TypeAlias = types.PersistentVolumeClaim
Volume: TypeAlias = types.PersistentVolume
_VOLUME = "volume "
"""What the keys of volumes begin with; those of claims are namespace/name."""


class Binder:
    """Brings claims and volumes together."""

    def __init__(self, deps: Deps) -> None:
        informers = deps.informers
        self._claims = informers.get(scheme.PERSISTENT_VOLUME_CLAIMS, Claim)
        self._volumes = informers.get(scheme.PERSISTENT_VOLUMES, Volume)
        self._classes = informers.get(scheme.STORAGE_CLASSES, types.StorageClass)
        self._pods = informers.get(scheme.PODS, Pod)
        self._users = self._pods.add_index(used)
        self._told: dict[str, str] = {}
        self.loop = reconcile.Loop(
            "persistentvolume-controller",
            deps=deps,
            reads=(self._claims, self._volumes, self._classes, self._pods),
            reconcile=self._reconcile,
            workers=2,
            everything=self._everything,
        )
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._classes.subscribe(lambda old, new: self._waiting())
        self._pods.subscribe(self._pod_changed)

    def _everything(self) -> list[str]:
        return [*self._claims.cache, *(_VOLUME + name for name in self._volumes.cache)]

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        claim = new or old
        assert claim is not None
        meta = claim.metadata
        self.loop.queue.add(f"{meta.namespace}/{meta.name}")
        for volume in self._volumes.cache.values():
            ref = volume.spec.claim_ref
            if ref is not None and (ref.namespace, ref.name) == (meta.namespace, meta.name):
                self.loop.queue.add(_VOLUME + volume.metadata.name)

    def _volume_changed(self, old: Volume | None, new: Volume | None) -> None:
        volume = new or old
        assert volume is not None
        self.loop.queue.add(_VOLUME + volume.metadata.name)
        ref = volume.spec.claim_ref
        if ref is not None:
            self.loop.queue.add(f"{ref.namespace}/{ref.name}")
        if ref is None or new is None:
            self._waiting()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        for name in claims.names(pod):
            self.loop.queue.add(f"{pod.metadata.namespace}/{name}")

    def _waiting(self) -> None:
        """What there is to choose from has changed."""
        for key, claim in self._claims.cache.items():
            if not claims.is_bound(claim):
                self.loop.queue.add(key)

    async def _reconcile(self, key: str) -> None:
        if key.startswith(_VOLUME):
            await self._volume(key)
        elif (claim := self._claims.cache.get(key)) is not None:
            await self._claim(key, claim)
        else:
            self._told.pop(key, None)

    async def _volume(self, key: str) -> None:
        volume = self._volumes.cache.get(key.removeprefix(_VOLUME))
        if volume is None:
            return
        ref = volume.spec.claim_ref
        claim = self._claims.cache.get(f"{ref.namespace}/{ref.name}") if ref is not None else None
        if (write := plan.volume_step(volume, claim).write) is not None:
            await self.loop.write(key, write, informer=self._volumes)

    async def _claim(self, key: str, claim: Claim) -> None:
        users = [pod for pod in self._users.get(key) if not podstate.is_finished(pod)]
        consumers = {key: [pod.spec.node_name for pod in users]} if users else {}
        step = plan.claim_step(
            claim,
            plan.World(volumes=self._volumes.cache, classes=self._classes.cache, consumers=consumers),
        )
        if step.write is not None:
            about = step.write.resource is scheme.PERSISTENT_VOLUME_CLAIMS
            await self._write(key, step.write, about_claim=about)
        if step.message and self._told.get(key) != step.message:
            self._told[key] = step.message
            kind = "Warning" if step.reason in ("ClaimLost", "ProvisioningFailed") else "Normal"
            self.loop.tell(
                scheme.PERSISTENT_VOLUME_CLAIMS, claim.metadata, type=kind, reason=step.reason, message=step.message
            )

    async def _write(self, key: str, write: writes.Write, *, about_claim: bool) -> None:
        try:
            if about_claim:
                await self.loop.write(key, write, informer=self._claims)
            else:
                await self.loop.write(key, write, informer=self._volumes)
        except ApiError as e:
            if not is_already_exists(e):
                raise  # a volume made for this claim by a round before: the cache shows it soon


class Ephemeral:
    """Makes the claims of ephemeral volumes; the garbage collector removes them with their pods."""

    def __init__(self, deps: Deps) -> None:
        self._claims = deps.informers.get(scheme.PERSISTENT_VOLUME_CLAIMS, Claim)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self.loop = reconcile.Loop(
            "ephemeral-volume-controller",
            deps=deps,
            reads=(self._pods, self._claims),
            reconcile=self._reconcile,
            workers=1,
        )
        self._pods.subscribe(self._changed)

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None and old is None and any(volume.ephemeral is not None for volume in new.spec.volumes):
            self.loop.queue.add(f"{new.metadata.namespace}/{new.metadata.name}")

    async def _reconcile(self, key: str) -> None:
        pod = self._pods.cache.get(key)
        if pod is None or pod.metadata.deletion_timestamp or podstate.is_finished(pod):
            return
        for volume in pod.spec.volumes:
            if volume.ephemeral is None:
                continue
            name = claims.ephemeral(pod.metadata.name, volume.name)
            if f"{pod.metadata.namespace}/{name}" not in self._claims.cache:
                await self._make(key, pod, name, volume.ephemeral.get("volumeClaimTemplate") or {})

    async def _make(self, key: str, pod: Pod, name: str, template: dict[str, object]) -> None:
        meta = pod.metadata
        owner = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": meta.name,
            "uid": meta.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        given = template.get("metadata")
        metadata = {**(given if isinstance(given, dict) else {}), "name": name, "ownerReferences": [owner]}
        body = {"metadata": metadata, "spec": template.get("spec") or {}}
        write = writes.Create(resource=scheme.PERSISTENT_VOLUME_CLAIMS, namespace=meta.namespace, body=body)
        try:
            await self.loop.write(key, write, informer=self._claims)
        except ApiError as e:
            if not is_already_exists(e):
                raise


def used(pod: Pod) -> Iterator[str]:
    """The claims of a pod as namespace/name."""
    return (f"{pod.metadata.namespace}/{name}" for name in claims.names(pod))
