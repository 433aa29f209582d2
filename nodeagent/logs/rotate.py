"""Keeping container logs from filling the disk: a log that has grown too long is set aside, old ones are thrown away.

Owns the files below /var/log/pods that belong to earlier parts of a log. Must not know pods' lives: whether a container
still writes is the runtime's answer. Names follow the upstream kubelet, so that either finds the other's files.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import labels
from nodeagent.cri.runtime import Containers

log = logging.getLogger(__name__)

DEFAULT_BYTES = 10 << 20
DEFAULT_FILES = 5
_PERIOD = 10.0
_STAMP = "%Y%m%d-%H%M%S"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the earlier parts of one log before it is set aside."""

    remove: tuple[str, ...]
    compress: tuple[str, ...]


def plan(rotated: Sequence[str], *, files: int) -> Plan:
    """Decide from the names of the earlier parts; `files` counts every part, the current one too. PURE.

    The latest part stays as it is: a reader may still be in it.
    """
    kept = sorted(name for name in rotated if not name.endswith(".tmp"))
    broken = [name for name in rotated if name.endswith(".tmp")]
    surplus = max(0, len(kept) - max(0, files - 2))
    remaining = kept[surplus:]
    return Plan(
        remove=tuple(broken + kept[:surplus]),
        compress=tuple(name for name in remaining[:-1] if not name.endswith(".gz")),
    )


class Rotator:
    """Looks after all logs below one folder."""

    def __init__(
        self,
        *,
        pod_logs: Path,
        containers: Containers,
        clock: Clock,
        max_bytes: int = DEFAULT_BYTES,
        max_files: int = DEFAULT_FILES,
    ) -> None:
        self._pod_logs = pod_logs
        self._containers = containers
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_files = max_files

    async def run(self) -> None:
        """Look every ten seconds, until cancelled."""
        complaint = ""
        while True:
            await self._clock.sleep(_PERIOD)
            try:
                await self.look()
                complaint = ""
            except (OSError, errors.RuntimeFault) as e:
                if str(e) != complaint:
                    complaint = str(e)
                    log.warning("container logs are not rotated: %s; trying again", e)

    async def look(self) -> None:
        """Set every log aside that has grown too long."""
        for path in await asyncio.to_thread(self._large):
            await self._rotate(path)

    def _large(self) -> list[Path]:
        found = []
        for folder in _folders(self._pod_logs):
            for container in _folders(folder):
                for entry in os.scandir(container):
                    if entry.name.endswith(".log") and entry.stat().st_size > self._max_bytes:
                        found.append(Path(entry.path))
        return found

    async def _rotate(self, path: Path) -> None:
        container_id = await self._writer(path)
        if container_id is None:
            return  # nobody writes any more: its size is final
        await asyncio.to_thread(self._make_room, path)
        aside = path.with_name(f"{path.name}.{self._clock.now().strftime(_STAMP)}")
        await asyncio.to_thread(os.rename, path, aside)
        try:
            await self._containers.reopen_log(container_id)
        except errors.RuntimeFault:
            # The runtime goes on writing where it did: give the file its name back, or readers lose it.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(os.rename, aside, path)
            raise

    async def _writer(self, path: Path) -> str | None:
        """The running container that writes this log."""
        uid = path.parent.parent.name.rpartition("_")[2]
        wanted = {labels.POD_UID: uid, labels.CONTAINER_NAME: path.parent.name}
        for container in await self._containers.list(labels=wanted):
            if container.state == "running" and await self._is_log_of(path, container.id):
                return container.id
        return None

    async def _is_log_of(self, path: Path, container_id: str) -> bool:
        try:
            return (await self._containers.status(container_id)).log_path == str(path)
        except errors.RuntimeNotFound:
            return False

    def _make_room(self, path: Path) -> None:
        prefix = path.name + "."
        earlier = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(prefix)]
        todo = plan(earlier, files=self._max_files)
        for name in todo.remove:
            path.with_name(name).unlink(missing_ok=True)
        for name in todo.compress:
            compress(path.with_name(name))


def compress(path: Path) -> None:
    """Replace a file by its compressed form; a reader never finds half of one."""
    temporary = path.with_name(path.name + ".tmp")
    with path.open("rb") as plain, gzip.open(temporary, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed)
    temporary.rename(path.with_name(path.name + ".gz"))
    path.unlink()


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
