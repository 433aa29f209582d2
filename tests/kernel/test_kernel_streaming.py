"""exec, attach, port-forward and logs against a real containerd, through the kubelet's own API."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract import throwaway_containerd
from prometheus_client import CollectorRegistry

from cni import netns
from fakes import kubelet_server
from kube import serve, types
from kube.runtime.clock import SystemClock
from kube.streams import remotecommand, spdy
from nodeagent.cri import client as cri_client
from nodeagent.cri import labels
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.lab import images
from nodeagent.server import access, app, locate, reading, streaming

POD = msgspec.convert(
    {"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "spec": {"containers": [{"name": "c"}]}}, types.Pod
)
SCRIPT = "echo started; while read line; do echo got $line; done; echo ended >&2"


@pytest.fixture(scope="module")
def containerd(programs: None) -> Iterator[throwaway_containerd.Containerd]:
    with throwaway_containerd.running() as found:
        child = Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children").read_text().split()[0]
        namespace = os.open(f"/proc/{child}/ns/net", os.O_RDONLY)
        try:
            with netns.entered(namespace):
                yield found
        finally:
            os.close(namespace)


class Node:
    """A kubelet's API in front of containerd, with one pod of one container."""

    def __init__(self, containerd: throwaway_containerd.Containerd, runtime: cri_client.GrpcRuntime) -> None:
        self.containerd, self.runtime = containerd, runtime
        self.port, self.sandbox_id, self.container_id = 0, "", ""
        clock = SystemClock()
        locator = locate.Locator(pods=lambda: [POD], runtime=runtime)
        self.app = app.App(
            access=access.Access(client=kubelet_server.FakeReviews(), clock=clock, node_name="node-1"),  # type: ignore[arg-type]
            locator=locator,
            reading=reading.Reading(
                locator=locator, runtime=runtime, clock=clock, figures=kubelet_server.figures(), configz=dict
            ),
            streaming=streaming.Streaming(runtime.execs),
            run=runtime.execs.run,
            registry=CollectorRegistry(),
            health=lambda: None,
        )

    async def start_pod(self) -> None:
        own = {labels.POD_NAME: "p", labels.POD_NAMESPACE: "ns", labels.POD_UID: "u1"}
        host = cri.NamespaceOption(network=cri.NamespaceMode.NODE)
        sandbox = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name="p", namespace="ns", uid="u1"),
            labels=own,
            log_directory=f"{self.containerd.root}/logs",
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=self.containerd.cgroup,
                security_context=cri.LinuxSandboxSecurityContext(namespace_options=host),
            ),
        )
        self.sandbox_id = await self.runtime.sandboxes.run(sandbox)
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name="c"),
            image=cri.ImageSpec(image=images.BUSYBOX),
            command=["sh", "-c", SCRIPT],
            labels=own | {labels.CONTAINER_NAME: "c"},
            log_path=f"{self.sandbox_id}.log",
            stdin=True,
            stdin_once=True,
            linux=cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(namespace_options=host)),
        )
        self.container_id = await self.runtime.containers.create(self.sandbox_id, config, sandbox=sandbox)
        await self.runtime.containers.start(self.container_id)

    async def websocket(self, path: str, subprotocol: str = "v5.channel.k8s.io") -> kubelet_server.Client:
        return await kubelet_server.connect(self.port, path, subprotocol)


@pytest.fixture
async def node(containerd: throwaway_containerd.Containerd) -> AsyncIterator[Node]:
    runtime = cri_client.GrpcRuntime(containerd.endpoint)
    made = Node(containerd, runtime)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made.port = listening.getsockname()[1]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            task = group.create_task(
                serve.Server(made.app, sockets=[listening], tls=None, name="test", drain=0.1).run()
            )
            await made.start_pod()
            yield made
            await runtime.sandboxes.stop(made.sandbox_id)
            await runtime.sandboxes.remove(made.sandbox_id)
            await runtime.close()
            task.cancel()


def exec_path(*command: str, flags: str = "input=1&output=1&error=1") -> str:
    return f"/exec/ns/p/c?{flags}&" + "&".join(f"command={word}" for word in command)


def code(client: kubelet_server.Client) -> int | None:
    return remotecommand.exit_code(json.loads(client.channels[3]))


async def test_the_end_of_stdin_reaches_the_command(node: Node) -> None:
    client = await node.websocket(exec_path("sh", "-c", "cat%3B+echo+done+%3E%262"))
    await client.send(b"\0through the whole chain")
    await client.send(b"\xff\0")
    await client.until_closed()
    assert client.channels[1] == b"through the whole chain"
    assert client.channels[2] == b"done\n"
    assert code(client) == 0


