"""Logs and upgrades through the API server: over real TLS on loopback, to a kubelet that is a server of its own."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.apiserver.verbs import connecting
from kube import pki, serve, status
from kube.duplex import SocketDuplex
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"


class Kubelet:
    """What a kubelet does with what the API server passes on: echoes upgrades, streams logs."""

    def __init__(self) -> None:
        self.seen: list[Object] = []
        self.more = asyncio.Event()
        self.left = asyncio.Event()

    async def _more_or_left(self, receive: Any) -> None:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._until_left(receive))
            await self.more.wait()
            watching.cancel()

    async def _until_left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()
        self.more.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        upgrade = scope["extensions"].get("kube.upgrade")
        if upgrade is not None and scope["path"] != "/exec/default/refused/c":
            duplex = await upgrade.accept(101, [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")])
            while data := await duplex.read():
                await duplex.write(data.upper())
            await duplex.close()
            return
        code = 403 if upgrade is not None else 200
        await send({"type": "http.response.start", "status": code, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        if b"follow=true" in scope["query_string"]:
            await self._more_or_left(receive)
        await send({"type": "http.response.body", "body": b"second\n"})


class Rig:
    """An API server and a kubelet on loopback, and a client's TLS context."""

    def __init__(self, api: Harness, kubelet: Kubelet, port: int, context: ssl.SSLContext) -> None:
        self.api, self.kubelet, self.port, self.context = api, kubelet, port, context

    async def connect(self) -> SocketDuplex:
        loop = asyncio.get_running_loop()
        _, duplex = await loop.create_connection(
            SocketDuplex, "127.0.0.1", self.port, ssl=self.context, server_hostname="127.0.0.1"
        )
        return duplex

    async def send(self, method: str, path: str, *headers: str) -> SocketDuplex:
        duplex = await self.connect()
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *headers, "", ""])
        await duplex.write(head.encode())
        return duplex


def leaf(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.crt", folder / f"{name}.key"


@pytest.fixture
async def rig(api: Harness) -> AsyncIterator[Rig]:
    folder = api.settings.pki
    ca = pki.load_ca(folder)
    pki.write_pair(folder, "kubelet", pki.node_serving(ca, name="n1", ips=["127.0.0.1"]))
    kubelet = Kubelet()
    sockets = [serve.listen("127.0.0.1:0"), serve.listen("127.0.0.1:0")]
    servers = [
        serve.Server(
            kubelet,
            sockets=sockets[:1],
            tls=serve.tls_context(*leaf(folder, "kubelet"), folder / "ca.crt"),
            name="kubelet",
            drain=0.0,
        ),
        serve.Server(
            api.server.app,
            sockets=sockets[1:],
            tls=serve.tls_context(*leaf(folder, "apiserver"), folder / "ca.crt"),
            name="apiserver",
            drain=0.0,
        ),
    ]
    port = sockets[0].getsockname()[1]
    await api.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    state = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    merge = {"content-type": "application/merge-patch+json"}
    assert (await api.ask("PATCH", "/api/v1/nodes/n1/status", {"status": state}, headers=merge))[0] == 200
    for name in ("p", "refused"):
        spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "demo:1"}]}
        await api.ask("POST", PODS, {"metadata": {"name": name}, "spec": spec})
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(*leaf(folder, "admin"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.run()) for server in servers]
        await asyncio.sleep(0.05)
        yield Rig(api, kubelet, sockets[1].getsockname()[1], context)
        for task in tasks:
            task.cancel()
    for sock in sockets:
        sock.close()


async def until(duplex: SocketDuplex, text: bytes) -> bytes:
    found = b""
    async with asyncio.timeout(5):
        while text not in found:
            data = await duplex.read()
            assert data, f"ended before {text!r} came: {found!r}"
            found += data
    return found


