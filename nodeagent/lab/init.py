"""The first process of a machine of the lab: boots it, keeps its services running, reaps the dead, stops all when
told.

Run as `python -m nodeagent.lab.init SPEC STATUS_FD`; standard library only, since every machine pays for it. Must
not know what its services are: a name, a command line, an environment, and the listening sockets it holds open for
them, so that a client of a service that is being restarted waits instead of being refused.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodeagent.lab import boot

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0
STEADY_SECONDS = 10.0
STOP_SECONDS = 8.0
FIRST_SOCKET_FD = 3
HIGH_FD = 200
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True, kw_only=True)
class Service:
    """One supervised process; `due` is when it is to be started next, on the monotonic clock."""

    name: str
    argv: list[str]
    env: dict[str, str]
    fds: list[int]
    log: str
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    backoff: float = FIRST_BACKOFF_SECONDS
    starts: int = 0


class Init:
    """Starts, restarts and stops the services. One thread, no signal handlers: signals are waited for."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._logs: str = spec["logs"]
        sockets = {entry["name"]: listening_socket(entry) for entry in spec["sockets"]}
        self._services = [
            Service(
                name=entry["name"],
                argv=entry["argv"],
                env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **entry["env"]},
                fds=[sockets[name] for name in entry["sockets"]],
                log=f"{self._logs}/{entry['name']}.log",
            )
            for entry in spec["services"]
        ]

    def run(self) -> None:
        """Keep the services running until SIGTERM, then stop them, the last one first."""
        while True:
            self._start_due()
            if self._wait() in (signal.SIGTERM, signal.SIGINT):
                break
            self._reap()
        for service in reversed(self._services):
            self._stop(service)

    def _start_due(self) -> None:
        now = time.monotonic()
        for service in self._services:
            if not service.pid and service.due <= now:
                start(service)
                write_pid(service)

    def _wait(self) -> int:
        waiting = [service.due for service in self._services if not service.pid]
        seconds = max(0.0, min(waiting) - time.monotonic()) if waiting else 3600.0
        info = signal.sigtimedwait(SIGNALS, seconds)
        return info.si_signo if info else 0

    def _reap(self) -> None:
        """Collect every dead child, containers' orphans included; plan the restart of a service that was among them."""
        while (dead := collect()) is not None:
            pid, status = dead
            for service in self._services:
                if service.pid == pid:
                    self._ended(service, status)

    def _ended(self, service: Service, status: int) -> None:
        now = time.monotonic()
        if now - service.started > STEADY_SECONDS:
            service.backoff = FIRST_BACKOFF_SECONDS
        service.pid = 0
        service.due = now + service.backoff
        note(self._logs, f"{service.name} ended with {describe(status)}; starting it again in {service.backoff:.1f} s")
        service.backoff = min(service.backoff * 2, MAX_BACKOFF_SECONDS)

    def _stop(self, service: Service) -> None:
        if not service.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(service.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while service.pid and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            while (dead := collect()) is not None:
                if dead[0] == service.pid:
                    service.pid = 0


def listening_socket(entry: Mapping[str, Any]) -> int:
    """The descriptor of a socket that outlives its service: bound here, or handed over by the lab."""
    if entry["address"]:
        host, _, port = entry["address"].rpartition(":")
        bound = socket.create_server((host, int(port)), backlog=512)
        fd = bound.detach()
    else:
        fd = entry["fd"]
    # Out of the way of 3, 4, ..., where a service finds its sockets.
    kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    os.close(fd)
    return kept


def start(service: Service) -> None:
    """Start a service in a session of its own, its output appended to its log, its sockets from descriptor 3 on."""
    env = dict(service.env)
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    for place, fd in enumerate(service.fds):
        actions.append((os.POSIX_SPAWN_DUP2, fd, FIRST_SOCKET_FD + place))
    if service.fds:
        env |= {"LISTEN_FDS": str(len(service.fds)), "NODEAGENT_LISTEN_FDS": "1"}
    service.started = time.monotonic()
    service.starts += 1
    service.pid = os.posix_spawn(
        service.argv[0], service.argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=SIGNALS
    )


def write_pid(service: Service) -> None:
    """Leave the service's process id, as this machine counts, where the lab looks for it."""
    os.makedirs("/run/nodeagent-lab", exist_ok=True)
    path = f"/run/nodeagent-lab/{service.name}.pid"
    with open(path + ".new", "w") as file:
        file.write(f"{service.pid}\n")
    os.rename(path + ".new", path)


def collect() -> tuple[int, int] | None:
    """The next dead child as (pid, status), or None when all live."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def describe(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def note(logs: str, text: str) -> None:
    """A line in this machine's own log."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with open(f"{logs}/init.log", "a") as file:
        file.write(f"{stamp} {text}\n")


def main() -> None:
    """Boot, report, run. On a failure the reason goes to the status pipe and the machine is gone."""
    spec_path, status_fd = sys.argv[1], int(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with open(status_fd, "w") as status:
        try:
            with open(spec_path, encoding="utf-8") as file:
                spec = json.load(file)
            print("started", file=status, flush=True)
            boot.boot(spec)
            init = Init(spec)
            print("booted", file=status, flush=True)
        except Exception as error:
            print(f"failed: {error}", file=status, flush=True)
            raise SystemExit(1) from error
    init.run()


if __name__ == "__main__":
    main()
