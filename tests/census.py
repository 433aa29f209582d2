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


def _namespaces() -> frozenset[str]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            for kind in KINDS_OF_NAMESPACE:
                with contextlib.suppress(OSError):
                    found.add(os.readlink(process / "ns" / kind))
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
