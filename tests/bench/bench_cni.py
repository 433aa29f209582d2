"""CNI ADD and DEL through the installed shim and a warm daemon, against the reference bridge + host-local.

Run as root: `python -m tests.bench cni`. Works in throw-away namespaces. Both do the same work, with masquerading, in
turn, since the machine is noisy: one call after the other, and 20 at once. Prints medians, CPU a call, and ratios.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cni import daemon, install, masquerade, netns
from cni.config import CNIConfiguration
from cni.plugin import Plugin
from cni.server import Server

REFERENCE = Path("/usr/lib/cni")
HOST = "/run/netns/nabench-host"
PARALLEL, ROUNDS = 20, 6
BARS = {"ADD": 0.5, "DEL": 0.6, "CPU": 0.5}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plugin with its configuration; `cpu` is the CPU time of its daemon in seconds."""

    name: str
    program: Path
    config: Path
    folder: Path
    cpu: Callable[[], float] = lambda: 0.0
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def call(self, command: str, number: int) -> float:
        """Milliseconds of one call, started as lean as a runtime does it."""
        stdout = self.folder / f"{self.name}.{number}.out"
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, str(self.config), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(stdout), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        begin = time.perf_counter()
        pid = os.posix_spawn(self.program, [str(self.program)], variables(command, number), file_actions=actions)
        _, status = os.waitpid(pid, 0)
        took = (time.perf_counter() - begin) * 1000
        if status:
            raise RuntimeError(f"{self.name} {command}: {stdout.read_text()}")
        return took

    def used(self) -> float:
        """Milliseconds of CPU so far, of the processes started and of the daemon."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (children.ru_utime + children.ru_stime + self.cpu()) * 1000


def variables(command: str, number: int) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"bench{number}",
        "CNI_NETNS": f"/run/netns/nabench-{number}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(REFERENCE),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }


def one_round(candidate: Candidate, threads: ThreadPoolExecutor) -> None:
    """Each verb for every pod, one after the other and then all at once."""
    for command in ("ADD", "DEL"):
        before = candidate.used()
        candidate.figures[f"{command}, 1 at once"] += [candidate.call(command, n) for n in range(PARALLEL)]
        candidate.figures[f"{command} CPU"].append((candidate.used() - before) / PARALLEL)
    for command in ("ADD", "DEL"):
        each = threads.map(lambda n, verb=command: candidate.call(verb, n), range(PARALLEL))
        candidate.figures[f"{command}, {PARALLEL} at once"] += list(each)


def measure(folder: Path) -> None:
    ours, theirs = document("nodeagent-cni", "10.77.0.0/24", folder), document("bridge", "10.78.0.0/24", folder)
    with our_daemon(folder) as (program, cpu), ThreadPoolExecutor(PARALLEL) as threads:
        candidates = [
            Candidate(name="ours", program=program, config=ours, folder=folder, cpu=cpu),
            Candidate(name="reference", program=REFERENCE / "bridge", config=theirs, folder=folder),
        ]
        for _ in range(ROUNDS):
            for candidate in candidates:
                one_round(candidate, threads)
    mine, other = ({key: statistics.median(found) for key, found in c.figures.items()} for c in candidates)
    for key in sorted(mine):
        bar = BARS["CPU" if "CPU" in key else key[:3]]
        print(
            f"{key:18} {mine[key]:7.1f} ms against {other[key]:7.1f} ms: {mine[key] / other[key]:.2f}x (bar {bar}x)",
            flush=True,
        )


@contextmanager
def our_daemon(folder: Path) -> Iterator[tuple[Path, Callable[[], float]]]:
    """The installed plugin and its daemon, in a process of its own as on a node, and a clock of its CPU time."""
    config = CNIConfiguration(socket=str(folder / "cni.sock"), bin_dir=str(folder / "bin"))
    program = install.plugin(config)
    child = os.fork()
    if not child:
        try:
            asyncio.run(serve(config))
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 20
        while not Path(config.socket).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield program, lambda: time.clock_gettime(~child << 3 | 2)  # clock_getcpuclockid(3)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


async def serve(config: CNIConfiguration) -> None:
    await daemon.apply_rules(masquerade.ruleset(own=["10.77.0.0/24"], pods=["10.77.0.0/16"]))
    await Server(Path(config.socket), Plugin()).run()


def document(kind: str, subnet: str, folder: Path) -> Path:
    """The file with a plugin's configuration."""
    addresses = "host-local" if kind == "bridge" else kind
    ipam = {"type": addresses, "dataDir": str(folder / kind), "ranges": [[{"subnet": subnet}]]}
    config = {"cniVersion": "1.0.0", "name": kind, "type": kind, "mtu": 1450, "hairpinMode": True, "ipam": ipam}
    if kind == "bridge":
        config |= {"bridge": "ref0", "isGateway": True, "ipMasq": True}
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(config))
    return path


def main() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -20)  # both suffer alike from what else runs, but not in proportion
    if not (REFERENCE / "bridge").exists():
        sys.exit("containernetworking-plugins is not installed: nothing to compare with; ./dev test kernel brings it")
    names = ["nabench-host", *(f"nabench-{number}" for number in range(PARALLEL))]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        descriptor = os.open(HOST, os.O_RDONLY)
        with tempfile.TemporaryDirectory() as folder:
            # Before any thread starts: threads and children inherit this namespace.
            with netns.entered(descriptor):
                measure(Path(folder))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=True, timeout=10)


if __name__ == "__main__":
    main()
