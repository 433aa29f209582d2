"""A byte stream in both directions over a connection that HTTP has left.

Owns back-pressure and half-close on an asyncio transport. Knows no protocol that is spoken on it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol, cast

READ_AHEAD = 256 << 10


class Duplex(Protocol):
    """What stream protocols are written against."""

    async def read(self, n: int = 65536) -> bytes:
        """Up to `n` bytes, at least one; b"" at the end. ConnectionError when the connection broke."""

    async def write(self, data: bytes) -> None:
        """Send, waiting while the peer reads too slowly. ConnectionError when the connection broke."""

    async def write_eof(self) -> None:
        """Say that no more will be written; reading goes on. Over TLS there is no such half: nothing is sent."""

    async def close(self) -> None:
        """End both directions; what was written is still sent."""


def cut(transport: asyncio.Transport) -> None:
    """End a connection at once; unsent bytes are dropped."""
    with contextlib.suppress(AttributeError):  # asyncio before 3.11.5 forgets the TLS session of one closed twice
        transport.abort()


class SocketDuplex(asyncio.Protocol):
    """A Duplex that is the asyncio protocol of its transport. Reading pauses while READ_AHEAD bytes wait."""

    def __init__(self, *, on_lost: Callable[[], None] | None = None) -> None:
        self._transport: asyncio.Transport | None = None
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._eof = self._lost = self._paused = False
        self._error: Exception | None = None
        self._readable, self._writable, self._gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writable.set()

    def adopt(self, transport: asyncio.Transport, *, received: bytes = b"", writable: bool = True) -> None:
        """Take a transport over from the protocol that had it, with the bytes that one had read too far."""
        self._transport = transport
        if not writable:
            self.pause_writing()
        transport.set_protocol(self)
        if received:
            self.data_received(received)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._readable.set()
        if len(self._buffer) > READ_AHEAD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        self._readable.set()
        # Keep our half open where the transport can; TLS cannot, and asyncio would warn.
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = self._lost = True
        self._error = exc
        self._readable.set()
        self._writable.set()
        self._gone.set()
        if self._on_lost is not None:
            self._on_lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # the reader's and writer's side

    async def read(self, n: int = 65536) -> bytes:
        """See `Duplex.read`."""
        while not self._buffer and not self._eof:
            self._readable.clear()
            await self._readable.wait()
        if not self._buffer:
            if self._error is not None:
                raise ConnectionResetError(str(self._error)) from self._error
            return b""
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        if self._paused and len(self._buffer) <= READ_AHEAD // 2 and self._transport is not None:
            self._paused = False
            if not self._lost:
                self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """See `Duplex.write`."""
        transport = self._open_transport()
        transport.write(data)
        await self._writable.wait()
        if self._lost:
            raise ConnectionResetError("connection lost while writing")

    async def write_eof(self) -> None:
        """See `Duplex.write_eof`."""
        transport = self._open_transport()
        if transport.can_write_eof():
            transport.write_eof()

    async def close(self) -> None:
        """See `Duplex.close`; waits a moment for the rest to be sent, then aborts."""
        if self._transport is None or self._lost:
            return
        if self._paused:  # asyncio never closes a TLS transport that is not read
            self._paused = False
            self._transport.resume_reading()
        self._buffer.clear()
        self._transport.close()
        try:
            async with asyncio.timeout(5):
                await self._gone.wait()
        except TimeoutError:
            cut(self._transport)

    def abort(self) -> None:
        """End at once; unsent bytes are dropped."""
        if self._transport is not None:
            cut(self._transport)

    def _open_transport(self) -> asyncio.Transport:
        if self._transport is None or self._lost or self._transport.is_closing():
            raise ConnectionResetError("connection is closed")
        return self._transport
