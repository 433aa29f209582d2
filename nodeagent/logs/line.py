"""Lines of container logs as CRI runtimes write them. PURE.

Owns the format `<RFC 3339 time> <stdout|stderr> <tags> <text>`, where tag P marks a piece of a line that goes on.
Must not know files.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One record. `text` ends with a line break unless the line goes on."""

    time: bytes
    stream: bytes
    text: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a reader of logs wants."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit: int | None = None
    since: bytes = b""
    """A time as `sortable` makes it; records before it are left out."""
    stream: bytes = b""
    """`stdout` or `stderr`; empty means both."""


class QueryError(ValueError):
    """A parameter that cannot be used; the message names it."""


def parse(raw: bytes) -> Entry | None:
    """Take one record, without its line break, apart; None when it is none (a write that was cut, say)."""
    time, first, rest = raw.partition(b" ")
    stream, second, rest = rest.partition(b" ")
    tags, third, text = rest.partition(b" ")
    if not (first and second and third) or stream not in (b"stdout", b"stderr"):
        return None
    goes_on = tags == b"P" or tags.startswith(b"P:")
    return Entry(time, stream, text if goes_on else text + b"\n")


def sortable(time: bytes) -> bytes:
    """A record's time in a form whose order as bytes is the order in time: UTC, nine digits of fraction."""
    try:
        if time.endswith(b"Z"):
            whole, _, fraction = time[:-1].partition(b".")
        else:  # runtimes write the node's local time: 2026-11-23T16:00:00.123456789+01:00
            moment = datetime.fromisoformat(time[:19].decode() + time[-6:].decode()).astimezone(UTC)
            whole = f"{moment:%Y-%m-%dT%H:%M:%S}".encode()
            fraction = time[19:-6].removeprefix(b".")
    except ValueError:
        return b""
    return whole + b"." + fraction.ljust(9, b"0")


def at(moment: datetime) -> bytes:
    """A moment in the form of `sortable`."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000".encode()


def render(entry: Entry, *, timestamps: bool) -> bytes:
    """The bytes a reader gets."""
    return entry.time + b" " + entry.text if timestamps else entry.text


def query(parameters: dict[str, str], *, now: datetime) -> Query:
    """Read the query of a log request. Raises QueryError with upstream's kind of message."""
    since = b""
    if parameters.get("sinceSeconds") and parameters.get("sinceTime"):
        raise QueryError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if parameters.get("sinceSeconds"):
        seconds = _number(parameters, "sinceSeconds", least=1)
        since = at(now - timedelta(seconds=seconds or 0))
    if parameters.get("sinceTime"):
        since = sortable(parameters["sinceTime"].encode())
        if not since:
            raise QueryError(f"sinceTime: {parameters['sinceTime']!r} is not an RFC 3339 time")
    stream = parameters.get("stream", "All") or "All"
    if stream not in ("All", "Stdout", "Stderr"):
        raise QueryError(f'stream: Unsupported value: "{stream}": supported values: "All", "Stdout", "Stderr"')
    return Query(
        follow=_flag(parameters, "follow"),
        timestamps=_flag(parameters, "timestamps"),
        tail=_number(parameters, "tailLines", least=0),
        limit=_number(parameters, "limitBytes", least=1),
        since=since,
        stream=b"" if stream == "All" else stream.lower().encode(),
    )


def _flag(parameters: dict[str, str], name: str) -> bool:
    value = parameters.get(name, "false")
    if value not in ("true", "false", "1", "0", ""):
        raise QueryError(f"{name}: {value!r} is not a boolean")
    return value in ("true", "1", "")


def _number(parameters: dict[str, str], name: str, *, least: int) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    try:
        number = int(text)
    except ValueError as e:
        raise QueryError(f"{name}: {text!r} is not a number") from e
    if number < least:
        raise QueryError(f"{name}: must be greater than or equal to {least}")
    return number
