"""hostPath volumes: checking, and where asked making, what is there on the node.

Owns the meaning of `type`. Blocking, but short.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from kube import types
from nodeagent.volumes.model import VolumeError

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "FileOrCreate": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


def prepare(source: types.HostPathVolumeSource) -> Path:
    """Return the path once it is what its type says. Raises VolumeError."""
    path = Path(source.path)
    if ".." in path.parts or not path.is_absolute():
        raise VolumeError(f"hostPath {source.path} must be absolute and must not contain '..'")
    if not source.type:
        return path
    if source.type not in _CHECKS:
        raise VolumeError(f"{source.type} is an invalid volume type")
    try:
        _make(path, source.type)
        mode = path.stat().st_mode
    except OSError as e:
        raise VolumeError(f"hostPath type check failed: {path}: {os.strerror(e.errno or 0)}") from e
    fits, complaint = _CHECKS[source.type]
    if not fits(mode):
        raise VolumeError(f"hostPath type check failed: {path} {complaint}")
    return path


def _make(path: Path, kind: str) -> None:
    if path.exists():
        return
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(mode=0o644)
