"""Ending a lab: its processes, then the cgroups they lived in, then its files. Works from whatever is left of it.

Mounts and namespaces need no step of their own: they end with the machines' first processes. A process the record
does not know is found by its cgroup. Must not know how a lab is made.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from nodeagent.lab import errors, machine, processes, state

STOP_SECONDS = 15.0
CGROUP_SECONDS = 10.0


def end_processes(record: state.Record, *, root: Path = machine.CGROUP_ROOT, patience: float = STOP_SECONDS) -> None:
    """End what the record names: the machines first and politely, then the network between them."""
    machines = [process for process in record.processes if process.name in ("server", *record.nodes)]
    others = [process for process in record.processes if process not in machines]
    left = processes.end(machines, term_seconds=patience) + processes.end(others, term_seconds=0)
    if left:
        names = ", ".join(f"{process.name} ({process.pid})" for process in left)
        raise errors.LabError(f"these processes do not end: {names}")


def kill_members(cgroup: str, *, root: Path = machine.CGROUP_ROOT) -> None:
    """SIGKILL whatever is in this cgroup or below."""
    for pid in members(cgroup, root=root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


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
    """End what is left in the lab's cgroups and remove them, and the folder of all labs when this was the last.

    A machine that was being started when its lab was given up may enter its cgroup only now: so both are done until
    nothing is left. Raises LabError when something stays.
    """
    deadline = time.monotonic() + CGROUP_SECONDS
    while tops := trees(cgroup, root=root):
        kill_members(cgroup, root=root)
        for top in tops:
            _remove_tree(top)
        if time.monotonic() > deadline:
            stray = sorted(members(cgroup, root=root))
            raise errors.LabError(f"cgroup {tops[0]} cannot be removed; processes in it: {stray}")
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
