"""exec and port-forward through API server and kubelet: bytes a second by kubectl, and one round trip.

Run as root: `python -m tests.bench streams`. Makes a lab of one node of its own and removes it. A round trip is
compared with the runtime's own ExecSync of the same command, the two taken in turns.
"""

import asyncio
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from kube import kubeconfig, scheme
from kube.client import tls
from kube.streams import duplex, remotecommand, spdy
from nodeagent.cri import labels
from nodeagent.lab import cluster, images
from tests.bench import on_lab

KUBECTL = Path(sys.executable).parent / "kubectl"
MEGABYTES = 400
ROUNDS = 30
PORT = 8080
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "streams", "namespace": "default"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": images.BUSYBOX,
                "command": ["sh", "-c", f"while :; do head -c {MEGABYTES}000000 /dev/zero | nc -l -p {PORT}; done"],
            }
        ],
    },
}


def rate(argv: list[str]) -> float:
    """MB/s of a command's output. Its input stays open: the end of that would end a connection."""
    begin, count = time.perf_counter(), 0
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while data := process.stdout.read(1 << 20):
            count += len(data)
    return count / 1e6 / (time.perf_counter() - begin)


def forwarded(argv: list[str]) -> float:
    """MB/s of one connection through `kubectl port-forward`."""
    with subprocess.Popen([*argv, "port-forward", "pod/streams", f":{PORT}"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = re.search(rb":(\d+) ->", process.stdout.readline())
        assert found is not None
        try:
            return rate(["busybox", "nc", "127.0.0.1", found[1].decode()])
        finally:
            process.terminate()


async def once(rest: kubeconfig.RestConfig) -> float:
    """Seconds of one exec of `true` through the API server, from the request to the status."""
    begin = time.perf_counter()
    host, _, port = rest.server.removeprefix("https://").rpartition(":")
    headers = [("Host", f"{host}:{port}"), ("Connection", "Upgrade"), ("Upgrade", remotecommand.UPGRADE_SPDY)]
    headers.append((remotecommand.PROTOCOL_HEADER, remotecommand.SPDY_PROTOCOLS[0]))
    target = "/api/v1/namespaces/default/pods/streams/exec?command=true&stdout=1&container=main"
    _, stream = await duplex.upgrade(host, int(port), target=target, headers=headers, tls=tls.context(rest))
    session = spdy.Session(client=True)
    error = session.open({remotecommand.STREAM_TYPE: remotecommand.ERROR})
    session.open({remotecommand.STREAM_TYPE: remotecommand.STDOUT})
    await stream.write(session.pending())
    status = b""
    while not status:
        for event in session.receive(await stream.read()):
            if isinstance(event, spdy.DataReceived) and event.stream == error:
                status += event.data
    spent = time.perf_counter() - begin
    await stream.close()
    return spent


async def round_trips(running: cluster.Running) -> None:
    """Prints the median of both."""
    runtime, rest = on_lab.runtime(running), kubeconfig.load(running.plan.kubeconfig)
    (container,) = [c for c in await runtime.containers.list() if c.labels.get(labels.POD_NAME) == "streams"]
    ours, alone = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        await runtime.execs.run(container.id, ["true"], timeout=10)
        alone.append(time.perf_counter() - begin)
        ours.append(await once(rest))
    floor, whole = statistics.median(alone) * 1000, statistics.median(ours) * 1000
    print(f"exec round trip {whole:.0f} ms, the runtime alone {floor:.0f} ms, {whole / floor:.2f}x (bar 2x)")
    await runtime.close()


async def ready(running: cluster.Running) -> None:
    """Makes the pod and waits for it."""
    client = on_lab.client(running)
    await client.create(scheme.PODS, POD, namespace="default")
    while True:
        status = (await client.get(scheme.PODS, "streams", namespace="default")).get("status", {})
        if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ())):
            break
        await asyncio.sleep(0.1)
    await client.close()


def main() -> None:
    with on_lab.lab() as running:
        asyncio.run(ready(running))
        kubectl = [str(KUBECTL), "--kubeconfig", str(running.plan.kubeconfig)]
        zeros = ["exec", "streams", "--", "head", "-c", f"{MEGABYTES}000000", "/dev/zero"]
        asyncio.run(round_trips(running))
        for name, measured in (
            ("exec", lambda: rate([*kubectl, *zeros])),
            ("port-forward", lambda: forwarded(kubectl)),
        ):
            ours = [on_lab.process(each, running.plan.directory) for each in ("agent", "server")]
            before = [on_lab.spent(pid) for pid in ours]
            print(f"{name:12} {measured():6.0f} MB/s (bar 100), CPU for 100 MB:", end="")
            agent, server = ((on_lab.spent(pid) - was) * 100 / MEGABYTES for pid, was in zip(ours, before, strict=True))
            print(f" agent {agent:.0f} ms, API server {server:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
