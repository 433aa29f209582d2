"""The server seam on real sockets: certificates, upgrades, deadlines and the end. Pins what uvicorn gives us."""

import asyncio
import gc
import os
import socket
import ssl
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kube import pki, serve
from kube.duplex import READ_AHEAD, cut

ROOT = Path(__file__).resolve().parents[3]
Application = Callable[[Any, Any, Any], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "CUT_SECONDS", 0.1)


@pytest.fixture(scope="module", name="certs")
def make_certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    ca = pki.ensure_cluster(folder, service_ip="10.96.0.1", zone="cluster.local", advertise="127.0.0.1")
    pki.write_pair(folder, "node", pki.node_client(ca, name="n1"))
    return folder


async def answer(send: Any, body: bytes, *, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def who(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the subject of the client's certificate."""
    shown = scope["state"].get("peer_certificate")
    name, groups = pki.subject(shown) if shown else ("nobody", ())
    await answer(send, " ".join([name, *groups]).encode())


async def shout(scope: Any, receive: Any, send: Any) -> None:
    """Takes upgrades over and answers in capitals until the end, then says bye; refuses /no."""
    upgrade = scope["extensions"].get("kube.upgrade")
    if upgrade is None or scope["path"] == "/no":
        await answer(send, b"refused", status=403)
        return
    duplex = await upgrade.accept(101, [(b"connection", b"Upgrade"), (b"upgrade", upgrade.protocol.encode())])
    while data := await duplex.read():
        await duplex.write(data.upper())
    await duplex.write(b" BYE")
    await duplex.close()


@asynccontextmanager
async def served(
    app: Application, *, certs: Path | None = None, drain: float = 0.2
) -> AsyncIterator[tuple[int, serve.Server]]:
    """The port of a running server, over TLS when there are certificates."""
    sock = serve.listen("127.0.0.1:0")
    tls = serve.tls_context(certs / "apiserver.crt", certs / "apiserver.key", certs / "ca.crt") if certs else None
    server = serve.Server(app, sockets=[sock], tls=tls, name="test", drain=drain)
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(server.run())
            yield sock.getsockname()[1], server
            task.cancel()
    finally:
        sock.close()


async def connect(port: int, *, certs: Path | None = None, client: str = "") -> Streams:
    tls = None
    if certs is not None:
        tls = ssl.create_default_context(cafile=certs / "ca.crt")
        if client:
            tls.load_cert_chain(certs / f"{client}.crt", certs / f"{client}.key")
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls)


async def ask(streams: Streams, *, path: str = "/", headers: str = "", extra: bytes = b"") -> tuple[int, bytes]:
    """Send a GET and whatever else; status and body of the answer (no body for 101)."""
    reader, writer = streams
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + extra)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
    return int(head.split()[1]), await reader.readexactly(length)


SPDY = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
WEBSOCKET = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"


async def test_the_peer_certificate_reaches_the_application(certs: Path) -> None:
    async with served(who, certs=certs) as (port, _):
        node = await connect(port, certs=certs, client="node")
        assert await ask(node) == (200, b"system:node:n1 system:nodes")
        assert await ask(node) == (200, b"system:node:n1 system:nodes")
        node[1].close()


async def test_a_client_without_certificate_is_served_as_nobody(certs: Path) -> None:
    async with served(who, certs=certs) as (port, _):
        anyone = await connect(port, certs=certs)
        assert await ask(anyone) == (200, b"nobody")
        anyone[1].close()


async def test_a_certificate_of_another_ca_fails_the_handshake(certs: Path, tmp_path: Path) -> None:
    pki.write_pair(tmp_path, "node", pki.node_client(pki.ensure_ca(tmp_path), name="n1"))
    (tmp_path / "ca.crt").write_bytes((certs / "ca.crt").read_bytes())
    async with served(who, certs=certs) as (port, _):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(await connect(port, certs=tmp_path, client="node"))


def test_tls_older_than_1_2_and_renegotiation_are_refused(certs: Path) -> None:
    context = serve.tls_context(certs / "apiserver.crt", certs / "apiserver.key", certs / "ca.crt")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode == ssl.CERT_OPTIONAL


@pytest.mark.parametrize(("headers", "protocol"), [(SPDY, "spdy/3.1"), (WEBSOCKET, "websocket")])
@pytest.mark.parametrize("tls", [True, False])
async def test_an_upgrade_hands_the_connection_over(certs: Path, headers: str, protocol: str, tls: bool) -> None:
    async with served(shout, certs=certs if tls else None) as (port, _):
        streams = await connect(port, certs=certs if tls else None)
        assert await ask(streams, headers=headers) == (101, b"")
        streams[1].write(b"hello")
        assert await streams[0].readexactly(5) == b"HELLO"
        streams[1].close()


