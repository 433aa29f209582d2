"""The kubelet's API over loopback: who is let in, what is read, and streams from the client to a runtime and back."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from fakes import kubelet_server
from kube import pki, serve
from kube.runtime.clock import SystemClock
from kube.streams import duplex, remotecommand, spdy
from kube.streams.errors import RefusedError
from nodeagent import errors
from nodeagent.server import KubeletServer, access, app, hostlogs, locate, reading, streaming, translate
from nodeagent.server.exchange import ReplyError


class Kubelet:
    """A kubelet's API on a port of its own."""

    def __init__(self) -> None:
        self.streaming = kubelet_server.FakeStreamingServer()
        self.runtime, self.reviews = kubelet_server.FakeRuntime(self.streaming), kubelet_server.FakeReviews()
        self.pods = [kubelet_server.pod()]
        self.registry, self.sick = CollectorRegistry(), None
        clock: Any = SystemClock()
        locator = locate.Locator(pods=lambda: self.pods, runtime=self.runtime)  # type: ignore[arg-type]
        self.app = app.App(
            access=access.Access(client=self.reviews, clock=clock, node_name="node-1"),  # type: ignore[arg-type]
            locator=locator,
            reading=reading.Reading(
                locator=locator,
                runtime=self.runtime,  # type: ignore[arg-type]
                clock=clock,
                figures=kubelet_server.figures(),
                configz=lambda: {"port": 10250},
            ),
            streaming=streaming.Streaming(self.runtime),  # type: ignore[arg-type]
            run=self.runtime.run,
            registry=self.registry,
            health=lambda: self.sick,
        )
        self.port = 0

    async def ask(self, path: str, *, method: str = "GET", token: str = "admin") -> tuple[int, str]:
        return await kubelet_server.get(self.port, path, method=method, token=token)

    async def upgrade(self, path: str, headers: list[tuple[str, str]]) -> tuple[dict[str, str], duplex.StreamDuplex]:
        return await kubelet_server.upgrade(self.port, path, headers)

    async def websocket(self, path: str, *subprotocols: str) -> kubelet_server.Client:
        return await kubelet_server.connect(self.port, path, *subprotocols)


@pytest.fixture
async def kubelet() -> AsyncIterator[Kubelet]:
    made = Kubelet()
    runtime = await asyncio.start_server(made.streaming.serve, "127.0.0.1", 0)
    made.streaming.port = runtime.sockets[0].getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made.port = listening.getsockname()[1]
        async with runtime, asyncio.timeout(20), asyncio.TaskGroup() as group:
            server = serve.Server(made.app, sockets=[listening], tls=None, name="test", drain=0.1)
            task = group.create_task(server.run())
            yield made
            task.cancel()


EXEC = "/exec/ns/p/c?input=1&output=1&error=1&command=cat"


async def test_nobody_is_let_in_without_a_name(kubelet: Kubelet) -> None:
    for token in ("", "forged"):
        assert await kubelet.ask("/pods", token=token) == (401, "Unauthorized")
    assert await kubelet.ask("/healthz", token="") == (401, "Unauthorized")
    with pytest.raises(RefusedError) as caught:
        await duplex.upgrade(
            "127.0.0.1", kubelet.port, target=EXEC, headers=[("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
        )
    assert caught.value.status == 401
    assert kubelet.runtime.asked == []


async def test_the_fine_permission_is_tried_first_and_proxy_covers_all(kubelet: Kubelet) -> None:
    assert (await kubelet.ask("/pods", token="viewer"))[0] == 200
    assert (await kubelet.ask("/pods", token="admin"))[0] == 200
    refused = "Forbidden (user=viewer, verb=get, resource=nodes, subresource(s)=[proxy])"
    assert await kubelet.ask("/containerLogs/ns/p/c", token="viewer") == (403, refused)
    refused = "Forbidden (user=nobody, verb=create, resource=nodes, subresource(s)=[proxy])"
    assert await kubelet.ask("/run/ns/p/c?cmd=id", method="POST", token="nobody") == (403, refused)


async def test_answers_of_the_api_server_are_remembered(kubelet: Kubelet) -> None:
    for _ in range(3):
        await kubelet.ask("/pods", token="viewer")
        await kubelet.ask("/pods", token="forged")
    assert kubelet.reviews.asked == ["token viewer", "viewer get pods", "token forged"]


async def test_nobody_is_let_in_while_the_api_server_is_away(kubelet: Kubelet) -> None:
    kubelet.reviews.down = True
    code, text = await kubelet.ask("/pods")
    assert (code, "try again later" in text) == (500, True)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/stats/summary", ("stats", "proxy")),
        ("/metrics/cadvisor", ("metrics", "proxy")),
        ("/logs/messages", ("log", "proxy")),
        ("/pods", ("pods", "proxy")),
        ("/configz", ("configz", "proxy")),
        ("/exec/a/b/c", ("proxy",)),
    ],
)
def test_paths_need_their_subresource(path: str, names: tuple[str, ...]) -> None:
    assert access.attributes("GET", path) == access.Attributes("get", names)


