"""Where the volumes of a pod lie on the node, and how each kind is made and removed there.

Owns paths and the file work of one volume. Must not know the API or when to do it. Blocking: call it in a thread.
Follows the upstream kubelet's layout, so that either finds the other's volumes.
"""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

from kube import quantity, types
from nodeagent.volumes import atomic, hostpath, kernel
from nodeagent.volumes.model import Files, VolumeError

IMAGES = "kubernetes.io~image"
_PLUGINS = {
    "config_map": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downward_api": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
    "empty_dir": "kubernetes.io~empty-dir",
    "image": IMAGES,
}
_UNFINISHED = 0o750
"""The mode of a volume folder that was made but not handed out yet."""
_IN_MEMORY = ("secret", "downward_api", "projected")


class Folders:
    """The volumes below one root folder, /var/lib/kubelet by default."""

    def __init__(self, root: Path, *, mounter: kernel.Mounter) -> None:
        self._root = root
        self._mounter = mounter

    def pod(self, uid: str) -> Path:
        """The folder of a pod."""
        return self._root / "pods" / uid

    def prepare(self, pod: types.Pod, volume: types.Volume, *, files: Files | None, now: datetime) -> Path:
        """Make one volume ready and return its path. Raises VolumeError, OSError."""
        if volume.host_path:
            return hostpath.prepare(volume.host_path)
        kind = next((kind for kind in _PLUGINS if getattr(volume, kind)), None)
        if kind is None:
            raise VolumeError("this kind of volume is not supported")
        path = self.pod(pod.metadata.uid) / "volumes" / _PLUGINS[kind] / volume.name
        path.mkdir(mode=_UNFINISHED, parents=True, exist_ok=True)
        context = pod.spec.security_context
        group = context.fs_group if context else None
        if volume.image:
            return path  # shown there when a container that mounts it starts
        if volume.empty_dir:
            self._empty(path, volume.empty_dir, group)
        else:
            self._generated(path, files or {}, now, group, in_memory=kind in _IN_MEMORY)
        return path

    def sub_path(self, uid: str, volume: str, container: str, index: int) -> Path:
        """Where a subPath of a volume is shown for one container."""
        return self.pod(uid) / "volume-subpaths" / volume / container / str(index)

    def show(self, handle: int, target: Path) -> None:
        """Bind what an open handle stands for to a path of ours, in place of what was shown there."""
        self._mounter.unmount(target)
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        is_folder = os.path.isdir(f"/proc/self/fd/{handle}")
        if target.exists() and target.is_dir() != is_folder:
            target.rmdir() if target.is_dir() else target.unlink()
        if is_folder:
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        self._mounter.bind(f"/proc/self/fd/{handle}", target)

    def remove(self, uid: str) -> None:
        """Unmount and delete everything of a pod's volumes. Raises OSError; what is gone already is no error."""
        folders = [folder for part in ("volume-subpaths", "volumes") if (folder := self.pod(uid) / part).exists()]
        if not folders:
            return
        points = [point for point in self._mounter.under(self.pod(uid)) if set(folders) & {point, *point.parents}]
        for point in points:
            self._mounter.unmount(point)
        if points and (left := set(points).intersection(self._mounter.under(self.pod(uid)))):
            raise OSError(f"{min(left)} is still mounted")
        for folder in folders:
            shutil.rmtree(folder)

    def known(self) -> set[str]:
        """The uids of pods that have a folder here."""
        try:
            return {entry.name for entry in (self._root / "pods").iterdir() if entry.is_dir()}
        except FileNotFoundError:
            return set()

    def _empty(self, path: Path, source: types.EmptyDirVolumeSource, group: int | None) -> None:
        if source.medium not in ("", "Memory"):
            raise VolumeError(f"emptyDir medium {source.medium} is not supported")
        if source.medium == "Memory" and not self._mounter.is_mounted(path):
            size = quantity.parse(source.size_limit).value() if source.size_limit else None
            self._mounter.tmpfs(path, mode=_UNFINISHED, size=size)
        if path.stat().st_mode & 0o7777 != _UNFINISHED:
            return  # made earlier: its modes are the containers' business now
        if group is not None:
            os.chown(path, -1, group)
        sticky = 0o1000 if source.medium == "Memory" else 0  # as any tmpfs has it
        path.chmod(0o777 | sticky | (0 if group is None else 0o2000))

    def _generated(self, path: Path, files: Files, now: datetime, group: int | None, *, in_memory: bool) -> None:
        if in_memory and not self._mounter.is_mounted(path):
            self._mounter.tmpfs(path, mode=0o755)
        path.chmod(0o755 if group is None else 0o2775)
        if group is not None:
            os.chown(path, -1, group)
        atomic.write(path, files, now=now, gid=group)
