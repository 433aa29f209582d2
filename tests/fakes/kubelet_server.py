"""What the kubelet's API meets in tests: a runtime with its streaming server, reviews, and a WebSocket client."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import wsproto.connection
import wsproto.events

from kube import types
from kube.client import errors as client_errors
from kube.runtime.clock import SystemClock
from kube.streams import duplex, remotecommand, spdy
from nodeagent import errors
from nodeagent.cri import records
from nodeagent.resources import cgroups, tree
from nodeagent.stats import collect


class FakeStreamingServer:
    """A runtime's streaming server: SPDY v4, running one scripted command."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.stdin, self.resizes, self.forwarded = b"", b"", b""
        self.stdin_ended = asyncio.Event()
        self.opened: dict[str, int] = {}
        self.behave: Callable[[FakeStreamingServer, spdy.Session, asyncio.StreamWriter], Any] = cat
        self.reply = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        if self.reply:
            writer.write(self.reply)
            writer.close()
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
        writer.write(b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n")
        session = spdy.Session(client=False)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.behave(self, session, writer))
            while data := await reader.read(65536):
                for event in session.receive(data):
                    self.take(event, session)
                writer.write(session.pending())
            running.cancel()
        writer.close()

    def take(self, event: spdy.Event, session: spdy.Session) -> None:
        kinds = {stream: kind for kind, stream in self.opened.items()}
        match event:
            case spdy.StreamOpened(stream, headers, _):
                self.opened[headers["streamtype"]] = stream
                session.accept(stream)
            case spdy.DataReceived(stream, data, fin):
                if kinds[stream] == "stdin":
                    self.stdin += data
                if kinds[stream] == "data":
                    self.forwarded += data
                if kinds[stream] == "resize":
                    self.resizes += data
                if fin:
                    self.stdin_ended.set()


async def finish(
    server: FakeStreamingServer, session: spdy.Session, writer: asyncio.StreamWriter, code: int = 0
) -> None:
    """End as containerd does: the status on the error stream, then everything is closed."""
    result = remotecommand.exited(code) if code else remotecommand.success()
    session.send(server.opened["error"], json.dumps(result).encode(), fin=True)
    for kind in ("stdout", "stderr"):
        if kind in server.opened:
            session.reset(server.opened[kind])
    session.go_away()
    writer.write(session.pending())
    writer.close()


async def cat(server: FakeStreamingServer, session: spdy.Session, writer: asyncio.StreamWriter) -> None:
    """Wait for the end of stdin, then say it back on stdout, and its length on stderr."""
    await server.stdin_ended.wait()
    session.send(server.opened["stdout"], server.stdin)
    if "stderr" in server.opened:
        session.send(server.opened["stderr"], str(len(server.stdin)).encode())
    await finish(server, session, writer, 0)


async def fail(server: FakeStreamingServer, session: spdy.Session, writer: asyncio.StreamWriter) -> None:
    while "stdout" not in server.opened:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    session.send(server.opened["stdout"], b"x" * 300_000)
    await finish(server, session, writer, 7)


async def greet(server: FakeStreamingServer, session: spdy.Session, writer: asyncio.StreamWriter) -> None:
    """A port behind which something says hello, hears one line, says it back and leaves."""
    while "data" not in server.opened:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    session.send(server.opened["data"], b"hello ")
    writer.write(session.pending())
    while not server.forwarded.endswith(b"\n"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    session.send(server.opened["data"], server.forwarded, fin=True)
    session.send(server.opened["error"], b"", fin=True)
    writer.write(session.pending())


async def vanish(server: FakeStreamingServer, session: spdy.Session, writer: asyncio.StreamWriter) -> None:
    while "stdout" not in server.opened:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writer.close()


@dataclasses.dataclass
class FakeRuntime:
    """As much of a runtime as the server asks."""

    streaming: FakeStreamingServer
    log_path: str = ""
    states: tuple[str, ...] = ("exited", "running")
    asked: list[Any] = dataclasses.field(default_factory=list)
    fault: errors.RuntimeFault | None = None

    @property
    def containers(self) -> FakeRuntime:
        return self

    @property
    def sandboxes(self) -> FakeSandboxes:
        return FakeSandboxes()

    @property
    def execs(self) -> FakeRuntime:
        return self

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Container]:
        return [
            records.Container(id=f"c{n}", sandbox_id="s1", name="c", attempt=n, state=state, image="img")  # type: ignore[arg-type]
            for n, state in enumerate(self.states)
        ]

    async def status(self, container_id: str) -> records.Container:
        number = int(container_id[1:])
        path = self.log_path.replace("N", str(number))
        return records.Container(id=container_id, name="c", attempt=number, state=self.states[number], log_path=path)  # type: ignore[arg-type]

    def url(self, *asked: Any) -> str:
        if self.fault:
            raise self.fault
        self.asked.append(asked)
        return f"http://127.0.0.1:{self.streaming.port}/exec/token"

    async def exec_url(self, container_id: str, command: list[str], **flags: bool) -> str:
        return self.url("exec", container_id, command, flags)

    async def attach_url(self, container_id: str, **flags: bool) -> str:
        return self.url("attach", container_id, flags)

    async def port_forward_url(self, sandbox_id: str, ports: list[int]) -> str:
        return self.url("port-forward", sandbox_id, ports)

    async def run(self, container_id: str, command: list[str], *, timeout: float) -> records.ExecResult:
        return records.ExecResult(stdout=" ".join(command).encode(), exit_code=int(command[0] == "false"))


