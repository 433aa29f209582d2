"""WebSocket messages, channels, tunnels and joined connections, over in-memory connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import wsproto.connection
import wsproto.events

from kube.streams import channels, duplex, oneway, remotecommand, websocket
from kube.streams.errors import RefusedError, StreamError, WebSocketError


class Pipe:
    """One end of an in-memory connection."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.peer: Pipe
        self.closed = False

    async def read(self, n: int = 65536) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("closed")
        self.peer.incoming.put_nowait(bytes(data))

    async def write_eof(self) -> None:
        self.peer.incoming.put_nowait(b"")

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.peer.incoming.put_nowait(b"")
            self.incoming.put_nowait(b"")


def pipes() -> tuple[Pipe, Pipe]:
    left, right = Pipe(), Pipe()
    left.peer, right.peer = right, left
    return left, right


HANDSHAKE = [
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"v9.channel.k8s.io, v5.channel.k8s.io"),
    (b"sec-websocket-protocol", b"v4.channel.k8s.io"),
]


def test_the_handshake_is_answered_as_in_the_rfc() -> None:
    headers = dict(websocket.reply_headers(HANDSHAKE, subprotocol="v5.channel.k8s.io"))
    assert headers[b"Sec-WebSocket-Accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert headers[b"Sec-WebSocket-Protocol"] == b"v5.channel.k8s.io"


@pytest.mark.parametrize(("missing", "message"), [(0, "Sec-WebSocket-Key"), (1, "Sec-WebSocket-Version")])
def test_a_handshake_without_its_headers_is_refused_by_name(missing: int, message: str) -> None:
    with pytest.raises(WebSocketError, match=message):
        websocket.reply_headers([h for n, h in enumerate(HANDSHAKE) if n != missing])


def test_the_clients_first_known_subprotocol_wins() -> None:
    wanted = websocket.offered(HANDSHAKE)
    assert wanted == ["v9.channel.k8s.io", "v5.channel.k8s.io", "v4.channel.k8s.io"]
    assert channels.choose(wanted) is channels.V5
    assert channels.choose([]) is channels.V1
    assert channels.choose(["other"]) is None
    assert websocket.choose(wanted, ["v4.channel.k8s.io"]) == "v4.channel.k8s.io"


@pytest.mark.parametrize("protocol", channels.EXEC_PROTOCOLS, ids=lambda p: p.name)
def test_a_channel_message_survives_coding(protocol: channels.Protocol) -> None:
    message = protocol.encode(channels.STDERR, b"\0\xffbytes")
    raw = message.encode() if isinstance(message, str) else message
    assert protocol.decode(raw) == (channels.STDERR, b"\0\xffbytes")


def test_messages_that_are_no_channel_messages_are_refused() -> None:
    with pytest.raises(WebSocketError, match="without a channel"):
        channels.V5.decode(b"")
    with pytest.raises(WebSocketError, match="not base64"):
        channels.EXEC_PROTOCOLS[2].decode(b"0*")


async def test_messages_arrive_whole_and_a_ping_is_answered_before_anyone_reads() -> None:
    left, right = pipes()
    server = websocket.WebSocket(left)
    client = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await right.write(client.send(wsproto.events.BytesMessage(b"half", message_finished=False)))
        await right.write(client.send(wsproto.events.BytesMessage(b" and half")))
        await right.write(client.send(wsproto.events.Ping(b"alive?")))
        client.receive_data(await right.read())
        assert list(client.events()) == [wsproto.events.Pong(b"alive?")]
        assert await server.receive() == b"half and half"
        await right.write(client.send(wsproto.events.CloseConnection(1000)))
        assert await server.receive() is None
        client.receive_data(await right.read())
        assert [type(e) for e in client.events()] == [wsproto.events.CloseConnection]
        with pytest.raises(WebSocketError, match="closed"):
            await server.send(b"too late")


async def test_a_lost_connection_ends_receiving() -> None:
    left, right = pipes()
    server = websocket.WebSocket(left)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await right.close()
        assert await server.receive() is None


async def test_a_reader_that_does_not_read_stops_the_socket_and_not_the_memory() -> None:
    left, right = pipes()
    server = websocket.WebSocket(left)
    client = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
    message = client.send(wsproto.events.BytesMessage(b"x" * (1 << 20)))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        for _ in range(8):
            await right.write(message)
        await asyncio.sleep(0.1)
        assert left.incoming.qsize() >= 3
        for _ in range(8):
            assert await server.receive() == b"x" * (1 << 20)
        await right.close()


async def test_a_tunnel_ignores_message_borders() -> None:
    left, right = pipes()
    server, client = websocket.WebSocket(left), websocket.WebSocket(right, server=False)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        group.create_task(client.run())
        near, far = websocket.Tunnel(server), websocket.Tunnel(client)
        await near.write(b"abc")
        await near.write(b"defg")
        assert [await far.read(2), await far.read(2), await far.read()] == [b"ab", b"c", b"defg"]
        await near.close()
        assert await far.read() == b""


async def test_joined_connections_carry_bytes_both_ways_until_one_ends() -> None:
    a, b = pipes()
    c, d = pipes()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(duplex.join(b, c))
        await a.write(b"there")
        assert await d.read() == b"there"
        await d.write(b"back")
        assert await a.read() == b"back"
        await d.close()
        assert await a.read() == b""
    assert b.closed and c.closed


async def answer(reply: bytes) -> tuple[asyncio.Server, int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_an_upgraded_connection_keeps_the_bytes_behind_the_head() -> None:
    server, port = await answer(b"HTTP/1.1 101 Switching\r\nX-Stream-Protocol-Version: v4\r\n\r\nearly")
    async with server:
        headers, stream = await duplex.upgrade("127.0.0.1", port, target="/exec/1", headers=[("Upgrade", "SPDY/3.1")])
        assert headers["x-stream-protocol-version"] == "v4"
        assert await stream.read() == b"early"
        await stream.close()


async def test_a_refused_upgrade_tells_status_and_text() -> None:
    server, port = await answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nno deal")
    async with server:
        with pytest.raises(RefusedError) as caught:
            await duplex.upgrade("127.0.0.1", port, target="/", headers=[])
    assert (caught.value.status, caught.value.body) == (403, "no deal")


async def test_a_header_with_a_line_break_is_never_sent() -> None:
    server, port = await answer(b"HTTP/1.1 101 x\r\n\r\n")
    async with server:
        with pytest.raises(StreamError, match="line break"):
            await duplex.upgrade("127.0.0.1", port, target="/", headers=[("A", "b\r\nC: d")])


def test_exit_codes_travel_in_a_status() -> None:
    assert remotecommand.exit_code(remotecommand.success()) == 0
    assert remotecommand.exit_code(remotecommand.exited(42)) == 42
    assert remotecommand.exit_code(remotecommand.failed("gone")) is None


def test_old_protocols_get_the_message_alone_and_nothing_on_success() -> None:
    assert remotecommand.plain_text(b'{"status":"Success"}') == b""
    assert remotecommand.plain_text(b'{"status":"Failure","message":"exit 3"}') == b"exit 3"


class FakeUpgrade:
    """An upgrade onto one end of a pipe."""

    protocol = "websocket"

    def __init__(self, stream: Pipe) -> None:
        self.stream, self.headers = stream, {}

    async def accept(self, status: int, headers: list[tuple[bytes, bytes]]) -> Pipe:
        self.headers = dict(headers)
        return self.stream


async def logs() -> AsyncIterator[bytes]:
    yield b"one\n"
    yield b"two\n"


@pytest.mark.parametrize(
    ("subprotocol", "messages"),
    [("binary.k8s.io", [b"one\n", b"two\n"]), ("base64.binary.k8s.io", [b"b25lCg==", b"dHdvCg=="])],
)
async def test_logs_go_out_one_piece_a_message(subprotocol: str, messages: list[bytes]) -> None:
    left, right = pipes()
    upgrade = FakeUpgrade(left)
    client = websocket.WebSocket(right, server=False)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(
            oneway.send(upgrade, [*HANDSHAKE[:2], (b"sec-websocket-protocol", subprotocol.encode())], logs())
        )  # type: ignore[arg-type]
        group.create_task(client.run())
        assert [await client.receive(), await client.receive(), await client.receive()] == [*messages, None]
    assert upgrade.headers[b"Sec-WebSocket-Protocol"] == subprotocol.encode()


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_a_client_that_leaves_ends_the_log() -> None:
    left, right = pipes()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(oneway.send(FakeUpgrade(left), HANDSHAKE[:2], never()))  # type: ignore[arg-type]
        await right.close()
