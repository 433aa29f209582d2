"""Images as volumes: by the runtime itself where it can, else mounted here from its store.

Owns the choice and the mounting. Must not know pods. containerd mounts images for containers since 2.1; older ones
have the same images in their store, and their own command mounts them read-only.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from pathlib import Path
from typing import Final, Protocol

from kube.runtime import process
from nodeagent import errors
from nodeagent.cri import runtime
from nodeagent.volumes import kernel

log = logging.getLogger(__name__)

NATIVE_SINCE: Final = {"containerd": (2, 1), "cri-o": (1, 31)}
NAMESPACE: Final = "k8s.io"
SECONDS: Final = 60.0


class Store(Protocol):
    """Mounts images of the runtime's store. Both raise StartError."""

    async def mount(self, image: str, target: Path) -> None:
        """Show an image, by its id, read-only at an empty folder."""
        ...

    async def release(self, target: Path) -> None:
        """Let the store forget what it keeps for a mount that is gone."""
        ...


class ImageVolumes:
    """Images that containers see as folders."""

    def __init__(self, runtime: runtime.Runtime, store: Store, *, mounter: kernel.Mounter) -> None:
        self._runtime, self._store, self._mounter = runtime, store, mounter
        self._native: bool | None = None

    async def native(self) -> bool:
        """Whether the runtime mounts images itself."""
        if self._native is None:
            info = await self._runtime.info()
            self._native = mounts_images(info.name, info.version)
        return self._native

    async def show(self, image: str, target: Path) -> None:
        """Mount an image, by its id, at an existing folder, once. Raises StartError."""
        if target not in await asyncio.to_thread(self._mounter.under, target):
            await self._store.mount(image, target)

    async def release(self, folder: Path) -> None:
        """Let go of what is kept for the image volumes in a folder, before they are unmounted."""
        for target in await asyncio.to_thread(self._shown, folder):
            await self._store.release(target)

    def _shown(self, folder: Path) -> list[Path]:
        return [point for point in self._mounter.under(folder) if point.parent == folder] if folder.is_dir() else []


class ContainerdStore:
    """containerd's own command line, which every containerd comes with. `endpoint` is its socket."""

    def __init__(self, endpoint: str) -> None:
        self._socket = endpoint.removeprefix("unix://")

    async def mount(self, image: str, target: Path) -> None:
        """See `Store.mount`."""
        await self._ctr("images", "mount", image, str(target))

    async def release(self, target: Path) -> None:
        """See `Store.release`."""
        for words in (("images", "unmount", "--rm", str(target)), ("leases", "delete", str(target))):
            try:
                await self._ctr(*words)
            except errors.StartError as e:
                log.debug("releasing %s: %s", target, e)  # what is left expires in a day

    async def _ctr(self, *words: str) -> None:
        program = shutil.which("ctr")
        if program is None:
            raise errors.StartError("ImageVolumeMountFailed", "image volumes need containerd 2.1, or its program ctr")
        try:
            await process.run([program, "--address", self._socket, "--namespace", NAMESPACE, *words], timeout=SECONDS)
        except process.ProcessError as e:
            raise errors.StartError("ImageVolumeMountFailed", e.stderr.strip() or str(e)) from e


def mounts_images(name: str, version: str) -> bool:
    """Whether a runtime of this name and version (v2.1.4, 1.6.20~ds1) takes images in mounts."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    least = NATIVE_SINCE.get(name.lower())
    return bool(found and least and (int(found[1]), int(found[2])) >= least)
