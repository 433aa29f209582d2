"""Default pods from create to Ready, against what the runtime alone takes for the same; the agent's CPU; and memory.

Run as root: `python -m tests.bench pods`. Makes a lab of one node of its own and removes it. Alternates the two
measurements, so that a noisy machine is noisy for both, and prints medians and the ratio.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from typing import Any

from kube import scheme
from kube.client.rest import Client
from nodeagent.cri import client as cri_client
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.lab import cluster, images
from tests.bench import on_lab, soak

COMMAND = ("sleep", "100000")
PODS, IDLE_PODS, MANY, IDLE_PROBED = 20, 10, 30, 50
IDLE_SECONDS = 40.0
END_SECONDS = 1.0
"""What a pod's end may take; the agent's idling in it counts against it."""


def pod(name: str) -> dict[str, Any]:
    """A pod as a user writes it: one container, the default service account's token mounted."""
    container = {"name": "main", "image": images.BUSYBOX, "command": list(COMMAND)}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def start_by_runtime(runtime: cri_client.GrpcRuntime, name: str, *, parent: str) -> tuple[str, str]:
    """Sandbox + create + start; returns the ids of sandbox and container."""
    sandbox = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=f"bench-{name}", uid=f"bench-{name}", namespace="bench"),
        hostname=f"bench-{name}",
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=parent),
    )
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"), image=cri.ImageSpec(image=images.BUSYBOX), command=COMMAND
    )
    sandbox_id = await runtime.sandboxes.run(sandbox)
    container_id = await runtime.containers.create(sandbox_id, container, sandbox=sandbox)
    await runtime.containers.start(container_id)
    return sandbox_id, container_id


async def end_by_runtime(runtime: cri_client.GrpcRuntime, sandbox_id: str, container_id: str) -> None:
    """Removes what was started."""
    await runtime.containers.stop(container_id, grace=0)
    await runtime.sandboxes.stop(sandbox_id)
    await runtime.sandboxes.remove(sandbox_id)


async def by_runtime(runtime: cri_client.GrpcRuntime, number: int, *, parent: str) -> float:
    """Seconds for sandbox + create + start; everything is removed afterwards."""
    begin = time.perf_counter()
    made = await start_by_runtime(runtime, str(number), parent=parent)
    spent = time.perf_counter() - begin
    await end_by_runtime(runtime, *made)
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


async def together(client: Client, pods: int) -> float:
    """Seconds until this many pods made at once are all Ready."""
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(pods):
            group.create_task(by_cluster(client, f"many-{number}"))
    return time.perf_counter() - begin


async def together_by_runtime(runtime: cri_client.GrpcRuntime, pods: int, *, parent: str) -> float:
    """The same by the runtime alone, with nobody else asking."""
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(start_by_runtime(runtime, f"many-{n}", parent=parent)) for n in range(pods)]
    took = time.perf_counter() - begin
    for task in made:
        await end_by_runtime(runtime, *task.result())
    return took


async def gone(client: Client) -> None:
    """Until no pod is left."""
    while (await client.list(scheme.PODS, namespace="default"))["items"]:
        await asyncio.sleep(0.1)


async def delete(client: Client, prefix: str) -> None:
    """Asks for the end of all pods of a name, and waits for it."""
    for each in (await client.list(scheme.PODS, namespace="default"))["items"]:
        if each["metadata"]["name"].startswith(prefix):
            await client.delete(scheme.PODS, each["metadata"]["name"], namespace="default")


def probed(name: str) -> dict[str, Any]:
    """A pod that is asked twice every ten seconds."""
    made = pod(name)
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 10}
    made["spec"]["containers"][0] |= {
        "command": ["sh", "-c", "echo ok > /www/index.html; exec httpd -f -p 8080 -h /www"],
        "livenessProbe": probe,
        "readinessProbe": probe,
    }
    return made


async def idle(client: Client, agent: int) -> float:
    """Percent of a core that the agent takes while nothing changes, with IDLE_PROBED pods that are probed."""
    for number in range(IDLE_PROBED):
        await client.create(scheme.PODS, probed(f"idle-{number}"), namespace="default")
    async with asyncio.timeout(240):
        while sum(map(soak.is_ready, (await client.list(scheme.PODS, namespace="default"))["items"])) < IDLE_PROBED:
            await asyncio.sleep(1)
    await asyncio.sleep(15)
    before, begin = on_lab.spent(agent), time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    return (on_lab.spent(agent) - before) / (time.perf_counter() - begin) / 10


async def measure(running: cluster.Running, pods: int) -> None:
    """Prints the figures."""
    client, runtime = on_lab.client(running), on_lab.runtime(running)
    parent = f"{running.plan.nodes[0].cgroup}/bench"
    directory = running.plan.directory
    agent, dns, server = (on_lab.process(name, directory) for name in ("agent", "dns", "server"))
    alone, whole, cpu = [], [], []
    for number in range(pods):
        alone.append(await by_runtime(runtime, number, parent=parent))
        before = on_lab.spent(agent)
        whole.append(await by_cluster(client, f"bench-{number}"))
        if number >= IDLE_PODS:
            await client.delete(scheme.PODS, f"bench-{number}", namespace="default")
            await asyncio.sleep(END_SECONDS)
            cpu.append(on_lab.spent(agent) - before)
    floor, ready = statistics.median(alone) * 1000, statistics.median(whole) * 1000
    print(f"the runtime alone, sandbox + create + start   {floor:7.0f} ms")
    print(f"one default pod, create -> Ready              {ready:7.0f} ms   {ready / floor:.2f}x (bar 1.15x)")
    print(f"agent CPU for one pod's start and end         {statistics.mean(cpu):7.0f} ms   (bar 25 ms)")
    await asyncio.sleep(5)
    one, two = on_lab.proportional(agent), on_lab.proportional(dns)
    print(f"memory with {IDLE_PODS} pods: agent {one:.0f} + dns {two:.0f} = {one + two:.0f} MiB (bar 115)")
    print(f"memory of the control plane: {on_lab.proportional(server):.0f} MiB (bar 140)")
    await delete(client, "bench-")
    await gone(client)
    floor = await together_by_runtime(runtime, MANY, parent=parent)
    ready = await together(client, MANY)
    print(f"{MANY} pods at once: {ready:.1f} s, the runtime alone {floor:.1f} s, {ready / floor:.2f}x (bar 1.1x)")
    await delete(client, "many-")
    await gone(client)
    print(
        f"idle with {IDLE_PROBED} pods of two probes each 10 s: {await idle(client, agent):.1f} % of a core (bar 3 %)"
    )
    await runtime.close()
    await client.close()


def main() -> None:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    with on_lab.lab() as running:
        asyncio.run(measure(running, pods))


if __name__ == "__main__":
    main()
