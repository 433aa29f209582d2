"""A mounter that mounts nothing and remembers everything: for volumes without root."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class FakeMounter:
    """Mounts as a list. A bind mount is a copy: good enough to read from."""

    def __init__(self) -> None:
        self.mounted: list[Path] = []
        self.sizes: dict[Path, int | None] = {}

    def tmpfs(self, path: Path, *, mode: int, size: int | None = None) -> None:
        if not path.is_dir():
            raise OSError(2, os.strerror(2), str(path))
        path.chmod(mode)
        self.mounted.append(path)
        self.sizes[path] = size

    def bind(self, source: str, target: Path) -> None:
        if os.path.isdir(source):
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
        self.mounted.append(target)

    def unmount(self, path: Path) -> None:
        for number in range(len(self.mounted) - 1, -1, -1):
            if self.mounted[number] == path:
                if path.is_dir():
                    shutil.rmtree(path)
                    path.mkdir()
                del self.mounted[number]
                return

    def is_mounted(self, path: Path) -> bool:
        return path in self.mounted

    def under(self, path: Path) -> list[Path]:
        return [point for point in reversed(self.mounted) if point == path or path in point.parents]
