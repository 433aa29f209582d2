"""A SPDY/3.1 session without input or output: bytes in, events out; commands in, bytes out.

Owns the framing, the header compression and the stream states of one connection, in either role.
Must not know sockets, tasks, or what the streams carry. Flow control is deliberately absent: the peers of this
protocol (Moby's spdystream, so kubectl, the API server and container runtimes) neither send nor obey windows.

Follows the SPDY protocol draft 3.1 as far as those peers use it.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Mapping

from kube.streams import spdy_headers
from kube.streams.errors import SpdyError

_CONTROL = 0x80000000
_VERSION = 3
_FIN = 0x01
_UNIDIRECTIONAL = 0x02
_MAX_DATA = 0xFFFFFF
_MAX_CONTROL = 1 << 20
"""Longest control frame accepted, in bytes. Compressed headers are far below it."""

_HEAD = struct.Struct(">II")
_WORD = struct.Struct(">I")


class Frame(enum.IntEnum):
    """Control frame types."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetStatus(enum.IntEnum):
    """Why a stream was reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    INVALID_CREDENTIALS = 10
    FRAME_TOO_LARGE = 11


@dataclasses.dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream. `fin`: it will send nothing on it."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclasses.dataclass(frozen=True, slots=True)
class StreamAccepted:
    """The peer answered our stream."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclasses.dataclass(frozen=True, slots=True)
class HeadersReceived:
    """More headers came on an open stream."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclasses.dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of one stream, in order. A frame may be split over several events; `fin` ends the peer's side."""

    stream: int
    data: bytes
    fin: bool


@dataclasses.dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer aborted the stream: nothing more comes, nothing more can be sent."""

    stream: int
    status: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pong:
    """The answer to our ping."""

    ping: int


@dataclasses.dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer accepts no more streams."""

    last_good: int
    status: int


Event = StreamOpened | StreamAccepted | HeadersReceived | DataReceived | StreamReset | Pong | GoneAway


@dataclasses.dataclass(slots=True)
class _Stream:
    local_open: bool = True
    remote_open: bool = True


