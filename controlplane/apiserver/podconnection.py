"""One connection to a port of a pod, through the kubelet of its node.

Owns the port-forward session towards the kubelet. So the API server needs no route to the pod network, and reaches
nothing but pods; the bytes inside are nobody's business here.
"""

import asyncio

from kube.duplex import Duplex
from kube.streams import remotecommand, spdy
from kube.streams.errors import StreamError

_PIECE = 256 * 1024


class PodConnection:
    """A Duplex over the data stream of a port-forward session with one connection."""

    def __init__(self, kubelet: Duplex, *, port: int) -> None:
        named = {remotecommand.PORT: str(port), remotecommand.REQUEST_ID: "0"}
        self._kubelet, self._spdy = kubelet, spdy.Session(client=True)
        self._errors = self._spdy.open({remotecommand.STREAM_TYPE: remotecommand.ERROR, **named}, fin=True)
        self._data = self._spdy.open({remotecommand.STREAM_TYPE: remotecommand.DATA, **named})
        self._received, self._fault, self._ended = bytearray(), b"", False
        self._writing = asyncio.Lock()

    async def read(self, n: int = 65536) -> bytes:
        """See `Duplex.read`; a ConnectionError says what the pod's node could not do."""
        while not self._received and not self._ended:
            data = await self._kubelet.read(_PIECE)
            try:
                for event in self._spdy.receive(data):
                    self._take(event)
            except StreamError as e:
                raise ConnectionResetError(str(e)) from e
            await self._flush()
            self._ended = self._ended or not data
        if self._fault and not self._received:
            raise ConnectionRefusedError(self._fault.decode(errors="replace").strip())
        piece = bytes(self._received[:n])
        del self._received[:n]
        return piece

    def _take(self, event: spdy.Event) -> None:
        match event:
            case spdy.DataReceived(stream, data, fin):
                if stream == self._errors:
                    self._fault += data
                    self._ended = self._ended or bool(data)
                elif stream == self._data:
                    self._received += data
                    self._ended = self._ended or fin
            case spdy.StreamReset(stream, _):
                self._ended = self._ended or stream == self._data
            case _:
                pass

    async def write(self, data: bytes) -> None:
        """See `Duplex.write`."""
        if not self._spdy.can_send(self._data):
            raise ConnectionResetError("the pod's side of the connection has ended")
        self._spdy.send(self._data, data)
        await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            if out := self._spdy.pending():
                await self._kubelet.write(out)

    async def write_eof(self) -> None:
        """See `Duplex.write_eof`."""
        if self._spdy.can_send(self._data):
            self._spdy.send(self._data, b"", fin=True)
            await self._flush()

    async def close(self) -> None:
        """See `Duplex.close`."""
        await self._kubelet.close()

    def abort(self) -> None:
        """No more of this connection; the session below belongs to whoever opened it."""
        self._ended = True
        self._received.clear()
