"""Making and removing pod cgroups in the kernel's file tree. What goes where is `cgroups`' decision.

Blocking file work; call it in a thread. Everything here may run twice.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from nodeagent.resources import cgroups, slices

log = logging.getLogger(__name__)

MOUNT: Final = Path("/sys/fs/cgroup")
V1_CONTROLLERS: Final = ("cpu", "cpuacct", "memory", "pids", "cpuset", "devices", "freezer", "blkio", "systemd")
V2_CONTROLLERS: Final = frozenset(("cpuset", "cpu", "io", "memory", "hugetlb", "pids"))
LEFTOVERS: Final = ("unified", "hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc")
PATIENCE: Final = 2.0  # seconds for the kernel to let go of a dying cgroup, and for systemd to make one
INHERITED: Final = ("cpuset.cpus", "cpuset.mems")


def version(mount: Path = MOUNT) -> Literal[1, 2]:
    """Which cgroup version governs resources on this machine."""
    return 2 if (mount / "cgroup.controllers").exists() else 1


class Tree:
    """The cgroup file system."""

    def __init__(self, layout: cgroups.Layout, *, mount: Path = MOUNT, units: slices.Units | None = None) -> None:
        self._layout = layout
        self._mount = mount
        self._units = units or slices.Busctl()

    def create(self, cgroup: cgroups.PodCgroup) -> None:
        """Makes a pod's cgroup and writes its values; OSError if the kernel or systemd refuses."""
        if self._layout.driver == "systemd":
            if not self._is_there(cgroup.path) or self._different(cgroup):
                self._start(cgroup)
        else:
            for root in self._roots(V1_CONTROLLERS):
                self._descend(root, cgroup.path)
        self._write(cgroup)

    def update(self, cgroup: cgroups.PodCgroup) -> None:
        """Writes the values of an existing cgroup."""
        if self._layout.driver == "systemd" and self._different(cgroup):
            self._start(cgroup)
        self._write(cgroup)

    def remove(self, paths: Iterable[str]) -> None:
        """Removes cgroups with everything below them, in every controller; what is busy is left and said."""
        wanted = [path.lstrip("/") for path in paths]
        roots = list(self._roots((*V1_CONTROLLERS, *LEFTOVERS)))
        for path in wanted if self._layout.driver == "systemd" else ():
            self._stop(path, roots)
        for root in roots:
            for path in wanted:
                remove(f"{root}/{path}")

    def pods(self) -> set[str]:
        """UIDs of the pods that have a cgroup here."""
        found: set[str] = set()
        for root in self._roots(("memory", "systemd")):
            base = root / cgroups.pods_root(self._layout).lstrip("/")
            for entry in (*base.glob("*/"), *base.glob("*/*/")):
                if uid := cgroups.pod_uid(entry.name, layout=self._layout):
                    found.add(uid)
        return found

    def _start(self, cgroup: cgroups.PodCgroup) -> None:
        """Has systemd make the slice, and waits until its cgroup is there."""
        self._units.start(slices.parents(cgroup.path)[-1], slices.properties(cgroup.values))
        deadline = time.monotonic() + PATIENCE
        while not self._is_there(cgroup.path):
            if time.monotonic() > deadline:
                raise OSError(f"systemd made no cgroup {cgroup.path}")
            time.sleep(0.005)

    def _stop(self, path: str, roots: Iterable[Path]) -> None:
        if any((root / path).is_dir() for root in roots):
            try:
                self._units.stop(slices.parents(path)[-1])
            except OSError as e:
                log.warning("cgroup %s: %s", path, e)

    def _is_there(self, path: str) -> bool:
        return any((root / path.lstrip("/")).is_dir() for root in self._roots(("memory",)))

    def _write(self, cgroup: cgroups.PodCgroup) -> None:
        for path, text in self._different(cgroup):
            path.write_text(text)

    def _different(self, cgroup: cgroups.PodCgroup) -> list[tuple[Path, str]]:
        """The files that do not hold what they should."""
        found = []
        for (controller, file), text in cgroup.values.items():
            root = self._mount if self._layout.version == 2 else self._mount / controller
            path = root / cgroup.path.lstrip("/") / file
            if path.exists() and path.read_text().strip() != text:
                found.append((path, text))
        return found

    def _roots(self, controllers: Iterable[str]) -> Iterator[Path]:
        if self._layout.version == 2:
            yield self._mount
            return
        for controller in controllers:
            root = self._mount / controller
            if root.is_dir() and not root.is_symlink():
                yield root

    def _descend(self, root: Path, path: str) -> None:
        """Makes each level that is missing, handing controllers (v2) and cpusets (v1) down."""
        levels, here = [], root / path.strip("/")
        while here != root and not os.path.isdir(here):
            levels.append(here)
            here = here.parent
        for level in reversed(levels):
            if self._layout.version == 2:
                hand_down(level.parent)
            level.mkdir(exist_ok=True)
            if root.name == "cpuset":
                inherit(level.parent, level)


def remove(path: str) -> None:
    """Removes one cgroup and those below it. What still holds a process is waited for a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            for folder, _, _ in os.walk(path, topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(folder)
            return
        except OSError as e:
            if time.monotonic() > deadline:
                log.warning("cgroup %s stays behind: %s", path, e)
                return
            time.sleep(0.05)


def hand_down(folder: Path) -> None:
    """Lets the children of a v2 cgroup have its controllers; one that is refused keeps no other back."""
    for name in (folder / "cgroup.controllers").read_text().split():
        if name in V2_CONTROLLERS:
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{name}")


def inherit(parent: Path, child: Path) -> None:
    """A new v1 cpuset is empty and can hold no process until it is filled."""
    for file in INHERITED:
        if (child / file).exists() and not (child / file).read_text().strip():
            (child / file).write_text((parent / file).read_text())
