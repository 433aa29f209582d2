"""What network policies cost: a connection through sets of pods, one changed pod, and address blocks by themselves.

Run as root: `python -m tests.bench policy`. Works in throw-away namespaces. Prints medians and ratios of one run.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cni import masquerade, netns
from cni.policy import rules
from cni.policy.kernel import KernelRules
from cni.policy.model import Pod
from cni.policy.rules import Policy
from cni.policy.tracker import Tracker
from kube.types import NetworkPolicy, decode

NODE, CLIENT, SERVER = "nabench-policy", "nabench-policy-a", "nabench-policy-b"
ADDRESS = {CLIENT: "10.88.0.2", SERVER: "10.88.0.3"}
ROUNDS, CONNECTS, CHANGES = 15, 300, 200
SIZES = (10, 1000, 10_000)


def policy(name: str, **spec: object) -> Policy:
    body = {"metadata": {"namespace": "default", "name": name}, "spec": spec}
    return rules.policy(decode(json.dumps(body), NetworkPolicy))


def pod(name: str, address: str, *, local: bool = False) -> Pod:
    return Pod(namespace="default", name=name, labels={"app": name[:1]}, addresses=(address,), local=local)


def cluster(pods: int, *policies: Policy) -> Tracker:
    """Client and server here, and this many other pods that are peers of both."""
    tracker = Tracker()
    tracker.namespace("default", {})
    for each in policies or (BOTH_WAYS,):
        tracker.policy(each.key, each)
    for name, address in ADDRESS.items():
        tracker.pod(f"default/{name}", pod(name, address, local=True))
    for number in range(pods - len(ADDRESS)):
        tracker.pod(f"default/n{number}", pod(f"n{number}", f"10.90.{number // 250}.{number % 250 + 1}"))
    return tracker


EVERY = [{"podSelector": {"matchLabels": {"app": "n"}}}]
PORTS = [{"port": 80}, {"port": 8000, "endPort": 9000}]
BOTH_WAYS = policy(
    "both",
    podSelector={},
    ingress=[{"from": EVERY, "ports": PORTS}],
    egress=[{"to": EVERY, "ports": PORTS}],
)


@contextmanager
def inside(name: str) -> Iterator[None]:
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        with netns.entered(descriptor):
            yield
    finally:
        os.close(descriptor)


def ip(name: str, *lines: str) -> None:
    subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=20)


def build() -> None:
    """Two pods behind a bridge, with what a node has in its tables anyway."""
    ip(NODE, "link set lo up", "link add br0 type bridge", "link set br0 up", "address add 10.88.0.1/16 dev br0")
    for number, (name, address) in enumerate(ADDRESS.items()):
        ip(NODE, f"link add v{number} type veth peer name eth0 netns {name}", f"link set v{number} master br0 up")
        ip(name, "link set lo up", "link set eth0 up", f"address add {address}/16 dev eth0")
    text = masquerade.ruleset(own=["10.88.0.0/16"], pods=["10.88.0.0/15"])
    with inside(NODE):
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True, timeout=20)


def connects(listener: socket.socket) -> float:
    """Microseconds of one TCP connect between the pods, the median of many."""
    took = []
    with inside(CLIENT):
        for _ in range(CONNECTS):
            with socket.socket() as client:
                begin = time.perf_counter()
                client.connect((ADDRESS[SERVER], 80))
                took.append(time.perf_counter() - begin)
                listener.accept()[0].close()
    return statistics.median(took) * 1e6


async def connect_latency(kernel: KernelRules) -> None:
    """With and without rules in turn, since the machine is noisy: the ratio is that of neighbours."""
    with inside(SERVER):
        listener = socket.create_server(("0.0.0.0", 80), backlog=64)
    for size in SIZES:
        tracker = cluster(size)
        tracker.settle()
        wanted = tracker.wanted()
        empty = Tracker().wanted()
        bare, ruled, ratios = [], [], []
        for _ in range(ROUNDS):
            await kernel.replace(empty)
            bare.append(connects(listener))
            await kernel.replace(wanted)
            ruled.append(connects(listener))
            ratios.append(ruled[-1] / bare[-1])
        print(
            f"connect, {size:6} pods in sets: {statistics.median(ruled):6.1f} us against "
            f"{statistics.median(bare):6.1f} us without policy: {statistics.median(ratios):.3f}x"
        )
    listener.close()


async def one_change(kernel: KernelRules) -> None:
    """One pod that comes and goes: planned and in the kernel."""
    for size in SIZES:
        tracker = cluster(size)
        tracker.settle()
        begin = time.perf_counter()
        await kernel.replace(tracker.wanted())
        whole = time.perf_counter() - begin
        took = []
        for number in range(CHANGES):
            begin = time.perf_counter()
            tracker.pod("default/new", pod("new", "10.91.0.1") if number % 2 == 0 else None)
            await kernel.change(tracker.settle())
            took.append(time.perf_counter() - begin)
        print(
            f"one pod among {size:6}: {statistics.median(took) * 1000:6.3f} ms; all rules anew {whole * 1000:7.1f} ms"
        )


async def blocks(kernel: KernelRules) -> None:
    """A policy of many address blocks, and a pod that changes beside it."""
    for count in (10, 1000, 10_000):
        chosen = [{"ipBlock": {"cidr": f"172.{16 + n // 4096}.{n // 16 % 256}.{n % 16 * 16}/29"}} for n in range(count)]
        wide = policy("blocks", podSelector={}, ingress=[{"from": chosen}])
        tracker = cluster(1000, BOTH_WAYS, wide)
        tracker.settle()
        begin = time.perf_counter()
        await kernel.replace(tracker.wanted())
        whole = time.perf_counter() - begin
        begin = time.perf_counter()
        tracker.policy(wide.key, policy("blocks", podSelector={}, ingress=[{"from": chosen[1:]}]))
        await kernel.change(tracker.settle())
        changed = time.perf_counter() - begin
        took = []
        for number in range(CHANGES):
            begin = time.perf_counter()
            tracker.pod("default/new", pod("new", "10.91.0.1") if number % 2 == 0 else None)
            await kernel.change(tracker.settle())
            took.append(time.perf_counter() - begin)
        print(
            f"{count:6} address blocks: all anew {whole * 1000:7.1f} ms, one block changed {changed * 1000:7.1f} ms, "
            f"one pod beside them {statistics.median(took) * 1000:6.3f} ms"
        )


async def measure() -> None:
    kernel = KernelRules()
    await connect_latency(kernel)
    await one_change(kernel)
    await blocks(kernel)
    kernel.close()


def main() -> None:
    names = (NODE, CLIENT, SERVER)
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
        build()
        with inside(NODE):
            asyncio.run(measure())
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=10)


if __name__ == "__main__":
    main()
