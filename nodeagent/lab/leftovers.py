"""Ending a lab: its processes, then the cgroups they lived in, then its files. Works from whatever is left of it.

Mounts and namespaces need no step of their own: they end with the machines' first processes. A process the record
does not know is found by its cgroup. Must not know how a lab is made.
"""

import contextlib
import os
import time
from pathlib import Path

from nodeagent.lab import errors, machine, processes, state

STOP_SECONDS = 15.0
CGROUP_SECONDS = 10.0


def end_processes(record: state.Record, *, root: Path = machine.CGROUP_ROOT, patience: float = STOP_SECONDS) -> None:
    """End everything that runs for this lab: machines first and politely, then the network, then what is left in its
    cgroups.
    """
    machines = [process for process in record.processes if process.name in ("server", *record.nodes)]
    others = [process for process in record.processes if process not in machines]
    left = processes.end(machines, term_seconds=patience) + processes.end(others, term_seconds=0)
    if left:
        names = ", ".join(f"{process.name} ({process.pid})" for process in left)
        raise errors.LabError(f"these processes do not end: {names}")
    deadline = time.monotonic() + CGROUP_SECONDS
    while stray := members(record.cgroup, root=root):
        if time.monotonic() > deadline:
            raise errors.LabError(f"processes {sorted(stray)} in cgroup {record.cgroup} do not end")
        for pid in stray:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(0.02)


def members(cgroup: str, *, root: Path = machine.CGROUP_ROOT) -> set[int]:
    """The processes in this cgroup and all below it, in any hierarchy."""
    found: set[int] = set()
    for top in trees(cgroup, root=root):
        for folder, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
    return found - {0}


def trees(cgroup: str, *, root: Path = machine.CGROUP_ROOT) -> list[Path]:
    """This cgroup's folder in every hierarchy that has it."""
    tops = [root, *(entry for entry in root.iterdir() if entry.is_dir() and not entry.is_symlink())]
    return [path for top in tops if (path := top / cgroup.strip("/")).is_dir()]


def remove_cgroups(cgroup: str, *, root: Path = machine.CGROUP_ROOT) -> None:
    """Remove the lab's cgroups, and the folder of all labs when this was the last. Raises LabError when one is busy."""
    deadline = time.monotonic() + CGROUP_SECONDS
    while tops := trees(cgroup, root=root):
        for top in tops:
            _remove_tree(top)
        if time.monotonic() > deadline:
            raise errors.LabError(f"cgroup {tops[0]} cannot be removed")
        time.sleep(0.01)
    for parent in trees(str(Path(cgroup).parent), root=root):
        with contextlib.suppress(OSError):
            parent.rmdir()


def _remove_tree(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def remove_files(directory: Path) -> None:
    """Delete what is in the lab's directory. The state file goes last: until then the lab can be found."""
    entries = sorted(directory.iterdir(), key=lambda path: path.name == state.FILE) if directory.is_dir() else []
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            machine.remove(entry)
        else:
            entry.unlink(missing_ok=True)