async def test_bytes_sent_right_behind_the_head_are_not_lost(certs: Path) -> None:
    async with served(shout, certs=certs) as (port, _):
        streams = await connect(port, certs=certs)
        assert await ask(streams, headers=SPDY, extra=b"early\r\n\r\nbird") == (101, b"")
        assert await streams[0].readexactly(13) == b"EARLY\r\n\r\nBIRD"
        streams[1].close()


async def test_bytes_that_arrive_before_the_upgrade_is_accepted_are_not_lost() -> None:
    go = asyncio.Event()

    async def hesitant(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await shout(scope, receive, send)

    async with served(hesitant) as (port, _):
        reader, writer = await connect(port)
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\n{SPDY}\r\none".encode())
        await asyncio.sleep(0.05)
        writer.write(b"two" * 50_000)
        await asyncio.sleep(0.05)
        go.set()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(150_003) == b"ONE" + b"TWO" * 50_000
        writer.close()


async def test_a_half_closed_client_still_gets_the_rest() -> None:
    async with served(shout) as (port, _):
        streams = await connect(port)
        await ask(streams, headers=SPDY)
        streams[1].write(b"x")
        streams[1].write_eof()
        assert await streams[0].read() == b"X BYE"
        streams[1].close()


async def test_a_refused_upgrade_is_an_ordinary_answer_and_closes(certs: Path) -> None:
    async with served(shout, certs=certs) as (port, _):
        streams = await connect(port, certs=certs)
        assert await ask(streams, path="/no", headers=SPDY, extra=b"early") == (403, b"refused")
        assert await streams[0].read() == b""
        streams[1].close()


async def test_an_upgrade_to_something_unknown_is_a_plain_request() -> None:
    async with served(shout) as (port, _):
        streams = await connect(port)
        assert await ask(streams, headers="Connection: Upgrade\r\nUpgrade: h2c\r\n") == (403, b"refused")
        streams[1].close()


async def test_a_post_with_a_body_may_ask_for_an_upgrade() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["method"], (await receive())["body"]))
        await shout(scope, receive, send)

    async with served(app) as (port, _):
        reader, writer = await connect(port)
        head = f"POST /exec?command=ls&command=%2D HTTP/1.1\r\nHost: x\r\n{SPDY}Content-Length: 0\r\n\r\n"
        writer.write(head.encode() + b"hi")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"HI"
        assert seen == [("POST", b"")]
        writer.close()


async def test_an_upgrade_can_be_accepted_only_once() -> None:
    told: list[str] = []

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        upgrade = scope["extensions"]["kube.upgrade"]
        duplex = await upgrade.accept(101)
        try:
            await upgrade.accept(101)
        except RuntimeError as error:
            told.append(str(error))
        await duplex.close()

    async with served(twice) as (port, _):
        streams = await connect(port)
        await ask(streams, headers=SPDY)
        assert await streams[0].read() == b""
        streams[1].close()
    assert told == ["the request was answered already"]


async def test_a_reader_that_does_not_read_holds_the_sender_back() -> None:
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    end = asyncio.Event()

    async def lazy(scope: Any, receive: Any, send: Any) -> None:
        duplex = await scope["extensions"]["kube.upgrade"].accept(101)
        accepted.set_result(duplex)
        await end.wait()

    async with served(lazy) as (port, _):
        reader, writer = await connect(port)
        await ask((reader, writer), headers=SPDY)
        duplex = await accepted
        total = 8 << 20
        writer.write(b"x" * total)
        await asyncio.sleep(0.15)
        assert len(duplex._buffer) <= READ_AHEAD + (256 << 10)
        received = 0
        while received < total:
            received += len(await duplex.read(1 << 20))
        assert received == total
        end.set()
        writer.close()


async def test_a_writer_waits_for_a_peer_that_does_not_read() -> None:
    written = 0

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        nonlocal written
        duplex = await scope["extensions"]["kube.upgrade"].accept(101)
        for _ in range(256):
            await duplex.write(b"x" * (256 << 10))
            written += 1
        await duplex.close()

    async with served(flood) as (port, _):
        reader, writer = await connect(port)
        await ask((reader, writer), headers=SPDY)
        await asyncio.sleep(0.15)
        assert written < 128
        size = 0
        while chunk := await reader.read(1 << 20):
            size += len(chunk)
        assert size == 64 << 20
        writer.close()


async def test_a_broken_connection_is_an_error_for_reader_and_writer() -> None:
    outcome: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        duplex = await scope["extensions"]["kube.upgrade"].accept(101)
        for action in (duplex.read, lambda: duplex.write(b"x")):
            try:
                await action()
            except ConnectionError:
                outcome.append("broken")

    async with served(app) as (port, _):
        reader, writer = await connect(port)
        await ask((reader, writer), headers=SPDY)
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await asyncio.sleep(0.1)
    assert outcome == ["broken", "broken"]


async def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "HEADER_SECONDS", 0.1)
    async with served(who) as (port, _):
        silent, slow = await connect(port), await connect(port)
        slow[1].write(b"GET / HTTP/1.1\r\nHost:")
        async with asyncio.timeout(2):
            for reader, writer in (silent, slow):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                writer.close()