async def test_an_upgrade_passes_bytes_both_ways_unchanged(rig: Rig) -> None:
    path = f"{PODS}/p/exec?command=sh&command=-c&stdin=true&stdout=true&container=c"
    duplex = await rig.send(
        "POST", path, "connection: Upgrade", "upgrade: SPDY/3.1", "x-stream-protocol-version: v4.channel.k8s.io"
    )
    head = await until(duplex, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    for text in (b"hello", b"x" * 300_000 + b"end"):
        await duplex.write(text)
        await until(duplex, text[-3:].upper())
    await duplex.close()
    [scope] = rig.kubelet.seen
    assert (scope["path"], scope["query_string"]) == ("/exec/default/p/c", b"input=1&output=1&command=sh&command=-c")
    headers = dict(scope["headers"])
    assert headers[b"x-stream-protocol-version"] == b"v4.channel.k8s.io"
    assert pki.subject(scope["state"]["peer_certificate"])[0] == "kube-apiserver-kubelet-client"


async def test_credentials_stay_with_the_api_server(rig: Rig) -> None:
    upgrade = ("connection: Upgrade", "upgrade: SPDY/3.1")
    duplex = await rig.send(
        "POST", f"{PODS}/p/portforward?ports=80", *upgrade, "authorization: Bearer secret", "cookie: a=b"
    )
    await until(duplex, b"\r\n\r\n")
    await duplex.close()
    [scope] = rig.kubelet.seen
    assert (scope["path"], scope["query_string"]) == ("/portForward/default/p", b"port=80")
    assert not {b"authorization", b"cookie"} & dict(scope["headers"]).keys()


async def test_a_kubelet_that_refuses_an_upgrade_is_heard(rig: Rig) -> None:
    duplex = await rig.send(
        "POST", f"{PODS}/refused/exec?command=x&stdout=1", "connection: Upgrade", "upgrade: SPDY/3.1"
    )
    answer = await until(duplex, b"second")
    assert answer.startswith(b"HTTP/1.1 403 ")
    await duplex.close()


async def test_a_log_is_streamed_as_it_comes(rig: Rig) -> None:
    duplex = await rig.send("GET", f"{PODS}/p/log?follow=true&tailLines=5")
    answer = await until(duplex, b"first")
    assert answer.startswith(b"HTTP/1.1 200 ") and b"second" not in answer
    rig.kubelet.more.set()
    await until(duplex, b"second")
    await duplex.close()
    [scope] = rig.kubelet.seen
    assert (scope["path"], scope["query_string"]) == ("/containerLogs/default/p/c", b"follow=true&tailLines=5")


async def test_leaving_a_followed_log_ends_it_at_the_kubelet_too(rig: Rig) -> None:
    duplex = await rig.send("GET", f"{PODS}/p/log?follow=true")
    await until(duplex, b"first")
    duplex.abort()
    async with asyncio.timeout(5):
        await rig.kubelet.left.wait()


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/log?container=none", 400, "container none is not valid for pod p"),
        ("/log?tailLines=-1", 422, "must be greater than or equal to 0"),
        ("/log?tailLines=x", 400, 'invalid value "x" for the parameter tailLines'),
        ("/exec?stdout=1", 400, "you must specify at least one command for the container"),
        ("/exec?command=x", 400, "you must specify at least 1 of stdin, stdout, stderr"),
    ],
)
async def test_what_cannot_be_streamed_is_refused_before_the_kubelet_is_asked(
    api: Harness, path: str, code: int, message: str
) -> None:
    await api.ask("POST", PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "demo:1"}]}})
    path, _, query = path.partition("?")
    params = dict(pair.split("=") for pair in query.split("&"))
    answered, told = await api.ask("GET", f"{PODS}/p{path}", **params)
    assert answered == code
    assert message in told["message"]


async def test_a_kubelet_that_cannot_be_reached_is_named(rig: Rig) -> None:
    merge = {"content-type": "application/merge-patch+json"}
    state = {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}
    await rig.api.ask("PATCH", "/api/v1/nodes/n1/status", {"status": state}, headers=merge)
    code, told = await rig.api.ask("GET", f"{PODS}/p/log")
    assert (code, told["reason"]) == (500, "InternalError")
    assert "error dialing backend: dial tcp 127.0.0.1:1" in told["message"]


@pytest.mark.parametrize(
    ("wanted", "annotation", "expected"),
    [("b", "", "b"), ("i", "", "i"), ("", "b", "b"), ("", "", None), ("z", "", None)],
)
def test_which_container_is_meant(wanted: str, annotation: str, expected: str | None) -> None:
    pod: Object = {
        "metadata": {"name": "p", "annotations": {"kubectl.kubernetes.io/default-container": annotation}},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
    }
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(status.ApiError)) if expected is None else None
        assert connecting.container_of(pod, wanted) == expected
    if caught is not None and not wanted:
        assert str(caught.value) == (
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        )


@pytest.mark.parametrize("name", ["n1", "https:n1"])
async def test_a_nodes_own_api_is_read_through_the_api_server(rig: Rig, name: str) -> None:
    duplex = await rig.send("GET", f"/api/v1/nodes/{name}/proxy/stats/summary?only_cpu=true", "accept: text/plain")
    assert (await until(duplex, b"second")).startswith(b"HTTP/1.1 200")
    seen = rig.kubelet.seen[-1]
    assert (seen["path"], seen["query_string"]) == ("/stats/summary", b"only_cpu=true")
    await duplex.close()


async def test_a_node_is_not_proxied_at_other_ports_nor_for_writing(rig: Rig) -> None:
    assert (await rig.api.ask("GET", "/api/v1/nodes/n1:22/proxy/pods"))[0] == 400
    assert (await rig.api.ask("POST", "/api/v1/nodes/n1/proxy/run/a/b/c"))[0] == 405
    assert (await rig.api.ask("GET", "/api/v1/nodes/none/proxy/pods"))[0] == 404
