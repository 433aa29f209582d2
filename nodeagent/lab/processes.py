"""Processes of the host, seen through /proc: who is who, who is still there, and how to run something in another's
namespaces.

Every command has a deadline. Must not know machines or labs.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from nodeagent.lab import errors, state

COMMAND_SECONDS = 30.0


def start_time(pid: int) -> int | None:
    """When this process started, in clock ticks since boot; None when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def describe(name: str, pid: int) -> state.Process:
    """The record of a running process. Raises LabError when it has just ended."""
    start = start_time(pid)
    if start is None:
        raise errors.LabError(f"{name} (process {pid}) ended at once")
    return state.Process(name=name, pid=pid, start=start)


def alive(process: state.Process) -> bool:
    """Whether it is this very process that runs under the recorded id."""
    return start_time(process.pid) == process.start


def end(processes: Sequence[state.Process], *, term_seconds: float, kill_seconds: float = 10.0) -> list[state.Process]:
    """SIGTERM all, wait, SIGKILL the rest, wait. Returns those that are still there."""
    left = _signal_and_wait(processes, signal.SIGTERM, term_seconds) if term_seconds else list(processes)
    return _signal_and_wait(left, signal.SIGKILL, kill_seconds)


def _signal_and_wait(processes: Iterable[state.Process], number: int, seconds: float) -> list[state.Process]:
    left = [process for process in processes if alive(process)]
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        _reap_own(left)
        left = [process for process in left if alive(process)]
    return left


def _reap_own(processes: Iterable[state.Process]) -> None:
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


def only_child(pid: int) -> int:
    """The one child of a process. Raises LabError when it has none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(int(entry.name)) == pid:
            return int(entry.name)
    raise errors.LabError(f"process {pid} has no child")


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def host_pid(first: int, inner: int) -> int | None:
    """The host's id of the process that is `inner` in the pid namespace of process `first`."""
    namespace = os.readlink(f"/proc/{first}/ns/pid")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            status = (entry / "status").read_text()
            ids = status.partition("NSpid:")[2].partition("\n")[0].split()
            if len(ids) > 1 and int(ids[-1]) == inner and os.readlink(entry / "ns/pid") == namespace:
                return int(entry.name)
    return None


def run(argv: Sequence[str], *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> bytes:
    """Run a command and return its output. Raises LabError with what it said on stderr."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise errors.LabError(
            f"{argv[0]} is not installed", hint="nodeagent lab up names the package (in a clone, ./dev up installs it)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise errors.LabError(f"{' '.join(argv[:6])} did not end within {seconds:.0f} s") from error
    if done.returncode != 0:
        text = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise errors.LabError(f"{' '.join(argv[:8])}: {text}")
    return done.stdout


def inside(pid: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in all namespaces of a machine's first process."""
    return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", *argv]


def network_of(pid: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the network namespace of a process, with the host's files."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net", *argv]
