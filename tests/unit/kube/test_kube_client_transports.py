"""Both real transports against the same application: one contract, on sockets and in the process."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kube import pki, scheme, serve, status
from kube.client import http, inprocess
from kube.client.errors import Unreachable
from kube.client.identity import User
from kube.client.rest import Client
from kube.client.transport import Transport
from kube.kubeconfig import KubeconfigError, RestConfig

ADMIN = User("kubernetes-admin", ("system:masters",))


class Application:
    """Says what it was asked; streams as told."""

    def __init__(self) -> None:
        self.sent = 0
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()
        self.connections: set[Any] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.connections.add(scope["client"])
        handler: Callable[..., Any] = getattr(self, scope["path"].split("/")[1], self.echo)
        await handler(scope, receive, send)

    async def echo(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        heard = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
            "body": body.decode(),
            "user": _user(scope),
        }
        await whole(send, json.dumps(heard).encode())

    async def teapot(self, scope: Any, receive: Any, send: Any) -> None:
        await whole(send, b"short and stout", status_code=418)

    async def sleep(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(30)

    async def flood(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while self.sent < 2000:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            self.sent += 1
        await send({"type": "http.response.body", "body": b""})

    async def drip(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Kind", b"drip")]})
        for part in (b"one\n", b"two\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await self.go_on.wait()
        if scope["path"] == "/drip/for-ever":
            await receive()
            await receive()
            self.left.set()
            return
        await send({"type": "http.response.body", "body": b"three"})

    async def breaks(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise OSError("disk gone")


async def whole(send: Any, body: bytes, *, status_code: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _user(scope: Any) -> str:
    if (user := scope["state"].get("user")) is not None:
        return str(user.name)
    shown = scope["state"].get("peer_certificate")
    return pki.subject(shown)[0] if shown else ""


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "CUT_SECONDS", 0.05)


@pytest.fixture(scope="module", name="certs")
def make_certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki.ensure_cluster(folder, service_ip="10.96.0.1", zone="cluster.local", advertise="127.0.0.1")
    return folder


@asynccontextmanager
async def listening(app: Application, certs: Path) -> AsyncIterator[str]:
    sock = serve.listen("127.0.0.1:0")
    tls = serve.tls_context(certs / "apiserver.crt", certs / "apiserver.key", certs / "ca.crt")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(serve.Server(app, sockets=[sock], tls=tls, name="test", drain=0).run())
        yield f"https://127.0.0.1:{sock.getsockname()[1]}"
        task.cancel()
    sock.close()


def admin(server: str, certs: Path, **changes: Any) -> RestConfig:
    files = {"ca_file": certs / "ca.crt", "cert_file": certs / "admin.crt", "key_file": certs / "admin.key"}
    return RestConfig(server=server, **{**files, **changes})


@asynccontextmanager
async def reaching(kind: str, app: Application, certs: Path) -> AsyncIterator[Transport]:
    if kind == "in-process":
        yield inprocess.InProcessTransport(app, ADMIN)
        return
    async with listening(app, certs) as server:
        transport = http.HttpTransport(admin(server, certs))
        yield transport
        await transport.close()


both = pytest.mark.parametrize("kind", ["http", "in-process"])


@both
async def test_a_request_arrives_as_it_was_made(kind: str, certs: Path) -> None:
    async with reaching(kind, Application(), certs) as transport:
        answer = await transport.request(
            "POST",
            "/api/v1/clusterroles/system:node/a b",
            params={"labelSelector": "a in (b,c),d!=é", "x": "1&2"},
            headers={"Content-Type": "application/json", "User-Agent": "me"},
            body=b'{"a": 1}',
        )
    heard = json.loads(answer.body)
    assert (answer.status, heard["method"], heard["path"]) == (200, "POST", "/api/v1/clusterroles/system:node/a b")
    assert heard["query"] == "labelSelector=a+in+%28b%2Cc%29%2Cd%21%3D%C3%A9&x=1%262"
    assert heard["body"] == '{"a": 1}'
    assert heard["user"] == "kubernetes-admin"
    assert heard["headers"]["content-type"] == "application/json"
    assert heard["headers"]["user-agent"] == "me"
    assert heard["headers"]["content-length"] == "8"


@both
async def test_a_failure_status_is_an_answer(kind: str, certs: Path) -> None:
    async with reaching(kind, Application(), certs) as transport:
        answer = await transport.request("GET", "/teapot")
    assert (answer.status, answer.body) == (418, b"short and stout")


@both
async def test_no_answer_in_time_is_unreachable(kind: str, certs: Path) -> None:
    async with reaching(kind, Application(), certs) as transport:
        with pytest.raises(Unreachable, match=r"within 0\.1 s"):
            await transport.request("GET", "/sleep", timeout=0.1)
        with pytest.raises(Unreachable, match=r"within 0\.1 s"):
            async with transport.stream("GET", "/sleep", timeout=0.1):
                pass


@both
async def test_a_stream_comes_in_chunks_to_its_end(kind: str, certs: Path) -> None:
    app = Application()
    async with reaching(kind, app, certs) as transport, transport.stream("GET", "/drip") as answer:
        assert (answer.status, answer.headers["x-kind"]) == (200, "drip")
        assert await anext(answer.chunks) == b"one\n"
        app.go_on.set()
        assert b"".join([chunk async for chunk in answer.chunks]) == b"two\nthree"


@both
async def test_an_application_that_breaks_off_is_unreachable_not_a_short_answer(kind: str, certs: Path) -> None:
    async with reaching(kind, Application(), certs) as transport:
        with pytest.raises(Unreachable):
            await transport.request("GET", "/breaks")
        with pytest.raises(Unreachable):
            async with transport.stream("GET", "/breaks") as answer:
                [chunk async for chunk in answer.chunks]


@both
async def test_leaving_a_stream_tells_the_application(kind: str, certs: Path) -> None:
    app = Application()
    app.go_on.set()
    async with reaching(kind, app, certs) as transport:
        async with transport.stream("GET", "/drip/for-ever") as answer:
            assert await anext(answer.chunks)
        if kind == "http":
            async with asyncio.timeout(2):
                await app.left.wait()


@both
async def test_errors_inside_a_stream_come_out_as_they_are(kind: str, certs: Path) -> None:
    async with reaching(kind, Application(), certs) as transport:
        with pytest.raises(KeyError, match="mine"):
            async with transport.stream("GET", "/drip"):
                raise KeyError("mine")


@both
async def test_a_stream_can_be_left_through_its_generator(kind: str, certs: Path) -> None:
    async with reaching(kind, Application(), certs) as transport:

        async def generator() -> AsyncIterator[bytes]:
            async with transport.stream("GET", "/drip/for-ever") as answer:
                async for chunk in answer.chunks:
                    yield chunk

        async for _ in (chunks := generator()):
            break
        await chunks.aclose()  # type: ignore[attr-defined]


@both
async def test_a_slow_reader_slows_the_sender(kind: str, certs: Path) -> None:
    app = Application()
    async with reaching(kind, app, certs) as transport, transport.stream("GET", "/flood") as answer:
        await anext(answer.chunks)
        await asyncio.sleep(0.15)
        assert app.sent < 500


async def test_the_client_turns_status_bodies_into_errors() -> None:
    async def gone(scope: Any, receive: Any, send: Any) -> None:
        body = json.dumps(status.not_found(scheme.PODS, "web").status).encode()
        await whole(send, body, status_code=404)

    client = Client(inprocess.InProcessTransport(gone, ADMIN))
    with pytest.raises(status.ApiError, match='pods "web" not found') as caught:
        await client.get(scheme.PODS, "web", namespace="default")
    assert status.is_not_found(caught.value)


async def test_nobody_listening_is_said_plainly(certs: Path) -> None:
    sock = serve.listen("127.0.0.1:0")
    server = f"https://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    transport = http.HttpTransport(admin(server, certs))
    with pytest.raises(Unreachable) as caught:
        await transport.request("GET", "/")
    assert str(caught.value).startswith(f"{server} cannot be reached: ")
    assert "refused" in str(caught.value).lower()
    await transport.close()


async def test_an_answer_that_breaks_off_is_said_plainly(certs: Path) -> None:
    async with listening(Application(), certs) as server:
        transport = http.HttpTransport(admin(server, certs))
        with pytest.raises(Unreachable, match="it broke off in the middle of its answer"):
            await transport.request("GET", "/breaks")
        await transport.close()


async def test_a_server_of_another_ca_is_not_trusted(certs: Path, tmp_path: Path) -> None:
    pki.ensure_ca(tmp_path)
    async with listening(Application(), certs) as server:
        transport = http.HttpTransport(admin(server, certs, ca_file=tmp_path / "ca.crt"))
        with pytest.raises(Unreachable, match="its certificate is not trusted"):
            await transport.request("GET", "/")
        await transport.close()


async def test_the_server_name_can_differ_from_the_address(certs: Path) -> None:
    async with listening(Application(), certs) as server:
        for name, works in (("kubernetes.default.svc", True), ("example.org", False)):
            transport = http.HttpTransport(admin(server, certs, tls_server_name=name))
            try:
                assert (await transport.request("GET", "/")).status == 200
                assert works
            except Unreachable:
                assert not works
            await transport.close()


async def test_embedded_credentials_need_no_file(certs: Path) -> None:
    async with listening(Application(), certs) as server:
        config = RestConfig(
            server=server,
            ca_data=(certs / "ca.crt").read_bytes(),
            cert_data=(certs / "admin.crt").read_bytes(),
            key_data=(certs / "admin.key").read_bytes(),
        )
        transport = http.HttpTransport(config)
        assert json.loads((await transport.request("GET", "/")).body)["user"] == "kubernetes-admin"
        await transport.close()


async def test_a_broken_key_is_named(certs: Path) -> None:
    transport = http.HttpTransport(admin("https://127.0.0.1:1", certs, key_file=certs / "ca.key"))
    with pytest.raises(KubeconfigError, match="TLS files cannot be used"):
        await transport.request("GET", "/")


async def test_a_token_file_is_read_again_when_it_changed(certs: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with listening(Application(), certs) as server:
        transport = http.HttpTransport(RestConfig(server=server, ca_file=certs / "ca.crt", token_file=token))

        async def shown() -> Any:
            return json.loads((await transport.request("GET", "/")).body)["headers"]["authorization"]

        assert await shown() == "Bearer first"
        token.write_text("second")
        os.utime(token, (time.time() + 9, time.time() + 9))
        assert await shown() == "Bearer second"
        token.unlink()
        with pytest.raises(Unreachable, match="token file"):
            await shown()
        await transport.close()


async def test_a_renewed_certificate_is_used_for_new_requests_while_old_streams_go_on(
    certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CREDENTIAL_CHECK_SECONDS", 0)
    ca = pki.load_ca(certs)
    pki.write_pair(tmp_path, "me", pki.node_client(ca, name="old"))
    app = Application()
    async with listening(app, certs) as server:
        config = admin(server, certs, cert_file=tmp_path / "me.crt", key_file=tmp_path / "me.key")
        transport = http.HttpTransport(config)
        async with transport.stream("GET", "/drip/for-ever") as answer:
            assert await anext(answer.chunks) == b"one\n"
            pki.write_pair(tmp_path, "me", pki.node_client(ca, name="new"))
            assert json.loads((await transport.request("GET", "/")).body)["user"] == "system:node:new"
            app.go_on.set()
            assert await anext(answer.chunks) == b"two\n"
        await transport.close()


async def test_connections_are_reused(certs: Path) -> None:
    app = Application()
    async with listening(app, certs) as server:
        transport = http.HttpTransport(admin(server, certs))
        for _ in range(5):
            await transport.request("GET", "/")
        await transport.close()
    assert len(app.connections) == 1
