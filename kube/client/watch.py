"""Reading a watch: from chunks of bytes to events whose objects are not decoded yet.

Owns framing and the end of a watch. Must not know types, caches or retries.
"""

from collections.abc import AsyncGenerator, Mapping

import msgspec

from kube import status
from kube.client.errors import Unreachable
from kube.client.transport import StreamResponse, Transport

MAX_EVENT_BYTES = 16 << 20


class WatchEvent(msgspec.Struct, frozen=True):
    """One event: ADDED, MODIFIED, DELETED or BOOKMARK, and the object as JSON (decode it into what you need)."""

    type: str
    raw: msgspec.Raw = msgspec.field(name="object")


Batches = AsyncGenerator[list[WatchEvent], None]

_EVENTS = msgspec.json.Decoder(WatchEvent)


async def batches(
    transport: Transport,
    path: str,
    *,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    timeout: float,
) -> Batches:
    """All whole events of each chunk, after an empty list once the server accepted the watch.

    Returns when the server ends the watch, raises ApiError on an ERROR event.
    """
    async with transport.stream("GET", path, params=params, headers=headers, timeout=timeout) as answer:
        if answer.status >= 300:
            raise status.from_body(answer.status, await _whole(answer))
        yield []
        rest = b""
        async for chunk in answer.chunks:
            head, newline, tail = chunk.rpartition(b"\n")
            if not newline:
                rest += tail
                if len(rest) > MAX_EVENT_BYTES:
                    raise Unreachable(transport.server, f"an event of {path} has more than {MAX_EVENT_BYTES} bytes")
                continue
            lines, rest = (rest + head if rest else head), tail
            yield decode(lines, server=transport.server)
        if rest.strip():
            yield decode(rest, server=transport.server)


def decode(lines: bytes, *, server: str = "the server") -> list[WatchEvent]:
    """The events of whole lines; ApiError for the first ERROR event, Unreachable for what is no event."""
    try:
        events = _EVENTS.decode_lines(lines)
    except msgspec.DecodeError as error:
        raise Unreachable(server, f"it sent what is no watch event: {error}") from error
    for event in events:
        if event.type == "ERROR":
            raise status.from_body(_code(event.raw), bytes(event.raw))
    return events


class _Code(msgspec.Struct, frozen=True):
    code: int = 500


def _code(raw: msgspec.Raw) -> int:
    try:
        return msgspec.json.decode(raw, type=_Code).code
    except msgspec.DecodeError:
        return 500


async def _whole(answer: StreamResponse) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks])