async def test_what_can_be_read(kubelet: Kubelet) -> None:
    Counter("kubelet_test", "x", registry=kubelet.registry).inc()
    assert await kubelet.ask("/healthz") == (200, "ok")
    [pod] = json.loads((await kubelet.ask("/pods"))[1])["items"]
    assert pod["metadata"]["uid"] == "u1"
    [pod] = json.loads((await kubelet.ask("/runningpods/"))[1])["items"]
    assert pod["spec"]["containers"] == [{"name": "c", "image": "img"}]
    assert "kubelet_test_total 1.0" in (await kubelet.ask("/metrics"))[1]
    assert json.loads((await kubelet.ask("/configz"))[1]) == {"kubeletconfig": {"port": 10250}}
    summary = json.loads((await kubelet.ask("/stats/summary"))[1])
    assert summary["node"]["nodeName"] == "node-1"
    assert summary["node"]["memory"]["workingSetBytes"] > 0
    assert await kubelet.ask("/run/ns/p/c?cmd=echo+hi", method="POST") == (200, "echo hi")
    kubelet.sick = "containerd does not answer"
    assert await kubelet.ask("/healthz") == (500, "unhealthy: containerd does not answer")


@pytest.mark.parametrize(
    ("path", "method", "answer"),
    [
        ("/nothing", "GET", (404, "404 page not found")),
        ("/pods", "DELETE", (405, "405: Method Not Allowed")),
        ("/exec/ns/p", "GET", (404, "404 page not found")),
        (EXEC, "GET", (400, "Upgrade request required")),
        ("/exec/ns/p/c?command=x", "GET", (400, "you must specify at least 1 of stdin, stdout, stderr")),
        ("/exec/ns/ghost/c?output=1", "GET", (404, 'pod "ghost" does not exist')),
        ("/exec/ns/p/other-uid/c?output=1", "GET", (404, 'pod "p" does not exist')),
        ("/containerLogs/ns/p/ghost", "GET", (404, 'container "ghost" not found in pod "p"')),
        ("/containerLogs/ns/p/c?tailLines=x", "GET", (422, "tailLines: 'x' is not a number")),
    ],
)
async def test_bad_requests_are_told_why(kubelet: Kubelet, path: str, method: str, answer: tuple[int, str]) -> None:
    assert await kubelet.ask(path, method=method) == answer


async def test_a_container_that_does_not_run_cannot_be_entered(kubelet: Kubelet) -> None:
    kubelet.runtime.states = ("exited",)
    assert await kubelet.ask(EXEC) == (404, 'container not found ("c")')


async def test_logs_now_and_before(kubelet: Kubelet, tmp_path: Path) -> None:
    kubelet.runtime.log_path = str(tmp_path / "N.log")
    (tmp_path / "0.log").write_bytes(b"2026-11-23T12:00:00Z stdout F earlier\n")
    (tmp_path / "1.log").write_bytes(b"2026-11-23T12:00:01Z stdout F one\n2026-11-23T12:00:02Z stderr F two\n")
    assert await kubelet.ask("/containerLogs/ns/p/c") == (200, "one\ntwo\n")
    assert await kubelet.ask("/containerLogs/ns/p/c?tailLines=1&timestamps=true") == (200, "2026-11-23T12:00:02Z two\n")
    assert await kubelet.ask("/containerLogs/ns/p/c?previous=true") == (200, "earlier\n")
    kubelet.runtime.states = ("running",)
    missing = 'previous terminated container "c" in pod "p" not found'
    assert await kubelet.ask("/containerLogs/ns/p/c?previous=true") == (400, missing)
    kubelet.runtime.states = ("created",)
    assert await kubelet.ask("/containerLogs/ns/p/c") == (
        400,
        'container "c" in pod "p" is waiting to start - no logs yet',
    )


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("ContainerCreating", "ContainerCreating"),
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
    ],
)
async def test_a_container_without_a_log_says_what_it_waits_for(kubelet: Kubelet, reason: str, text: str) -> None:
    kubelet.runtime.states = ()
    state = {"name": "c", "state": {"waiting": {"reason": reason}}}
    kubelet.pods = [kubelet_server.pod(status={"containerStatuses": [state]})]
    answer = f'container "c" in pod "p" is waiting to start: {text}'
    assert await kubelet.ask("/containerLogs/ns/p/c") == (400, answer)


