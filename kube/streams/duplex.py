"""Connections that a client upgraded, and two connections joined into one.

Owns the client's side of an upgrade, a `Duplex` over asyncio's streams, and the copying between two of them.
Must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable

from kube.duplex import Duplex
from kube.streams.errors import RefusedError, StreamError

_PIECE = 256 * 1024
_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 8 * 1024


class StreamDuplex:
    """A Duplex over asyncio's reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, n: int = 65536) -> bytes:
        """Return up to n bytes; b"" at the end. Raises ConnectionError when the connection broke."""
        return await self._reader.read(n)

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the peer does not read. Raises ConnectionError when the connection broke."""
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        """End our side. TLS knows no half-close: there it does nothing."""
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()

    async def close(self) -> None:
        """Close without waiting for the peer."""
        self._writer.close()


async def upgrade(
    host: str,
    port: int,
    *,
    target: str,
    headers: Iterable[tuple[str, str]],
    method: str = "POST",
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    timeout: float = 30.0,
) -> tuple[dict[str, str], StreamDuplex]:
    """Ask a server to switch protocols. Returns its headers (lower-case names) and the connection.

    Raises RefusedError when it answers anything but 101, StreamError when it does not answer; `timeout` in seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname=server_hostname if tls else None, limit=2 * _PIECE
            )
            try:
                return await _switch(reader, writer, method, target, headers), StreamDuplex(reader, writer)
            except BaseException:
                writer.close()
                raise
    except TimeoutError as e:
        raise StreamError(f"no answer to the upgrade from {host}:{port} within {timeout:g} s") from e
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
        raise StreamError(f"cannot upgrade a connection to {host}:{port}: {e}") from e


async def _switch(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
) -> dict[str, str]:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1:
        raise StreamError("a header holds a line break")
    writer.write(text.encode("latin-1"))
    head = (await reader.readuntil(b"\r\n\r\n"))[:_HEAD_LIMIT].decode("latin-1").split("\r\n")
    reply = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    status = head[0].split(" ", 2)[1:2]
    if status != ["101"]:
        raise RefusedError(
            status=int(status[0]) if status and status[0].isdigit() else 502, body=await _body(reader, reply)
        )
    return reply


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> str:
    length = headers.get("content-length", "")
    if not length.isdigit():
        return ""
    with contextlib.suppress(asyncio.IncompleteReadError):
        return (await reader.readexactly(min(int(length), _BODY_LIMIT))).decode(errors="replace").strip()
    return ""


class _Ended(Exception):
    """One side has ended."""


async def join(left: Duplex, right: Duplex) -> None:
    """Copy both ways until one side ends or is lost, then close both.

    Framed protocols end themselves inside their frames, and TLS has no half-close: so one end is the end of both.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(left, right))
            group.create_task(_copy(right, left))
    except* (_Ended, StreamError, OSError):
        pass
    finally:
        await left.close()
        await right.close()


async def _copy(source: Duplex, sink: Duplex) -> None:
    """A sink that takes no more may still have much to say: the copy in the other direction hears it out."""
    while data := await source.read(_PIECE):
        try:
            await sink.write(data)
        except (StreamError, OSError):
            return
    raise _Ended
