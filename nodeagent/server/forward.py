"""Port-forward by channels, as clients ask that know no tunnel: one connection to each port for the whole WebSocket.

Owns the translation of channels to the runtime's SPDY streams and back. Must not know HTTP or pods.
Port i has data channel 2i and error channel 2i+1; each begins with the port's number, two bytes, the low one first.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

from kube.duplex import Duplex
from kube.streams import channels as protocols
from kube.streams import remotecommand, spdy, websocket
from kube.streams.errors import StreamError

_PIECE = 256 * 1024


async def channels(
    client: websocket.WebSocket, runtime: Duplex, *, protocol: protocols.Protocol, ports: Sequence[int]
) -> None:
    """Carry bytes both ways until the client leaves, the runtime ends, or every port's connection has ended."""
    session = _Session(client, runtime, protocol, ports)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()), group.create_task(session.from_client())]
        try:
            await session.from_runtime()
        finally:
            for task in tasks:
                task.cancel()


class _Session:
    def __init__(
        self, client: websocket.WebSocket, runtime: Duplex, protocol: protocols.Protocol, ports: Sequence[int]
    ) -> None:
        self._client, self._runtime, self._protocol, self._ports = client, runtime, protocol, ports
        self._spdy = spdy.Session(client=True)
        self._streams: dict[int, int] = {}
        """Channel by stream."""
        for number, port in enumerate(ports):
            named = {remotecommand.PORT: str(port), remotecommand.REQUEST_ID: str(number)}
            error = self._spdy.open({remotecommand.STREAM_TYPE: remotecommand.ERROR, **named}, fin=True)
            data = self._spdy.open({remotecommand.STREAM_TYPE: remotecommand.DATA, **named})
            self._streams |= {data: 2 * number, error: 2 * number + 1}
        self._by_channel = {channel: stream for stream, channel in self._streams.items()}
        self._open = set(self._streams)

    async def from_runtime(self) -> None:
        """Announce the ports, then carry what comes from them until nothing can come any more."""
        try:
            await self._runtime.write(self._spdy.pending())
            for channel in range(2 * len(self._ports)):
                await self._tell(channel, struct.pack("<H", self._ports[channel // 2]))
            while self._open and (data := await self._runtime.read(_PIECE)):
                for event in self._spdy.receive(data):
                    await self._take(event)
                if answers := self._spdy.pending():
                    await self._runtime.write(answers)
        except (StreamError, OSError):
            pass  # one of both has left, and with it the connections
        await self._client.close()

    async def _take(self, event: spdy.Event) -> None:
        match event:
            case spdy.DataReceived(stream, data, fin):
                if data:
                    await self._tell(self._streams[stream], data)
                if fin:
                    self._open.discard(stream)
            case spdy.StreamReset(stream, _):
                self._open.discard(stream)
            case _:
                pass

    async def _tell(self, channel: int, data: bytes) -> None:
        await self._client.send(self._protocol.encode(channel, data))

    async def from_client(self) -> None:
        """Carry what the client sends to its ports; when it leaves, end the runtime's connection."""
        try:
            while (message := await self._client.receive()) is not None:
                channel, data = self._protocol.decode(message)
                stream = self._by_channel.get(channel, 0)
                if channel % 2 == 0 and data and stream and self._spdy.can_send(stream):
                    self._spdy.send(stream, data)
                    await self._runtime.write(self._spdy.pending())
        except (StreamError, OSError):
            pass
        await self._runtime.close()