async def test_followed_logs_come_as_they_are_written_and_a_client_may_leave(kubelet: Kubelet, tmp_path: Path) -> None:
    kubelet.runtime.log_path = str(tmp_path / "N.log")
    log = tmp_path / "1.log"
    log.write_bytes(b"2026-11-23T12:00:01Z stdout F one\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", kubelet.port)
    writer.write(b"GET /containerLogs/ns/p/c?follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n")
    await reader.readuntil(b"one\n")
    with log.open("ab") as file:
        file.write(b"2026-11-23T12:00:02Z stdout F two\n")
    await reader.readuntil(b"two\n")
    writer.close()
    await asyncio.sleep(0.05)
    assert [t.get_name() for t in asyncio.all_tasks() if "_send_log" in repr(t.get_coro())] == []


async def test_exec_over_websocket_with_half_close_and_status(kubelet: Kubelet) -> None:
    client = await kubelet.websocket(EXEC + "&command=-n", "v5.channel.k8s.io")
    assert client.subprotocol == "v5.channel.k8s.io"
    await client.send(b"\0hello ")
    await client.send(b"\0world")
    await client.send(b"\xff\0")
    assert await client.until_closed() == 1000
    assert client.channels[1] == b"hello world"
    assert client.channels[2] == b"11"
    assert json.loads(client.channels[3]) == remotecommand.success()
    assert client.order[0] == 1, "an empty message on the lowest channel comes first"
    assert client.order[-1] == 3, "the status comes last"
    flags = {"tty": False, "stdin": True, "stdout": True, "stderr": True}
    assert kubelet.runtime.asked == [("exec", "c1", ["cat", "-n"], flags)]
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in kubelet.streaming.requests[0]


async def test_all_output_comes_before_the_exit_code(kubelet: Kubelet) -> None:
    kubelet.streaming.behave = kubelet_server.fail
    client = await kubelet.websocket("/exec/ns/p/u1/c?output=1&command=x", "v4.channel.k8s.io")
    await client.until_closed()
    assert client.channels[1] == b"x" * 300_000
    assert remotecommand.exit_code(json.loads(client.channels[3])) == 7


async def test_old_clients_get_a_plain_message_instead_of_a_status(kubelet: Kubelet) -> None:
    kubelet.streaming.behave = kubelet_server.fail
    client = await kubelet.websocket("/exec/ns/p/c?output=1&command=x")
    await client.until_closed()
    assert client.channels[3] == b"command terminated with non-zero exit code: exit status 7"


async def test_base64_clients(kubelet: Kubelet) -> None:
    client = await kubelet.websocket(EXEC, "base64.channel.k8s.io")
    await client.send(b"0aGVsbG8=")
    await kubelet_has(kubelet, b"hello")
    kubelet.streaming.stdin_ended.set()
    await client.until_closed()
    assert client.channels[ord("1")] == b"aGVsbG8="
    assert ord("3") not in client.channels


async def kubelet_has(kubelet: Kubelet, stdin: bytes) -> None:
    while kubelet.streaming.stdin != stdin:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_window_sizes_reach_the_terminal(kubelet: Kubelet) -> None:
    client = await kubelet.websocket("/attach/ns/p/c?input=1&output=1&error=1&tty=1", "v5.channel.k8s.io")
    await client.send(b'\4{"Width":80,"Height":24}')
    await client.send(b"\xff\0")
    await client.until_closed()
    assert kubelet.streaming.resizes == b'{"Width":80,"Height":24}'
    assert set(kubelet.streaming.opened) == {"error", "stdin", "stdout", "resize"}
    assert kubelet.runtime.asked == [("attach", "c1", {"tty": True, "stdin": True, "stdout": True, "stderr": False})]


async def test_a_runtime_that_vanishes_is_told_to_the_client(kubelet: Kubelet) -> None:
    kubelet.streaming.behave = kubelet_server.vanish
    client = await kubelet.websocket(EXEC, "v5.channel.k8s.io")
    await client.until_closed()
    assert json.loads(client.channels[3])["message"] == "the runtime ended the connection"


