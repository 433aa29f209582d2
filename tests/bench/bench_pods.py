"""One default pod from create to Ready, against what the runtime alone takes for the same; and memory.

Run as root: `python -m tests.bench pods`. Makes a lab of one node of its own and removes it. Alternates the two
measurements, so that a noisy machine is noisy for both, and prints medians and the ratio.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kube import kubeconfig, scheme
from kube.client.http import HttpTransport
from kube.client.rest import Client
from nodeagent.cri import client as cri_client
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.lab import cluster, images, phases, prove

COMMAND = ("sleep", "100000")
PODS, IDLE_PODS = 15, 10
MODULES = {"agent": b"nodeagent", "dns": b"proxy.dns", "server": b"controlplane"}


def pod(name: str) -> dict[str, Any]:
    """A pod as a user writes it: one container, the default service account's token mounted."""
    container = {"name": "main", "image": images.BUSYBOX, "command": list(COMMAND)}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def by_runtime(runtime: cri_client.GrpcRuntime, number: int, *, parent: str) -> float:
    """Seconds for sandbox + create + start; everything is removed afterwards."""
    sandbox = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=f"bench-{number}", uid=f"bench-{number}", namespace="bench"),
        hostname=f"bench-{number}",
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=parent),
    )
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"), image=cri.ImageSpec(image=images.BUSYBOX), command=COMMAND
    )
    begin = time.perf_counter()
    sandbox_id = await runtime.sandboxes.run(sandbox)
    container_id = await runtime.containers.create(sandbox_id, container, sandbox=sandbox)
    await runtime.containers.start(container_id)
    spent = time.perf_counter() - begin
    await runtime.containers.stop(container_id, grace=0)
    await runtime.sandboxes.stop(sandbox_id)
    await runtime.sandboxes.remove(sandbox_id)
    return spent


async def by_cluster(client: Client, name: str) -> float:
    """Seconds from the create call to the watch event that says Ready."""
    begin = time.perf_counter()
    made = await client.create(scheme.PODS, pod(name), namespace="default")
    revision = made["metadata"]["resourceVersion"]
    selector = f"metadata.name={name}"
    watch = client.watch(scheme.PODS, namespace="default", field_selector=selector, resource_version=revision)
    async with contextlib.aclosing(watch) as events:  # type: ignore[type-var]
        async for event in events:
            conditions = json.loads(bytes(event.raw)).get("status", {}).get("conditions", ())
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return time.perf_counter() - begin
    raise RuntimeError(f"the watch of {name} ended before it was Ready")


def proportional(name: str, directory: Path) -> float:
    """MiB of the proportional set size of the lab's process that runs a module."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"-m", MODULES[name]] and str(directory) in (entry / "mountinfo").read_text():
                rollup = (entry / "smaps_rollup").read_text()
                return next(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        except OSError:
            continue
    raise RuntimeError(f"no process of the lab runs {name}")


async def measure(running: cluster.Running, pods: int) -> None:
    """Prints the figures."""
    client = Client(HttpTransport(kubeconfig.load(running.plan.kubeconfig)))
    node = running.plan.nodes[0]
    pid = running.first(node.name).pid
    runtime = cri_client.GrpcRuntime(f"unix:///proc/{pid}/root/run/containerd/containerd.sock")
    alone, whole = [], []
    for number in range(pods):
        alone.append(await by_runtime(runtime, number, parent=f"{node.cgroup}/bench"))
        whole.append(await by_cluster(client, f"bench-{number}"))
        if number >= IDLE_PODS:
            await client.delete(scheme.PODS, f"bench-{number}", namespace="default")
    floor, ready = statistics.median(alone) * 1000, statistics.median(whole) * 1000
    print(f"the runtime alone, sandbox + create + start   {floor:7.0f} ms")
    print(f"one default pod, create -> Ready              {ready:7.0f} ms   {ready / floor:.2f}x (aim 1.25x)")
    await asyncio.sleep(5)
    directory = running.plan.directory
    agent, dns = proportional("agent", directory), proportional("dns", directory)
    print(f"memory with {IDLE_PODS} pods: agent {agent:.0f} + dns {dns:.0f} = {agent + dns:.0f} MiB (aim 115)")
    print(f"memory of the control plane: {proportional('server', directory):.0f} MiB (aim 140)")
    await runtime.close()
    await client.close()


def main() -> None:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    with tempfile.TemporaryDirectory(prefix="nabench-", dir="/dev/shm") as folder:
        directory = Path(folder) / "lab"
        running = cluster.up(cluster.Options(directory=directory, nodes=1, port=0), report=phases.Phases())
        try:
            asyncio.run(prove.wait_for_cluster(running.plan.kubeconfig, nodes=1, report=phases.Phases()))
            asyncio.run(measure(running, pods))
        finally:
            cluster.down(directory)


if __name__ == "__main__":
    main()