async def test_a_failing_command_tells_its_exit_code(node: Node) -> None:
    client = await node.websocket(exec_path("sh", "-c", "exit+42", flags="output=1&error=1"))
    await client.until_closed()
    assert code(client) == 42


async def test_a_command_that_is_not_there_is_told(node: Node) -> None:
    client = await node.websocket(exec_path("no-such-command", flags="output=1"))
    await client.until_closed()
    status = json.loads(client.channels[3])
    assert status["status"] == "Failure"
    assert "no-such-command" in status["message"]


async def test_a_terminal_has_the_size_it_is_given(node: Node) -> None:
    client = await node.websocket(exec_path("sh", flags="input=1&output=1&tty=1"))
    await client.send(b'\4{"Width":91,"Height":17}')
    await asyncio.sleep(0.2)
    await client.send(b"\0stty size; exit 3\n")
    await client.until_closed()
    assert b"17 91" in client.channels[1]
    assert code(client) == 3


async def test_much_output_arrives_whole(node: Node) -> None:
    size = 64 << 20
    began = time.monotonic()
    client = await node.websocket(exec_path("head", "-c", str(size), "/dev/zero", flags="output=1"))
    total, sizes = 0, client.count_only(1)
    await client.until_closed()
    total = sum(sizes)
    print(f"{total / (time.monotonic() - began) / 1e6:.0f} MB/s out of a container, client included")
    assert total == size
    assert code(client) == 0


async def test_much_input_arrives_whole(node: Node) -> None:
    client = await node.websocket(exec_path("wc", "-c"))
    piece = b"\0" + bytes(32 << 10)
    for _ in range(512):
        await client.send(piece)
    await client.send(b"\xff\0")
    await client.until_closed()
    assert client.channels[1].strip() == str(512 * (32 << 10)).encode()


async def test_a_command_that_reads_nothing_still_ends(node: Node) -> None:
    client = await node.websocket(exec_path("sh", "-c", "exit+5"))
    await client.send(b"\0" + bytes(1000))
    await client.until_closed()
    assert code(client) == 5


async def test_attaching_to_the_main_process_and_its_log(node: Node) -> None:
    async with asyncio.TaskGroup() as group:
        following = group.create_task(kubelet_server.get(node.port, "/containerLogs/ns/p/c?follow=true"))
        await asyncio.sleep(0.2)
        client = await node.websocket("/attach/ns/p/c?input=1&output=1&error=1")
        await client.send(b"\0one\n")
        await asyncio.sleep(0.3)
        await client.send(b"\xff\0")
        await client.until_closed()
        assert client.channels[1] == b"got one\n"
        began = time.monotonic()
    assert following.result() == (200, "started\ngot one\nended\n")
    assert time.monotonic() - began < 5, "following ends soon after the container"


async def test_bytes_reach_a_port_of_the_pod_and_come_back(node: Node) -> None:
    client = await node.websocket(exec_path("nc", "-l", "-p", "8123", "-e", "cat", flags="output=1&error=1"))
    await asyncio.sleep(0.3)
    reply, stream = await kubelet_server.upgrade(node.port, "/portForward/ns/p", [("Upgrade", "SPDY/3.1")])
    del reply
    session = spdy.Session(client=True)
    error = session.open({"streamType": "error", "port": "8123", "requestID": "0"}, fin=True)
    data = session.open({"streamType": "data", "port": "8123", "requestID": "0"})
    session.send(data, b"there and back", fin=True)
    await stream.write(session.pending())
    got: dict[int, bytes] = {error: b"", data: b""}
    ended: set[int] = set()
    async with asyncio.timeout(10):
        while ended != {error, data}:
            for event in session.receive(await stream.read()):
                if isinstance(event, spdy.DataReceived):
                    got[event.stream] += event.data
                    ended |= {event.stream} if event.fin else set()
    assert got == {error: b"", data: b"there and back"}
    await stream.close()
    await client.until_closed()


async def test_a_port_nobody_listens_on_is_told_on_the_error_stream(node: Node) -> None:
    client = await node.websocket("/portForward/ns/p", "SPDY/3.1+portforward.k8s.io")
    session = spdy.Session(client=True)
    error = session.open({"streamType": "error", "port": "9", "requestID": "0"}, fin=True)
    session.open({"streamType": "data", "port": "9", "requestID": "0"})
    await client.send(session.pending())
    text: Any = b""
    async with asyncio.timeout(10):
        while not text:
            for event in session.receive(await client.message()):
                if isinstance(event, spdy.DataReceived) and event.stream == error:
                    text += event.data
    assert b"refused" in text
    await client.stream.close()