async def test_a_client_that_leaves_ends_the_runtimes_connection(kubelet: Kubelet) -> None:
    client = await kubelet.websocket(EXEC, "v5.channel.k8s.io")
    await client.send(b"\0x")
    await kubelet_has(kubelet, b"x")
    await client.stream.close()
    await asyncio.sleep(0.1)
    assert [t for t in asyncio.all_tasks() if "FakeStreamingServer.serve" in repr(t.get_coro())] == []


async def test_what_the_runtime_refuses_is_a_plain_answer_and_no_broken_upgrade(kubelet: Kubelet) -> None:
    kubelet.runtime.fault = errors.RuntimeFault("Exec", "container is in CONTAINER_EXITED state")
    assert await refused(kubelet, EXEC, "v5.channel.k8s.io") == (500, "Exec: container is in CONTAINER_EXITED state")
    kubelet.runtime.fault = None
    kubelet.streaming.reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"
    assert await refused(kubelet, EXEC, "v5.channel.k8s.io") == (404, "gone")
    code, text = await refused(kubelet, EXEC, "v9.channel.k8s.io")
    assert (code, "v9.channel.k8s.io" in text) == (400, True)


async def refused(kubelet: Kubelet, path: str, *subprotocols: str) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        await kubelet.websocket(path, *subprotocols)
    return caught.value.status, caught.value.body


async def test_spdy_clients_are_joined_with_the_runtime_unchanged(kubelet: Kubelet) -> None:
    headers = [("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io, v3.channel.k8s.io")]
    reply, stream = await kubelet.upgrade(EXEC, headers)
    assert reply["x-stream-protocol-version"] == "v4.channel.k8s.io"
    session = spdy.Session(client=True)
    for kind in ("error", "stdin", "stdout"):
        session.open({"streamType": kind})
    session.send(3, b"abc", fin=True)
    await stream.write(session.pending())
    got: list[spdy.Event] = []
    while data := await stream.read():
        got += session.receive(data)
    assert spdy.DataReceived(5, b"abc", False) in got
    assert kubelet.streaming.requests[0].count("X-Stream-Protocol-Version") == 2
    await stream.close()


async def test_a_port_forward_tunnel_is_unwrapped(kubelet: Kubelet) -> None:
    client = await kubelet.websocket("/portForward/ns/p", "SPDY/3.1+portforward.k8s.io")
    session = spdy.Session(client=True)
    session.open({"streamType": "data", "port": "80", "requestID": "0"})
    framed = session.pending()
    for n in range(0, len(framed), 7):
        await client.send(framed[n : n + 7])
    while "data" not in kubelet.streaming.opened:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    answer = await client.stream.read()
    client.connection.receive_data(answer)
    [message] = client.connection.events()
    assert session.receive(bytes(message.data)) == [spdy.StreamAccepted(1, {}, False)]
    assert kubelet.runtime.asked == [("port-forward", "s1", [])]
    assert "X-Stream-Protocol-Version: portforward.k8s.io" in kubelet.streaming.requests[0]
    await client.stream.close()


@pytest.mark.parametrize(
    ("subprotocol", "line", "port", "heard"),
    [
        ("v4.channel.k8s.io", b"\0you\n", b"P\0", b"hello you\n"),
        ("v4.base64.channel.k8s.io", b"0eW91Cg==", b"UAA=", b"aGVsbG8g" + b"eW91Cg=="),
    ],
)
async def test_a_port_is_forwarded_by_channels_to_clients_that_know_no_tunnel(
    kubelet: Kubelet, subprotocol: str, line: bytes, port: bytes, heard: bytes
) -> None:
    kubelet.streaming.behave = kubelet_server.greet
    client = await kubelet.websocket("/portForward/ns/p?port=80", subprotocol)
    await client.send(line)
    await client.until_closed()
    data, error = (0, 1) if "base64" not in subprotocol else (ord("0"), ord("1"))
    assert client.channels[error] == port
    assert client.channels[data].startswith(port)
    assert client.channels[data][len(port) :] == heard
    assert kubelet.runtime.asked == [("port-forward", "s1", [80])]


@pytest.mark.parametrize(("query", "said"), [("", '"port" is required'), ("port=x", "'x' is not a port")])
async def test_a_forward_by_channels_needs_its_ports(kubelet: Kubelet, query: str, said: str) -> None:
    code, text = await refused(kubelet, f"/portForward/ns/p?{query}", "v4.channel.k8s.io")
    assert code == 400 and said in text


async def test_a_forward_in_an_unknown_subprotocol_is_refused(kubelet: Kubelet) -> None:
    assert (await refused(kubelet, "/portForward/ns/p?port=80", "v9"))[0] == 400