async def test_a_second_head_has_a_deadline_too_but_an_idle_connection_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "HEADER_SECONDS", 0.1)
    async with served(who) as (port, _):
        reader, writer = await connect(port)
        await ask((reader, writer))
        await asyncio.sleep(0.2)
        assert await ask((reader, writer)) == (200, b"nobody")
        writer.write(b"GET / HT")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


async def test_a_head_without_end_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MAX_HEAD_BYTES", 1000)
    async with served(who) as (port, _):
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\n")
        for number in range(200):
            writer.write(b"x%d: yyyyyyyyyy\r\n" % number)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_what_is_not_http_is_refused() -> None:
    async with served(who) as (port, _):
        reader, writer = await connect(port)
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_answers_carry_the_date() -> None:
    async with served(who) as (port, _):
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"date: " in (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.close()


async def test_a_lost_connection_is_not_kept_alive_by_its_timer() -> None:
    async with served(who) as (port, server):
        reader, writer = await connect(port)
        await ask((reader, writer))
        (protocol,) = server._state.connections
        gone = weakref.ref(protocol)
        del protocol
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await asyncio.sleep(0.1)
        gc.collect()
        assert gone() is None


async def test_the_end_lets_requests_finish() -> None:
    entered = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await asyncio.sleep(0.2)
        await answer(send, b"done")

    async with served(slow, drain=5) as (port, server):
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
    assert (await reader.read()).endswith(b"done")
    assert server.draining.is_set()
    writer.close()


async def test_the_end_cuts_what_does_not_finish_without_a_word_of_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[str] = []
    entered = asyncio.Event()

    async def watch(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/polite":
            entered.set()
            ends.append((await receive())["type"])
            return
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async with served(watch, drain=0.1) as (port, _):
        polite, deaf = await connect(port), await connect(port)
        deaf[1].write(b"GET /deaf HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        polite[1].write(b"GET /polite HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
    assert ends == ["http.disconnect", "cancelled"]
    assert "Exception" not in caplog.text
    for _, writer in (polite, deaf):
        writer.close()


async def test_a_server_that_is_started_again_finds_its_socket_open() -> None:
    sock = serve.listen("127.0.0.1:0")
    for _ in range(2):
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            task = group.create_task(serve.Server(who, sockets=[sock], tls=None, name="test").run())
            streams = await connect(sock.getsockname()[1])
            assert await ask(streams) == (200, b"nobody")
            streams[1].close()
            task.cancel()
    sock.close()


def test_on_uvloop_certificates_and_upgrades_work_alike(certs: Path) -> None:
    async def main() -> None:
        async with served(who, certs=certs) as (port, _):
            streams = await connect(port, certs=certs, client="admin")
            assert await ask(streams) == (200, b"kubernetes-admin system:masters")
            streams[1].close()
        for tls in (certs, None):
            async with served(shout, certs=tls) as (port, _):
                streams = await connect(port, certs=tls)
                assert await ask(streams, headers=SPDY, extra=b"early") == (101, b"")
                assert await streams[0].readexactly(5) == b"EARLY"
                streams[1].close()
        async with served(shout) as (port, _):
            streams = await connect(port)
            await ask(streams, headers=SPDY)
            streams[1].write_eof()
            assert await streams[0].read() == b" BYE"
            streams[1].close()

    uvloop.run(main())


def test_an_address_in_use_is_named() -> None:
    with serve.listen("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            serve.listen(address)
    with pytest.raises(OSError, match="want ip:port"):
        serve.listen("127.0.0.1:http")
    with serve.listen("[::1]:0") as six:
        assert six.getsockname()[0] == "::1"


@pytest.mark.parametrize(
    ("environment", "count"),
    [({"NODEAGENT_LISTEN_FDS": "1"}, 1), ({}, 0), ({"LISTEN_PID": "1", "NODEAGENT_LISTEN_FDS": "1"}, 0)],
)
def test_sockets_are_inherited_when_they_are_meant_for_us(environment: dict[str, str], count: int) -> None:
    code = (
        "import os; from kube import serve; found = serve.inherited_sockets();"
        "print(len(found), *(s.getsockname()[1] for s in found), os.environ.get('LISTEN_FDS'))"
    )
    with serve.listen("127.0.0.1:0") as sock:
        handle, port = sock.fileno(), sock.getsockname()[1]
        read, write = os.pipe()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", code],
            {"PYTHONPATH": str(ROOT), "LISTEN_FDS": "1", **environment},
            file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, handle, 3)],
        )
        os.close(write)
        with os.fdopen(read) as output:
            said = output.read().split()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert said == (["1", str(port), "None"] if count else ["0", "1"])


def test_a_connection_closed_twice_can_still_be_cut() -> None:
    class Forgetful(asyncio.Transport):
        """As asyncio's TLS transport was before 3.11.5, after its second close."""

        def abort(self) -> None:
            raise AttributeError("'NoneType' object has no attribute '_abort'")

    cut(Forgetful())