class FakeSandboxes:
    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Sandbox]:
        return [records.Sandbox(id="s1", uid="u1", namespace="ns", name="p")]


class FakeReviews:
    """The API server's reviews: tokens by user, users by what they may."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def create(self, resource: Any, review: dict[str, Any]) -> dict[str, Any]:
        if self.down:
            raise client_errors.Unreachable("https://server", "refused")
        spec = review["spec"]
        if resource.kind == "TokenReview":
            self.asked.append(f"token {spec['token']}")
            known = spec["token"] in ("admin", "viewer", "nobody")
            return {"status": {"authenticated": known, "user": {"username": spec["token"], "groups": ["g"]}}}
        wanted = spec["resourceAttributes"]
        assert (wanted["resource"], wanted["name"]) == ("nodes", "node-1")
        self.asked.append(f"{spec['user']} {wanted['verb']} {wanted['subresource']}")
        return {
            "status": {"allowed": (spec["user"], wanted["subresource"]) in (("admin", "proxy"), ("viewer", "pods"))}
        }


def pod(*, status: Any = None) -> types.Pod:
    """A pod `ns/p` with one container `c`."""
    spec = {"containers": [{"name": "c"}]}
    metadata = {"name": "p", "namespace": "ns", "uid": "u1"}
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": status or {}}, types.Pod)


class Client:
    """A WebSocket client, as kubectl is one."""

    def __init__(self, stream: duplex.StreamDuplex, subprotocol: str) -> None:
        self.stream, self.subprotocol = stream, subprotocol
        self.connection = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
        self.channels: dict[int, bytes] = {}
        self.order: list[int] = []
        self.partial = b""
        self.counted: dict[int, list[int]] = {}

    def count_only(self, channel: int) -> list[int]:
        """Keep only the sizes of a channel's messages."""
        return self.counted.setdefault(channel, [])

    async def message(self) -> bytes:
        """The next whole message."""
        while True:
            for event in self.connection.events():
                self.partial += bytes(event.data)
                if event.message_finished:
                    whole, self.partial = self.partial, b""
                    return whole
            self.connection.receive_data(await self.stream.read(1 << 20))

    async def send(self, message: bytes) -> None:
        await self.stream.write(self.connection.send(wsproto.events.BytesMessage(message)))

    async def until_closed(self) -> int:
        parts: list[bytes] = []
        while True:
            data = await self.stream.read(1 << 20)
            self.connection.receive_data(data or None)
            for event in self.connection.events():
                if isinstance(event, wsproto.events.CloseConnection):
                    await self.stream.close()
                    return event.code
                parts.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    self.take(b"".join(parts))
                    parts.clear()

    def take(self, message: bytes) -> None:
        channel, data = message[0], message[1:]
        self.order.append(channel)
        if channel in self.counted:
            self.counted[channel].append(len(data))
        else:
            self.channels[channel] = self.channels.get(channel, b"") + data


async def upgrade(port: int, path: str, headers: list[tuple[str, str]]) -> tuple[dict[str, str], duplex.StreamDuplex]:
    """An upgraded connection of someone who may do everything."""
    known = [("Host", "x"), ("Authorization", "Bearer admin"), ("Connection", "Upgrade")]
    return await duplex.upgrade("127.0.0.1", port, target=path, headers=known + headers, method="GET")


async def connect(port: int, path: str, *subprotocols: str) -> Client:
    """A WebSocket of the same."""
    headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Key", "AAAA"), ("Sec-WebSocket-Version", "13")]
    headers += [("Sec-WebSocket-Protocol", ", ".join(subprotocols))] if subprotocols else []
    reply, stream = await upgrade(port, path, headers)
    return Client(stream, reply.get("sec-websocket-protocol", ""))


async def get(port: int, path: str, *, method: str = "GET", token: str = "admin") -> tuple[int, str]:
    """A plain request: status and text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    auth = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}Content-Length: 0\r\n\r\n".encode()
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    text = body.decode()
    if b"chunked" in head.lower():
        text = "".join(text.split("\r\n")[1::2])
    return int(head.split()[1]), text


def figures() -> collect.Collector:
    """Figures of this machine, which has no pods."""
    layout = cgroups.Layout(version=tree.version(), driver="cgroupfs")
    return collect.Collector(node_name="node-1", clock=SystemClock(), layout=lambda: layout)
