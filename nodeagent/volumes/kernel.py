"""The mounts the agent makes itself: tmpfs for secrets and memory volumes, bind mounts for sub paths.

Owns the system calls behind one Protocol. Must not know pods or volumes. Blocking, but short.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Protocol

_NOSUID, _NODEV, _NOEXEC, _BIND, _REC = 0x2, 0x4, 0x8, 0x1000, 0x4000
_DETACH = 2
_OCTAL = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


class Mounter(Protocol):
    """Makes and removes mounts. Every method raises OSError."""

    def tmpfs(self, path: Path, *, mode: int, size: int | None = None) -> None:
        """Mount an empty memory file system of at most `size` bytes on an existing folder."""

    def bind(self, source: str, target: Path) -> None:
        """Show a file or folder a second time, at an existing file or folder."""

    def unmount(self, path: Path) -> None:
        """Remove the topmost mount at the path, also while it is in use. No mount there is no error."""

    def is_mounted(self, path: Path) -> bool:
        """Tell whether a file system of its own begins at the folder."""

    def under(self, path: Path) -> list[Path]:
        """List the mount points at and below a path, the deepest and latest first."""


class KernelMounter:
    """The real mounts, by system call: a child process for each would cost more than the work."""

    def __init__(self, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._mountinfo = mountinfo

    def tmpfs(self, path: Path, *, mode: int, size: int | None = None) -> None:
        """Mount an empty memory file system on an existing folder."""
        options = f"mode={mode:o}" + (f",size={size}" if size is not None else "")
        self._mount("tmpfs", str(path), "tmpfs", _NOSUID | _NODEV, options)

    def bind(self, source: str, target: Path) -> None:
        """Show a file or folder a second time."""
        self._mount(source, str(target), "", _BIND | _REC, "")

    def unmount(self, path: Path) -> None:
        """Remove the topmost mount at the path."""
        if self._libc.umount2(os.fsencode(path), _DETACH) != 0:
            code = ctypes.get_errno()
            if code not in (22, 2):  # EINVAL: not a mount point; ENOENT: not even a path
                raise OSError(code, os.strerror(code), str(path))

    def is_mounted(self, path: Path) -> bool:
        """Tell whether a file system of its own begins at the folder, without reading the long list of all mounts."""
        return os.path.ismount(path)

    def under(self, path: Path) -> list[Path]:
        """List the mount points at and below a path."""
        root = str(path)
        found = [_unescaped(line.split(" ", 5)[4]) for line in self._mountinfo.read_text().splitlines()]
        return [Path(point) for point in reversed(found) if point == root or point.startswith(root + "/")]

    def _mount(self, source: str, target: str, kind: str, flags: int, options: str) -> None:
        arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
        if self._libc.mount(*arguments) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), target)


def _unescaped(field: str) -> str:
    for code, character in _OCTAL.items():
        field = field.replace(code, character)
    return field
