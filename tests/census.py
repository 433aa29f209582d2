"""What a test run could leave on the host: namespaces, mounts, cgroups, rules, links, processes, files. Counted,
compared.

Must not know which test makes what.
"""

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, fields
from pathlib import Path

from nodeagent.lab import cluster, leftovers, machine, plan, processes

KINDS_OF_NAMESPACE = ("net", "mnt", "pid", "uts", "ipc")
PROGRAMS = (
    "containerd",
    "containerd-shim",
    "runc",
    "slirp4netns",
    "unshare",
    "nodeagent.lab",
    "-m nodeagent",
    "-m controlplane",
    "-m proxy",
    "-m cni",
)
FOLDERS = (
    "/etc/cni/net.d",
    "/etc/nodeagent",
    "/opt/cni/bin",
    "/run/containerd",
    "/run/netns",
    "/run/nodeagent",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/nodeagent",
    "/var/log/containers",
    "/var/log/pods",
)
SETTLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Census:
    """Everything of each kind there is, as text that says where to look."""

    namespaces: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    rules: frozenset[str]
    links: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]

    def gained_since(self, before: "Census") -> dict[str, list[str]]:
        """What is here and was not there, by kind; empty when there is nothing."""
        gained = {field.name: sorted(getattr(self, field.name) - getattr(before, field.name)) for field in fields(self)}
        return {kind: entries for kind, entries in gained.items() if entries}


def take() -> Census:
    """Count now. Needs root to see other processes' namespaces."""
    return Census(
        namespaces=_namespaces(),
        mounts=frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        cgroups=_cgroups(),
        rules=_lines("nft", "list", "tables"),
        links=frozenset(os.listdir("/sys/class/net")),
        processes=_processes(),
        files=frozenset(str(entry) for folder in FOLDERS for entry in _entries(Path(folder))),
    )


def settled_gain(before: Census) -> dict[str, list[str]]:
    """The gain once the kernel has had time to end what was told to end."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (gain := take().gained_since(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return gain


@dataclass(frozen=True, slots=True)
class Belongings:
    """What one lab has on the host: found while it runs, looked for again when it is gone."""

    processes: frozenset[tuple[int, int]]
    namespaces: frozenset[str]
    places: frozenset[str]
    taken: float

    def left(self) -> list[str]:
        """What of it is still there once the kernel has had time to end it; more of its processes and mounts too."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _left(self) -> list[str]:
        found = [f"process {pid}" for pid, start in self.processes if processes.start_time(pid) == start]
        # A namespace's number is given again: only who was there when it was noted can be holding it.
        found += sorted(self.namespaces & _namespaces(until=self.taken))
        mounts = Path("/proc/self/mountinfo").read_text()
        found += [f"mount {place}" for place in sorted(self.places) if f" {place}" in mounts]
        return found + [place for place in sorted(self.places) if os.path.exists(place)]


def belongings(directory: Path) -> Belongings:
    """Of the lab in this directory, running or not yet: its processes, their namespaces, its cgroups and files."""
    cgroup = f"{plan.CGROUP_PARENT}/{cluster.name_of(directory)}"
    pids = leftovers.members(cgroup) | _mentioning(str(directory))
    host = {os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS_OF_NAMESPACE}
    found = {link for pid in pids for link in _namespaces_of(Path(f"/proc/{pid}"))}
    starts = {(pid, start) for pid in pids if (start := processes.start_time(pid)) is not None}
    hierarchies = [top / cgroup.strip("/") for top in (*machine.hierarchies(), Path("/sys/fs/cgroup/cpuset"))]
    return Belongings(
        processes=frozenset(starts),
        namespaces=frozenset(found - host),
        places=frozenset({str(directory), *map(str, hierarchies)}),
        taken=time.clock_gettime(time.CLOCK_BOOTTIME),
    )


def strangers() -> list[str]:
    """Other test runs and labs on this host: while they work, what the host gains is not ours alone."""
    family = _ancestors(os.getpid())
    found = []
    for pid in _mentioning("pytest") | _mentioning("nodeagent.lab.init"):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            testing = any(Path(word).name in ("pytest", "py.test") for word in words[:4])
            if pid not in family and os.getpid() not in _ancestors(pid) and (testing or "nodeagent.lab.init" in words):
                found.append(f"{pid} {' '.join(words)[:100]}")
    return found


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def _mentioning(text: str) -> set[int]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (process / "cmdline").read_bytes():
                    found.add(int(process.name))
    return found


def _namespaces_of(process: Path) -> set[str]:
    found = set()
    for kind in KINDS_OF_NAMESPACE:
        with contextlib.suppress(OSError):
            found.add(os.readlink(process / "ns" / kind))
    return found


def _namespaces(*, until: float = float("inf")) -> frozenset[str]:
    """The namespaces of all processes that were there at `until`, in seconds since boot."""
    ticks = until * os.sysconf("SC_CLK_TCK")
    found: set[str] = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (processes.start_time(int(process.name)) or 0) <= ticks:
            found |= _namespaces_of(process)
    return frozenset(found)


def _cgroups(root: Path = Path("/sys/fs/cgroup")) -> frozenset[str]:
    return frozenset(folder for folder, _, _ in os.walk(root))


def _lines(*argv: str) -> frozenset[str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return frozenset()
    return frozenset(done.stdout.splitlines())


def _processes() -> frozenset[str]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if any(program in command for program in PROGRAMS):
                    found.add(f"{process.name} {command[:120]}")
    return frozenset(found)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder, *folder.iterdir()]
    except OSError:
        return []
