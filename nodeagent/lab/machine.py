"""Starting one machine of the lab, and working inside it from the host.

Owns the machine's directories, its namespaces and its cable. What happens inside at the start is `boot` and `init`.
Must not know which services run or what the cluster is.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeagent.lab import errors, plan, processes, state

BOOT_SECONDS = 30.0
CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """A machine whose first process has entered its namespaces and waits for its cable."""

    machine: plan.Machine
    first: state.Process
    status: int


def hierarchies(root: Path = CGROUP_ROOT) -> list[Path]:
    """The cgroup hierarchies a machine's processes join: all but cpuset and devices under v1, the one tree under v2."""
    if (root / "cgroup.controllers").exists():
        return [root]
    named = [entry for entry in sorted(root.iterdir()) if (entry / "cgroup.procs").exists() and not entry.is_symlink()]
    return [entry for entry in named if entry.name not in ("cpuset", "devices")]


def join(pid: int, folders: Sequence[Path]) -> None:
    """Put a process into these cgroups."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(ProcessLookupError):
            (folder / "cgroup.procs").write_text(f"{pid}\n")


def prepare(machine: plan.Machine, *, spec: Mapping[str, object], files: Mapping[str, bytes]) -> None:
    """Make the machine's directories, the files that are its own (path -> content, readable by root only) and its boot
    document.
    """
    for folder in ("work", "root"):
        (machine.directory / folder).mkdir(parents=True, exist_ok=True)
    for folder in plan.DATA_FOLDERS:
        machine.data(folder).mkdir(parents=True, exist_ok=True)
    machine.upper.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = machine.upper / name.lstrip("/")
        _mkdir_like_host(machine.upper, path.parent)
        path.write_bytes(content)
        path.chmod(0o600 if name.startswith(plan.ETC) else 0o644)
    (machine.directory / "boot.json").write_text(json.dumps(spec, indent=1))


def _mkdir_like_host(upper: Path, folder: Path) -> None:
    """A directory of the upper layer hides the mode of the host's own: give it the same."""
    for path in reversed([folder, *folder.parents]):
        if upper in path.parents and not path.exists():
            path.mkdir()
            with contextlib.suppress(OSError):
                path.chmod((Path("/") / path.relative_to(upper)).stat().st_mode & 0o7777)


def launch(machine: plan.Machine, *, host: plan.Host) -> Starting:
    """Start the first process in namespaces of its own; it survives the caller.

    Raises LabError when it does not start.
    """
    status, told = os.pipe()
    keep = (told, *(s.fd for s in machine.sockets if s.fd >= 0))
    env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(host.source), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
    ]
    argv += [sys.executable, "-S", "-m", "nodeagent.lab.init", str(machine.directory / "boot.json"), str(told)]
    with open(machine.directory / "boot.log", "ab") as log:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=keep, env=env
        )
    os.close(told)
    try:
        said = _read_line(status, deadline=time.monotonic() + BOOT_SECONDS)
        if said != "started":
            raise _failure(machine, said)
        first = processes.describe(machine.name, processes.only_child(child.pid))
    except BaseException:
        child.kill()
        raise
    return Starting(machine=machine, first=first, status=status)


def finish(starting: Starting) -> None:
    """Wait until the machine has booted and its services are being started.

    Raises LabError with the step that failed.
    """
    said = _read_line(starting.status, deadline=time.monotonic() + BOOT_SECONDS)
    os.close(starting.status)
    if said != "booted":
        raise _failure(starting.machine, said)


def _failure(machine: plan.Machine, said: str) -> errors.LabError:
    reason = (
        said.removeprefix("failed: ") or (machine.directory / "boot.log").read_text(errors="replace").strip()[-500:]
    )
    return errors.LabError(f"machine {machine.name} did not start: {reason or 'no answer in time'}")


def _read_line(fd: int, *, deadline: float) -> str:
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return ""
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return line.decode(errors="replace").strip()


def run(first: state.Process, argv: Sequence[str], *, stdin: bytes = b"", seconds: float = 30.0) -> bytes:
    """Run a command inside a machine. Raises LabError with its stderr."""
    return processes.run(processes.inside(first.pid, argv), stdin=stdin, seconds=seconds)


def alive(first: state.Process) -> bool:
    """Whether the machine still runs."""
    return processes.alive(first)


def service_pid(first: state.Process, service: str) -> int | None:
    """The host's process id of one of the machine's services, None while it is down."""
    try:
        inner = int(Path(f"/proc/{first.pid}/root/run/nodeagent-lab/{service}.pid").read_text())
        return processes.host_pid(first.pid, inner)
    except (OSError, ValueError):
        return None


def remove(directory: Path) -> None:
    """Delete what a lab left in its directory, whatever state it is in."""
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        shutil.rmtree(directory)