async def test_checkpoints_are_refused_with_the_reason(kubelet: Kubelet) -> None:
    code, text = await kubelet.ask("/checkpoint/ns/p/c", method="POST")
    assert code == 500 and "does not support it" in text
    assert (await kubelet.ask("/checkpoint/ns/p/absent", method="POST"))[0] == 404


async def test_the_nodes_own_logs_are_listed_and_nothing_outside_their_folder(kubelet: Kubelet) -> None:
    code, text = await kubelet.ask("/logs/")
    assert code == 200 and "<pre>" in text
    assert (await kubelet.ask("/logs/../../etc/passwd"))[0] == 404
    assert (await kubelet.ask("/logs/?query=kubelet"))[0] == 403


async def test_a_log_of_the_node_is_sent_as_it_was_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x<y").write_text("12345")
    (tmp_path / "out").symlink_to("/etc/passwd")
    assert hostlogs.look("a", folder=tmp_path).listing.count('<a href="x%3Cy">x&lt;y</a>') == 1
    found = hostlogs.look("a/x<y", folder=tmp_path)
    (tmp_path / "a" / "x<y").write_text("1234567890")
    assert b"".join([piece async for piece in hostlogs.pieces(found)]) == b"12345"
    for path in ("out", "absent", "a/x<y/z", "../etc"):
        with pytest.raises(ReplyError) as caught:
            hostlogs.look(path, folder=tmp_path)
        assert caught.value.status == 404


def test_identities_come_from_the_certificate(tmp_path: Path) -> None:
    pair = pki.issue(pki.ensure_ca(tmp_path), cn="kube-apiserver-kubelet-client", organizations=["system:masters"])
    der = ssl.PEM_cert_to_DER_cert(pair.cert_pem.decode())
    assert access.from_certificate(der) == access.User("kube-apiserver-kubelet-client", ("system:masters",))
    with pytest.raises(access.AccessError):
        access.from_certificate(b"no certificate")


async def test_both_ports_are_served_and_certificates_open_the_first(tmp_path: Path) -> None:
    ca, other = pki.ensure_ca(tmp_path / "ca"), pki.ensure_ca(tmp_path / "other")
    pki.write_pair(tmp_path, "kubelet", pki.node_serving(ca, name="node-1", ips=["127.0.0.1"]))
    server = KubeletServer(
        address="127.0.0.1:0",
        health_address="127.0.0.1:0",
        tls=lambda: serve.tls_context(tmp_path / "kubelet.crt", tmp_path / "kubelet.key", tmp_path / "ca" / "ca.crt"),
        pods=lambda: [kubelet_server.pod()],
        runtime=kubelet_server.FakeRuntime(kubelet_server.FakeStreamingServer()),  # type: ignore[arg-type]
        client=kubelet_server.FakeReviews(),  # type: ignore[arg-type]
        clock=SystemClock(),
        registry=CollectorRegistry(),
        node_name="node-1",
        figures=kubelet_server.figures(),
        health=lambda: None,
    )
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.listening.wait()
        assert (await kubelet_server.get(server.ports[1], "/healthz", token=""))[0] == 200
        assert (await kubelet_server.get(server.ports[1], "/pods"))[0] == 404
        for authority, groups, answer in [
            (ca, ["system:masters"], 200),
            (ca, ["someone"], 403),
            (None, [], 401),
            (other, ["system:masters"], None),
        ]:
            tls = ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.crt"))
            if authority is not None:
                pki.write_pair(tmp_path, "client", pki.issue(authority, cn="someone", organizations=groups))
                tls.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
            assert await status_of(server.ports[0], tls) == answer
        task.cancel()


async def status_of(port: int, tls: ssl.SSLContext) -> int | None:
    """The status of /pods, None when the handshake fails."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(b"GET /pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = await reader.read(100)
        writer.close()
    except OSError:
        return None
    return int(head.split()[1]) if head else None


def test_neighbouring_pieces_of_one_stream_become_one_message() -> None:
    data, other = spdy.DataReceived, spdy.StreamReset(9, 5)
    events = [data(1, b"a", False), data(1, b"b", False), data(3, b"c", False), other, data(3, b"d", True)]
    assert list(translate.merged(events)) == [data(1, b"ab", False), data(3, b"c", False), other, data(3, b"d", True)]
    assert list(translate.merged([data(1, b"a", True), data(1, b"", False)])) == [
        data(1, b"a", True),
        data(1, b"", False),
    ]
