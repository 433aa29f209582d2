"""A soak: pods started and deleted by the hundred, and what they leave behind, which must be nothing.

Run as root: `python -m tests.bench.soak [1000]`; a test does the same with fewer on the lab it has. Counts, on the
node: memory, descriptors and threads of the agent, mounts, cgroups, interfaces, address leases, leases and records of
the runtime, folders and logs of pods.
"""

import asyncio
import os
import sys
from typing import Any

from kube import scheme
from kube.client.rest import Client
from nodeagent.lab import cluster, images, machine
from tests.bench import on_lab

PODS, TOGETHER = 1000, 10
GROWTH_MIB = 8.0
"""What allocators may keep after a soak, in MiB of the agent's proportional set size."""
SPARE = {"descriptors": 6, "threads": 8}
"""Connections and pool threads come and go."""
SECONDS = 120.0
COUNTS = {
    "mounts": "wc -l < /proc/self/mountinfo",
    "interfaces": "ls /sys/class/net | wc -l",
    "address leases": "find /var/lib/nodeagent /var/lib/cni -type f 2>/dev/null | wc -l",
    "runtime leases": "ctr --namespace k8s.io leases ls -q | wc -l",
    "containers": "ctr --namespace k8s.io containers ls -q | wc -l",
    "snapshots": "ctr --namespace k8s.io snapshots ls | wc -l",
    "pod folders": "ls /var/lib/kubelet/pods 2>/dev/null | wc -l",
    "log folders": "ls /var/log/pods 2>/dev/null | wc -l",
    "log links": "ls /var/log/containers 2>/dev/null | wc -l",
}


def belongings(running: cluster.Running) -> dict[str, int]:
    """How much there is of everything on the first node."""
    node = running.plan.nodes[0]
    script = "; ".join(f"echo $({command})" for command in COUNTS.values())
    lines = machine.run(running.first(node.name), ["sh", "-c", script], seconds=60).decode().split()
    found = dict(zip(COUNTS, map(int, lines), strict=True))
    agent = on_lab.process("agent", running.plan.directory)
    found["descriptors"] = len(list(on_lab.folder(agent, "fd")))
    found["threads"] = len(list(on_lab.folder(agent, "task")))
    roots = [root / node.cgroup.strip("/") for root in machine.hierarchies()]
    found["cgroups"] = sum(len(folders) for root in roots for _, folders, _ in os.walk(root))
    return found


def left(before: dict[str, int], after: dict[str, int]) -> dict[str, str]:
    """What there is more of than before, beyond what comes and goes."""
    return {
        name: f"{before[name]} -> {after[name]}" for name in before if after[name] > before[name] + SPARE.get(name, 0)
    }


def pod(name: str, namespace: str) -> dict[str, Any]:
    """One with every volume a default pod has, and a file and a folder more."""
    container = {
        "name": "main",
        "image": images.BUSYBOX,
        "command": ["sleep", "100000"],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "memory", "mountPath": "/memory"}],
    }
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def batch(client: Client, names: list[str], namespace: str) -> None:
    """Some pods: made, Ready, deleted, gone."""
    for name in names:
        await client.create(scheme.PODS, pod(name, namespace), namespace=namespace)
    async with asyncio.timeout(SECONDS):
        while not all(map(is_ready, (found := await mine(client, names, namespace)))) or len(found) < len(names):
            await asyncio.sleep(0.2)
    for name in names:
        await client.delete(scheme.PODS, name, namespace=namespace)
    async with asyncio.timeout(SECONDS):
        while await mine(client, names, namespace):
            await asyncio.sleep(0.2)


async def mine(client: Client, names: list[str], namespace: str) -> list[dict[str, Any]]:
    """Those of the pods that are there."""
    items = (await client.list(scheme.PODS, namespace=namespace))["items"]
    return [item for item in items if item["metadata"]["name"] in names]


def is_ready(item: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))


async def soak(running: cluster.Running, pods: int, *, together: int = TOGETHER, namespace: str = "default") -> None:
    """Starts and deletes this many pods. Raises TimeoutError when one does not come or go."""
    client = on_lab.client(running)
    for begin in range(0, pods, together):
        await batch(client, [f"soak-{n}" for n in range(begin, min(begin + together, pods))], namespace)
    await client.close()


async def settled(running: cluster.Running, before: dict[str, int], *, seconds: float = 60.0) -> dict[str, str]:
    """What is left once everything had time to go: leftovers are looked for once a minute."""
    found: dict[str, str] = {}
    for _ in range(round(seconds)):
        found = left(before, await asyncio.to_thread(belongings, running))
        if not found:
            break
        await asyncio.sleep(1)
    return found


async def measure(running: cluster.Running, pods: int) -> int:
    """Prints what is left and how the agent grew; 1 when it is too much."""
    await soak(running, max(TOGETHER, pods // 10))
    before, memory = belongings(running), on_lab.proportional(on_lab.process("agent", running.plan.directory))
    await soak(running, pods)
    found = await settled(running, before)
    grown = on_lab.proportional(on_lab.process("agent", running.plan.directory)) - memory
    print(f"{pods} pods started and deleted: left behind {found or 'nothing'}; agent {grown:+.1f} MiB")
    return 1 if found or grown > GROWTH_MIB else 0


def main() -> int:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    with on_lab.lab() as running:
        return asyncio.run(measure(running, pods))


if __name__ == "__main__":
    sys.exit(main())
