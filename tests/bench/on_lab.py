"""A lab of one node for a bench, and the processes in it. Knows no figure."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kube import kubeconfig
from kube.client.http import HttpTransport
from kube.client.rest import Client
from nodeagent.cri import client as cri_client
from nodeagent.lab import cluster, phases, prove

MODULES = {"agent": b"nodeagent", "dns": b"proxy.dns", "server": b"controlplane"}
TICK = 1000 / os.sysconf("SC_CLK_TCK")
"""Milliseconds of one tick of the kernel's accounting."""


@contextlib.contextmanager
def lab() -> Iterator[cluster.Running]:
    """A healthy lab of one node, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="nabench-", dir="/dev/shm") as folder:
        directory = Path(folder) / "lab"
        running = cluster.up(cluster.Options(directory=directory, nodes=1, port=0), report=phases.Phases())
        try:
            asyncio.run(prove.wait_for_cluster(running.plan.kubeconfig, nodes=1, report=phases.Phases()))
            yield running
        finally:
            cluster.down(directory)


def client(running: cluster.Running) -> Client:
    """A client of its API server."""
    return Client(HttpTransport(kubeconfig.load(running.plan.kubeconfig)))


def runtime(running: cluster.Running) -> cri_client.GrpcRuntime:
    """Its node's container runtime, without anything of ours in between. Call it on a running loop."""
    pid = running.first(running.plan.nodes[0].name).pid
    return cri_client.GrpcRuntime(f"unix:///proc/{pid}/root/run/containerd/containerd.sock")


def process(name: str, directory: Path) -> int:
    """The id of the lab's process that runs a module."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"-m", MODULES[name]] and str(directory) in (entry / "mountinfo").read_text():
                return int(entry.name)
        except OSError:
            continue
    raise RuntimeError(f"no process of the lab runs {name}")


def proportional(pid: int) -> float:
    """MiB of a process's proportional set size."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def spent(pid: int) -> float:
    """Milliseconds of CPU a process has used, in user and kernel mode, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def folder(pid: int, name: str) -> list[str]:
    """The entries of a process's folder in /proc."""
    return os.listdir(f"/proc/{pid}/{name}")
