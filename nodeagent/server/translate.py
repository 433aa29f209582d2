"""Between WebSocket clients and the runtime's SPDY server.

Owns the translation of channels to streams and back, half-close and exit status included. Must not know HTTP or pods.
Why SPDY: the runtime's own WebSocket server knows no half-close, so a process would never see the end of its input.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Iterator

from kube.duplex import Duplex
from kube.streams import channels, duplex, remotecommand, spdy, websocket
from kube.streams.errors import StreamError

_PIECE = 256 * 1024
_OPEN_SECONDS = 30.0
_MAX_STATUS = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Streams:
    """Which streams a client wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


async def tunnel(client: websocket.WebSocket, runtime: Duplex) -> None:
    """Carry the bytes inside a client's messages to the runtime and back, until either ends."""
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(client.run())
        await duplex.join(websocket.Tunnel(client), runtime)
        reading.cancel()


async def remote_command(
    client: websocket.WebSocket, runtime: Duplex, *, protocol: channels.Protocol, wanted: Streams
) -> None:
    """Run one exec or attach session to its end, and send the client its status."""
    session = _Session(client, runtime, protocol, wanted)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()), group.create_task(session.from_client())]
        try:
            await session.from_runtime()
        finally:
            for task in tasks:
                task.cancel()


class _Session:
    def __init__(
        self, client: websocket.WebSocket, runtime: Duplex, protocol: channels.Protocol, wanted: Streams
    ) -> None:
        self._client = client
        self._runtime = runtime
        self._protocol = protocol
        self._spdy = spdy.Session(client=True)
        self._ready = asyncio.Event()
        self._status = b""
        # The error stream first: the runtime tells the protocol's version by it.
        self._error = self._open(remotecommand.ERROR)
        self._stdin = self._open(remotecommand.STDIN) if wanted.stdin else 0
        self._outputs: dict[int, int] = {}
        if wanted.stdout:
            self._outputs[self._open(remotecommand.STDOUT)] = channels.STDOUT
        if wanted.stderr:
            self._outputs[self._open(remotecommand.STDERR)] = channels.STDERR
        self._resize = self._open(remotecommand.RESIZE) if wanted.tty else 0
        self._unanswered = {self._error, self._stdin, self._resize, *self._outputs} - {0}
        self._unfinished = {self._error, *self._outputs}
        self._first = min(self._outputs.values(), default=channels.ERROR)

    def _open(self, kind: str) -> int:
        return self._spdy.open({remotecommand.STREAM_TYPE: kind})

    async def from_runtime(self) -> None:
        """Carry output to the client until all of it and the status have come, then say goodbye."""
        try:
            await self._runtime.write(self._spdy.pending())
            await self._client.send(self._protocol.encode(self._first, b""))
            while self._unfinished:
                data = await self._read()
                if not data:
                    break
                for event in merged(self._spdy.receive(data)):
                    await self._take(event)
                if answers := self._spdy.pending():
                    await self._runtime.write(answers)
            await self._finish()
        except (StreamError, OSError) as e:
            self._status = self._status or json.dumps(remotecommand.failed(str(e))).encode()
            await self._finish()

    async def _read(self) -> bytes:
        if self._ready.is_set():
            return await self._runtime.read(_PIECE)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                return await self._runtime.read(_PIECE)
        except TimeoutError as e:
            raise StreamError(f"the runtime did not open the streams within {_OPEN_SECONDS:g} s") from e

    async def _take(self, event: spdy.Event) -> None:
        match event:
            case spdy.DataReceived(stream, data, fin):
                if data and stream == self._error:
                    self._status = (self._status + data)[:_MAX_STATUS]
                elif data and stream in self._outputs:
                    await self._client.send(self._protocol.encode(self._outputs[stream], data))
                if fin:
                    self._unfinished.discard(stream)
            case spdy.StreamAccepted(stream, _, fin):
                self._unanswered.discard(stream)
                if not self._unanswered:
                    self._ready.set()
                if fin:
                    self._unfinished.discard(stream)
            case spdy.StreamReset(stream, _):
                self._unfinished.discard(stream)
                self._unanswered.discard(stream)
            case _:
                pass

    async def _finish(self) -> None:
        status = self._status or json.dumps(remotecommand.failed("the runtime ended the connection")).encode()
        if not self._protocol.json_status:
            status = remotecommand.plain_text(status)
        try:
            if status:
                await self._client.send(self._protocol.encode(channels.ERROR, status))
        except (StreamError, OSError):
            pass  # the client has left: nobody wants the status
        await self._client.close()

    async def from_client(self) -> None:
        """Carry input and window sizes to the runtime; when the client leaves, end the runtime's connection."""
        await self._ready.wait()
        try:
            while (message := await self._client.receive()) is not None:
                channel, data = self._protocol.decode(message)
                self._put(channel, data)
                if pending := self._spdy.pending():
                    await self._runtime.write(pending)
        except (StreamError, OSError):
            pass
        await self._runtime.close()

    def _put(self, channel: int, data: bytes) -> None:
        stream, fin = 0, False
        if channel == channels.STDIN:
            stream = self._stdin
        elif channel == channels.RESIZE:
            stream = self._resize
        elif channel == channels.CLOSE and self._protocol.half_close and data[:1] == bytes([channels.STDIN]):
            stream, data, fin = self._stdin, b"", True
        # Input after the process has ended has nowhere to go.
        if stream and (data or fin) and self._spdy.can_send(stream):
            self._spdy.send(stream, data, fin=fin)


def merged(events: Iterable[spdy.Event]) -> Iterator[spdy.Event]:
    """The same events with neighbouring data of one stream as one piece: a message costs more than its bytes. PURE."""
    pieces: list[bytes] = []
    stream, fin = 0, False
    for event in events:
        if isinstance(event, spdy.DataReceived) and event.stream == stream and pieces and not fin:
            pieces.append(event.data)
            fin = event.fin
            continue
        if pieces:
            yield spdy.DataReceived(stream, b"".join(pieces), fin)
            pieces = []
        if isinstance(event, spdy.DataReceived):
            stream, pieces, fin = event.stream, [event.data], event.fin
        else:
            yield event
    if pieces:
        yield spdy.DataReceived(stream, b"".join(pieces), fin)
