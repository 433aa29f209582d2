"""Whether one place reaches another over TCP or UDP, tried as the one there would: in its network, with its names.

The attempt works whatever image a pod has, since the program is the host's. Must not know pytest.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nodeagent.lab import errors, leftovers, processes
from nodeagent.lab.testing import probe
from nodeagent.lab.testing.handle import Lab
from nodeagent.resources import cgroups

if TYPE_CHECKING:
    from nodeagent.lab.testing.pods import Pod

TRY_SECONDS = 2.0
WITHIN_SECONDS = 15.0
PAUSE_SECONDS = 0.1
PAYLOAD = "nodeagent?\n"
NAMES = "hosts: files dns\n"


class Place(Protocol):
    """What has an address and perhaps a port: a pod or a Service."""

    @property
    def ip(self) -> str: ...

    @property
    def port(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one try ended: `outcome` is reached, refused, timeout, "no name" or "no route"; `reply` what came back."""

    outcome: str
    address: str = ""
    reply: str = ""
    detail: str = ""

    @property
    def reached(self) -> bool:
        """Whether the other end answered."""
        return self.outcome == probe.REACHED

    def __str__(self) -> str:
        at = f" at {self.address}" if self.address else ""
        return f"{self.outcome}{at}" + (f" ({self.detail})" if self.detail else "")


def target(lab: Lab, to: "Place | str", *, port: int | None) -> Target:
    """Where a test means by a pod, a Service, a machine's name, or any name or address, "host:port" included.

    Raises LabError when no port is told.
    """
    if not isinstance(to, str):
        host, known = to.ip, to.port
    else:
        host, _, after = to.rpartition(":") if ":" in to else (to, "", "")
        known = int(after) if after.isdigit() else 0
        host = lab.address(host) if host in ("server", *lab.nodes) else host
    chosen = port or known
    if not chosen:
        raise errors.LabError(f"no port is known for {to}", hint="say it: port=8080, or name:8080")
    return Target(host=host, port=chosen)


def attempt(lab: Lab, source: "Pod | str", to: Target, *, protocol: str, seconds: float = TRY_SECONDS) -> Attempt:
    """Try once, from a pod or from a machine. Raises LabError when the source is not there."""
    if protocol not in probe.KINDS:
        raise errors.LabError(f"protocol {protocol!r} cannot be tried", hint="TCP or UDP")
    pid = lab.running.first(source).pid if isinstance(source, str) else pids(lab, source)[0]
    document = {"host": to.host, "port": to.port, "protocol": protocol, "seconds": seconds, "payload": PAYLOAD}
    with tempfile.TemporaryDirectory(dir=lab.directory) as folder:
        files = _names_of(pid, Path(folder))
        script = [sys.executable, "-I", "-S", str(Path(probe.__file__)), json.dumps(document | {"files": files})]
        argv = processes.network_of(pid, ["unshare", "--mount", "--", *script])
        return Attempt(**json.loads(processes.run(argv, seconds=seconds + 30)))


def _names_of(pid: int, folder: Path) -> dict[str, str]:
    """The files by which a process finds names, copied (another's mounts cannot be bound): place -> copy."""
    texts = {"nsswitch.conf": NAMES}
    for name in ("resolv.conf", "hosts"):
        with contextlib.suppress(OSError):
            texts[name] = Path(f"/proc/{pid}/root/etc/{name}").read_text()
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {f"/etc/{name}": str(folder / name) for name in texts}


def pids(lab: Lab, one: "Pod") -> list[int]:
    """The pod's processes, as the host counts; those with a file system of names first.

    Raises LabError when it has none.
    """
    layout = cgroups.Layout(version=1, driver="cgroupfs", root=lab.running.machine(one.node).cgroup)
    found = {pid for path in cgroups.every_pod_path(one.uid, layout=layout) for pid in leftovers.members(path)}
    if not found:
        raise errors.LabError(f"pod {one.name} has no process on {one.node}", hint="it was deleted, or its node killed")
    return sorted(found, key=lambda pid: (not Path(f"/proc/{pid}/root/etc/resolv.conf").exists(), -pid))


def inner_pid(lab: Lab, one: "Pod") -> int:
    """A process of the pod, as its machine counts."""
    status = Path(f"/proc/{pids(lab, one)[0]}/status").read_text()
    return int(status.partition("NSpid:")[2].split("\n")[0].split()[1])


def until(
    tries: Callable[[], Attempt], good: Callable[[Attempt], bool], *, within: float = WITHIN_SECONDS
) -> tuple[Attempt, bool]:
    """Try until it is good twice in a row when it should fail, once when it should not; the last attempt, and whether.

    What is being set up (rules, records, policies) may be some time on its way: each try that is not good is repeated.
    """
    deadline = time.monotonic() + within
    streak = 0
    while True:
        last = tries()
        streak = streak + 1 if good(last) else 0
        if streak >= (1 if last.reached else 2):
            return last, True
        if time.monotonic() > deadline and not streak:
            return last, False
        time.sleep(PAUSE_SECONDS)
