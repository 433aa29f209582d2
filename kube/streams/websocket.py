"""The server's side of a WebSocket: the handshake's reply, and whole messages over a Duplex.

Owns the protocol's mechanics through wsproto. Must not know channels or what messages mean.
Follows RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
from collections.abc import Iterable, Sequence

import wsproto.connection
import wsproto.events
import wsproto.utilities

from kube.duplex import Duplex
from kube.streams.errors import StreamError, WebSocketError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_MESSAGE = 16 << 20
_MAX_WAITING = 4 << 20
"""Bytes of messages held before the socket is read no further. While less is held, pings are answered at once."""


def reply_headers(request: Iterable[tuple[bytes, bytes]], *, subprotocol: str = "") -> list[tuple[bytes, bytes]]:
    """Make the headers of the 101 reply. Raises WebSocketError when the request is not a WebSocket handshake."""
    found = {name.lower(): value.strip() for name, value in request}
    key = found.get(b"sec-websocket-key", b"")
    if not key:
        raise WebSocketError("header Sec-WebSocket-Key is missing")
    if found.get(b"sec-websocket-version") != b"13":
        raise WebSocketError("header Sec-WebSocket-Version must be 13")
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    headers = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", accept)]
    if subprotocol:
        headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode()))
    return headers


def offered(request: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """List the subprotocols the client offers, its favourite first."""
    names: list[str] = []
    for name, value in request:
        if name.lower() == b"sec-websocket-protocol":
            names += [part.strip() for part in value.decode("latin-1").split(",")]
    return [name for name in names if name]


def choose(wanted: Sequence[str], supported: Sequence[str]) -> str | None:
    """Pick the first subprotocol the client wants and we support."""
    return next((name for name in wanted if name in supported), None)


class WebSocket:
    """Messages over an accepted connection. `run` must be running: it reads, and answers pings by itself."""

    def __init__(self, stream: Duplex, *, server: bool = True) -> None:
        kind = wsproto.connection.ConnectionType.SERVER if server else wsproto.connection.ConnectionType.CLIENT
        self._stream = stream
        self._connection = wsproto.connection.Connection(kind)
        self._messages: collections.deque[bytes] = collections.deque()
        self._waiting = 0
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._changed = asyncio.Condition()
        self._ended = False

    async def run(self) -> None:
        """Read until the peer closes or the connection is lost. Ends quietly: `receive` then gives None."""
        try:
            while not self._ended:
                data = await self._stream.read(256 * 1024)
                await self._feed(data)
                async with self._changed:
                    self._changed.notify_all()
                    await self._changed.wait_for(lambda: self._waiting < _MAX_WAITING)
        except (wsproto.utilities.ProtocolError, StreamError, OSError):
            pass  # nothing can be said to a peer that breaks the protocol or is gone
        finally:
            self._ended = True
            async with self._changed:
                self._changed.notify_all()

    async def receive(self) -> bytes | None:
        """Return the next whole message (text as UTF-8), or None after the last."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._messages) or self._ended)
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._waiting -= len(message) + 1
            self._changed.notify_all()
            return message

    async def send(self, message: bytes | str) -> None:
        """Send one message. Raises WebSocketError when the connection is closed."""
        event: wsproto.events.Event = (
            wsproto.events.TextMessage(message) if isinstance(message, str) else wsproto.events.BytesMessage(message)
        )
        await self._emit(event)

    async def ping(self) -> None:
        """Send a ping, to keep what lies between from timing out."""
        await self._emit(wsproto.events.Ping())

    async def close(self, *, code: int = 1000, reason: str = "") -> None:
        """Say goodbye and close the connection."""
        try:
            # A control frame holds 125 bytes, two of them the code.
            await self._emit(
                wsproto.events.CloseConnection(code=code, reason=reason.encode()[:120].decode(errors="ignore"))
            )
        except (WebSocketError, StreamError, OSError):
            pass
        self._ended = True
        await self._stream.close()

    async def _emit(self, event: wsproto.events.Event) -> None:
        try:
            data = self._connection.send(event)
        except wsproto.utilities.LocalProtocolError as e:
            raise WebSocketError(f"the connection is closed: {e}") from e
        await self._stream.write(data)

    async def _feed(self, data: bytes) -> None:
        self._connection.receive_data(data or None)
        for event in self._connection.events():
            if isinstance(event, wsproto.events.TextMessage | wsproto.events.BytesMessage):
                self._collect(event)
            elif isinstance(event, wsproto.events.Ping):
                await self._stream.write(self._connection.send(event.response()))
            elif isinstance(event, wsproto.events.CloseConnection):
                self._ended = True
                if data and self._connection.state is wsproto.connection.ConnectionState.REMOTE_CLOSING:
                    await self._stream.write(self._connection.send(event.response()))
        if not data:
            self._ended = True

    def _collect(self, event: wsproto.events.TextMessage | wsproto.events.BytesMessage) -> None:
        part = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._parts_size += len(part)
        if self._parts_size > _MAX_MESSAGE:
            raise WebSocketError(f"message larger than {_MAX_MESSAGE} bytes")
        self._parts.append(part)
        if event.message_finished:
            message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts, self._parts_size = [], 0
            self._messages.append(message)
            self._waiting += len(message) + 1


class Tunnel:
    """A Duplex whose bytes travel in binary messages: the port-forward tunnel."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._rest = b""

    async def read(self, n: int = 65536) -> bytes:
        """Return the next bytes, whatever message they came in."""
        while not self._rest:
            message = await self._socket.receive()
            if message is None:
                return b""
            self._rest = message
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes as one message."""
        await self._socket.send(data)

    async def write_eof(self) -> None:
        """A tunnel has no half-close: its end is the connection's."""
        await self._socket.close()

    async def close(self) -> None:
        """Close the WebSocket below."""
        await self._socket.close()
