"""Volumes behind claims: which one a pod's claim is bound to, and where it is on this node.

Owns following a claim to its volume, and the kinds of volumes that are folders of this node. Must not know binding.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from kube import scheme, status, types
from kube.client import errors
from kube.client.rest import Client
from nodeagent.volumes import hostpath
from nodeagent.volumes.model import VolumeError

T = TypeVar("T", types.PersistentVolume, types.PersistentVolumeClaim)


class Claims:
    """Follows claims through the API, each time anew: they are read when a pod starts, and never after."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def volume(self, pod: types.Pod, volume: types.Volume) -> types.PersistentVolume:
        """The volume behind a pod's claim. Raises VolumeError while there is none."""
        if volume.persistent_volume_claim is not None:
            name = volume.persistent_volume_claim.claim_name
        else:
            name = f"{pod.metadata.name}-{volume.name}"
        claim = await self._claim(pod.metadata.namespace, name)
        if volume.ephemeral is not None and not owned(claim, pod):
            raise VolumeError(f"PVC {pod.metadata.namespace}/{name} was not created for pod {pod.metadata.name}")
        if claim.metadata.deletion_timestamp and not claim.spec.volume_name:
            raise VolumeError(f'persistentvolumeclaim "{name}" is being deleted')
        if claim.status.phase != "Bound" or not claim.spec.volume_name:
            raise VolumeError(f'persistentvolumeclaim "{name}" is not bound to a volume yet')
        found = await self._get(scheme.PERSISTENT_VOLUMES, claim.spec.volume_name, None, types.PersistentVolume)
        ref = found.spec.claim_ref
        if ref is None or ref.uid != claim.metadata.uid:
            raise VolumeError(f'persistentvolume "{found.metadata.name}" is not bound to claim "{name}"')
        return found

    async def _claim(self, namespace: str, name: str) -> types.PersistentVolumeClaim:
        return await self._get(scheme.PERSISTENT_VOLUME_CLAIMS, name, namespace, types.PersistentVolumeClaim)

    async def _get(self, resource: scheme.Resource, name: str, namespace: str | None, kind: type[T]) -> T:
        try:
            return msgspec.convert(await self._client.get(resource, name, namespace=namespace), kind)
        except status.ApiError as e:
            if status.is_not_found(e):
                raise VolumeError(f'{resource.singular} "{name}" not found') from e
            raise VolumeError(f"{resource.singular} {name}: {e}") from e
        except errors.ClientError as e:
            raise VolumeError(f"{resource.singular} {name} cannot be read: {e}") from e


def owned(claim: types.PersistentVolumeClaim, pod: types.Pod) -> bool:
    """Whether a claim was made for this very pod."""
    return any(owner.uid == pod.metadata.uid for owner in claim.metadata.owner_references)


def prepare(volume: types.PersistentVolume, pod: types.Pod) -> Path:
    """The volume's folder on this node. Raises VolumeError, OSError. Blocking."""
    spec = volume.spec
    if spec.volume_mode == "Block":
        raise VolumeError(f"volume {volume.metadata.name}: block devices are not supported")
    if spec.host_path is not None:
        return hostpath.prepare(spec.host_path)
    if spec.local is not None:
        path = Path(spec.local.path)
        if not path.is_dir():
            raise VolumeError(f'path "{path}" does not exist')
        context = pod.spec.security_context
        if context is not None and context.fs_group is not None:
            give(path, context.fs_group, always=context.fs_group_change_policy != "OnRootMismatch")
        return path
    raise VolumeError(f"volume {volume.metadata.name}: this kind of volume is not supported")


def give(folder: Path, group: int, *, always: bool) -> None:
    """Make all of a folder readable and writable for a group; unless `always`, not if its top is right already."""
    top = folder.stat()
    if not always and top.st_gid == group and top.st_mode & 0o2070 == 0o2070:
        return
    for here, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            path = Path(here, name)
            if not path.is_symlink():
                _give(path, group)
    _give(folder, group)  # last: it says that all of it is done


def _give(path: Path, group: int) -> None:
    os.chown(path, -1, group)
    path.chmod(path.stat().st_mode & 0o7777 | (0o2770 if path.is_dir() else 0o660))
