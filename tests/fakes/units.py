"""systemd's slices as folders: what it was told of each."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from nodeagent.resources import slices


class FakeUnits:
    """Makes a folder for each slice, in its parents, as systemd does by itself."""

    def __init__(self, mount: Path) -> None:
        self._mount = mount
        self.told: list[tuple[str, dict[str, str]]] = []

    def start(self, unit: str, properties: Sequence[slices.Property]) -> None:
        self.told.append((unit, {name: value for name, _, value in properties}))
        self.folder(unit).mkdir(parents=True, exist_ok=True)

    def stop(self, unit: str) -> None:
        self.told.append((unit, {}))
        shutil.rmtree(self.folder(unit), ignore_errors=True)

    def folder(self, unit: str) -> Path:
        parts = unit.removesuffix(".slice").split("-")
        return self._mount.joinpath(*("-".join(parts[: i + 1]) + ".slice" for i in range(len(parts))))