class Session:
    """One connection's state. Call `receive` with what the socket gave, then write `pending()` to the socket."""

    def __init__(self, *, client: bool) -> None:
        self._client = client
        self._next_stream = 1 if client else 2
        self._next_ping = 1 if client else 2
        self._last_remote = 0
        self._streams: dict[int, _Stream] = {}
        self._encoder = spdy_headers.Encoder()
        self._decoder = spdy_headers.Decoder()
        self._out: list[bytes] = []
        self._buffer = bytearray()
        self._need = 8
        self._data_stream = 0
        self._data_left = 0
        self._data_fin = False
        self._going_away = False

    # -- commands -------------------------------------------------------------------------------------------------

    def pending(self) -> bytes:
        """Hand over, and forget, the bytes to write to the peer."""
        out = self._out
        if not out:
            return b""
        self._out = []
        return out[0] if len(out) == 1 else b"".join(out)

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Open a stream and return its id. With `fin` we send nothing on it."""
        if self._going_away:
            raise SpdyError("cannot open a stream: the session is going away")
        stream = self._next_stream
        self._next_stream += 2
        self._streams[stream] = _Stream(local_open=not fin)
        head = struct.pack(">IIH", stream, 0, 0)
        self._control(Frame.SYN_STREAM, head + self._encoder.encode(headers), flags=_FIN if fin else 0)
        return stream

    def accept(self, stream: int, *, headers: Mapping[str, str] | None = None, fin: bool = False) -> None:
        """Answer a stream the peer opened. Must be called before data is sent on it."""
        state = self._sendable(stream)
        self._control(
            Frame.SYN_REPLY, _WORD.pack(stream) + self._encoder.encode(headers or {}), flags=_FIN if fin else 0
        )
        if fin:
            self._end_local(stream, state)

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream; `fin` half-closes it."""
        state = self._sendable(stream)
        while len(data) > _MAX_DATA:
            self._out += (_HEAD.pack(stream, _MAX_DATA), data[:_MAX_DATA])
            data = data[_MAX_DATA:]
        if data or fin:
            self._out.append(_HEAD.pack(stream, (_FIN << 24 if fin else 0) | len(data)))
        if data:
            self._out.append(data)
        if fin:
            self._end_local(stream, state)

    def can_send(self, stream: int) -> bool:
        """Tell whether our side of the stream is still open."""
        state = self._streams.get(stream)
        return state is not None and state.local_open

    def reset(self, stream: int, status: ResetStatus = ResetStatus.CANCEL) -> None:
        """Abort a stream in both directions. Does nothing when it is closed already."""
        if self._streams.pop(stream, None) is not None:
            self._reset(stream, status)

    def ping(self) -> int:
        """Send a ping; the answer arrives as `Pong` with the same number."""
        ping = self._next_ping
        self._next_ping += 2
        self._control(Frame.PING, _WORD.pack(ping))
        return ping

    def go_away(self, status: int = 0) -> None:
        """Tell the peer that no more streams are accepted. Open streams go on."""
        self._going_away = True
        self._control(Frame.GOAWAY, struct.pack(">II", self._last_remote, status))

    # -- receiving ------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer, cut anywhere, and return what they mean. Raises SpdyError on nonsense."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        events: list[Event] = []
        position, end = 0, len(data)
        while position < end:
            step = self._step(data, position, end, events)
            if step == 0:
                self._buffer += memoryview(data)[position:]
                break
            position += step
        return events

    def _step(self, data: bytes, position: int, end: int, events: list[Event]) -> int:
        """Take one frame, or one piece of a data frame. Returns the bytes used, 0 when more are needed."""
        available = end - position
        if self._data_left:
            return self._take_data(data, position, available, events)
        if available < 8:
            self._need = 8
            return 0
        word: int
        rest: int
        word, rest = _HEAD.unpack_from(data, position)
        flags, size = rest >> 24, rest & 0xFFFFFF
        if not word & _CONTROL:
            self._begin_data(word, flags, size, events)
            return 8
        if size > _MAX_CONTROL:
            raise SpdyError(f"control frame of {size} bytes is too large")
        if available < 8 + size:
            self._need = 8 + size
            return 0
        if (word >> 16) & 0x7FFF != _VERSION:
            raise SpdyError(f"SPDY version {(word >> 16) & 0x7FFF} is not supported")
        self._receive_control(word & 0xFFFF, flags, data[position + 8 : position + 8 + size], events)
        return 8 + size

    def _begin_data(self, stream: int, flags: int, size: int, events: list[Event]) -> None:
        self._data_stream, self._data_left, self._data_fin = stream, size, bool(flags & _FIN)
        if not self._known(stream):
            raise SpdyError(f"data on stream {stream}, which was never opened")
        if size == 0 and self._data_fin:
            self._emit_data(b"", True, events)

    def _take_data(self, data: bytes, position: int, available: int, events: list[Event]) -> int:
        size = min(self._data_left, available)
        self._data_left -= size
        piece = data if size == len(data) else data[position : position + size]
        self._emit_data(piece, self._data_fin and not self._data_left, events)
        return size

    def _emit_data(self, piece: bytes, fin: bool, events: list[Event]) -> None:
        state = self._streams.get(self._data_stream)
        if state is None or not state.remote_open:
            return  # late data of a stream that was reset, or of a side that had ended
        events.append(DataReceived(self._data_stream, piece, fin))
        if fin:
            self._end_remote(self._data_stream, state)

    def _receive_control(self, kind: int, flags: int, body: bytes, events: list[Event]) -> None:
        fin = bool(flags & _FIN)
        match kind:
            case Frame.SYN_STREAM:
                self._receive_open(_field(body, 0), self._decoder.decode(body[10:]), flags, events)
            case Frame.SYN_REPLY:
                self._receive_headers(StreamAccepted, body, fin, events)
            case Frame.HEADERS:
                self._receive_headers(HeadersReceived, body, fin, events)
            case Frame.RST_STREAM:
                stream = _field(body, 0)
                if self._streams.pop(stream, None) is not None:
                    events.append(StreamReset(stream, _field(body, 4)))
            case Frame.PING:
                self._receive_ping(_field(body, 0), body[:4], events)
            case Frame.GOAWAY:
                self._going_away = True
                events.append(GoneAway(_field(body, 0), _field(body, 4)))
            case _:  # SETTINGS, WINDOW_UPDATE and frames of later drafts carry nothing we act on
                pass

    def _receive_open(self, stream: int, headers: Mapping[str, str], flags: int, events: list[Event]) -> None:
        if stream % 2 == (1 if not self._client else 0) and stream > self._last_remote:
            self._last_remote = stream
        else:
            raise SpdyError(f"the peer may not open stream {stream} after stream {self._last_remote}")
        if self._going_away:
            self._reset(stream, ResetStatus.REFUSED_STREAM)
            return
        fin = bool(flags & _FIN)
        state = _Stream(local_open=not flags & _UNIDIRECTIONAL, remote_open=not fin)
        if state.local_open or state.remote_open:
            self._streams[stream] = state
        events.append(StreamOpened(stream, headers, fin))

    def _receive_headers(
        self, event: type[StreamAccepted | HeadersReceived], body: bytes, fin: bool, events: list[Event]
    ) -> None:
        stream = _field(body, 0)
        headers = self._decoder.decode(body[4:])  # always: the compression context spans all streams
        state = self._streams.get(stream)
        if state is None:
            if not self._known(stream):
                raise SpdyError(f"headers on stream {stream}, which was never opened")
            return
        events.append(event(stream, headers, fin))
        if fin:
            self._end_remote(stream, state)

    def _receive_ping(self, ping: int, body: bytes, events: list[Event]) -> None:
        if ping % 2 == self._next_ping % 2:
            events.append(Pong(ping))
        else:
            self._control(Frame.PING, body)

    # -- stream states --------------------------------------------------------------------------------------------

    def _known(self, stream: int) -> bool:
        """Tell whether the id was ever in use: late frames of closed streams are normal, invented ids are not."""
        if stream % 2 == self._next_stream % 2:
            return 0 < stream < self._next_stream
        return 0 < stream <= self._last_remote

    def _sendable(self, stream: int) -> _Stream:
        state = self._streams.get(stream)
        if state is None or not state.local_open:
            raise SpdyError(f"stream {stream} is not open for sending")
        return state

    def _end_local(self, stream: int, state: _Stream) -> None:
        state.local_open = False
        if not state.remote_open:
            self._streams.pop(stream, None)

    def _end_remote(self, stream: int, state: _Stream) -> None:
        state.remote_open = False
        if not state.local_open:
            self._streams.pop(stream, None)

    def _reset(self, stream: int, status: ResetStatus) -> None:
        self._control(Frame.RST_STREAM, struct.pack(">II", stream, status))

    def _control(self, kind: Frame, body: bytes, *, flags: int = 0) -> None:
        self._out.append(_HEAD.pack(_CONTROL | _VERSION << 16 | kind, flags << 24 | len(body)) + body)


def _field(body: bytes, offset: int) -> int:
    """Read the 31-bit number at the offset."""
    if len(body) < offset + 4:
        raise SpdyError(f"control frame of {len(body)} bytes is too short")
    number: int = _WORD.unpack_from(body, offset)[0]
    return number & 0x7FFFFFFF
