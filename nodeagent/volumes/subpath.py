"""subPath mounts that cannot leave their volume, whatever links its contents make.

Owns the walk from the volume's folder to the wanted entry by directory handles: a container that shares the volume may
swap a folder for a link at any moment, and only an opened handle cannot be swapped. Blocking, but short.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nodeagent.volumes.model import VolumeError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(volume: Path, sub_path: str) -> int:
    """Open an entry of a volume, making missing folders, and return its handle. Raises VolumeError.

    Links are followed while they stay inside the volume; the caller closes the handle.
    """
    parts = sub_path.split("/")
    if sub_path.startswith("/") or ".." in parts:
        raise VolumeError(f"subPath {sub_path} must be relative and must not contain '..'")
    try:
        # Resolving and walking fail, and do no harm, when the volume's contents are changed in between.
        base = os.path.realpath(volume)
        target = os.path.realpath(os.path.join(base, sub_path))
        if target != base and not target.startswith(base + "/"):
            raise VolumeError(f"subPath {sub_path} leads out of its volume")
        return _walk(base, [name for name in os.path.relpath(target, base).split("/") if name != "."])
    except OSError as e:
        raise VolumeError(f"failed to prepare subPath {sub_path}: {os.strerror(e.errno or 0)}") from e


def _walk(base: str, names: list[str]) -> int:
    handle = os.open(base, _FOLDER)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)  # set-group-id too: what is made below stays the fsGroup's
        for number, name in enumerate(names):
            following = _step(handle, name, mode, last=number == len(names) - 1)
            os.close(handle)
            handle = following
    except BaseException:
        os.close(handle)
        raise
    return handle


def _step(parent: int, name: str, mode: int, *, last: bool) -> int:
    flags = _ENTRY if last else _FOLDER
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, mode, dir_fd=parent)
        made = os.open(name, _FOLDER, dir_fd=parent)
        try:
            os.fchmod(made, mode)
        except BaseException:
            os.close(made)
            raise
        return made
