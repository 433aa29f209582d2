"""Bytes to plain values: what Kubernetes wraps around a message, and the message as its JSON would be.

Fields with empty values are absent where Go's JSON leaves them out. Pure; knows the table of messages, no kind's rules.
"""

import base64
from datetime import UTC, datetime
from typing import Any

import orjson

from kube.protobuf import messages, wire
from kube.protobuf.messages import Field, Message
from kube.protobuf.wire import Malformed

Object = dict[str, Any]
MAGIC = b"k8s\x00"
MAX_DEPTH = 100
GO_ZERO = -62_135_596_800  # seconds of the first moment of year 1: a time that is not set
_EMPTY: tuple[Any, ...] = ("", 0, False, None, {})


def decode(data: bytes) -> Object:
    """The object in an envelope: `k8s\\0`, then a runtime.Unknown with type and raw bytes. Raises Malformed."""
    if not data.startswith(MAGIC):
        raise Malformed("the body does not start with the protobuf prefix of Kubernetes")
    api_version = kind = ""
    raw = b""
    for number, value in wire.fields(data[len(MAGIC) :]):
        if number == 1:
            meta = dict(wire.fields(wire.opaque(value)))
            api_version, kind = wire.text(meta.get(1, b"")), wire.text(meta.get(2, b""))
        elif number == 2:
            raw = wire.opaque(value)
        elif number == 3 and value:
            raise Malformed(f"content encoding {wire.text(value)!r} is not read")
    name = messages.name_of(api_version, kind)
    if name is None:
        raise Malformed(f"{api_version} {kind} is not known in protobuf")
    return {"kind": kind, "apiVersion": api_version, **_message(messages.table()[name], raw, 0)}


def _message(fields: Message, data: bytes, depth: int) -> Object:
    if depth > MAX_DEPTH:
        raise Malformed("messages are nested too deeply")
    found: Object = {}
    for number, raw in wire.fields(data):
        field = fields.get(number)
        if field is None:
            continue  # a field of another release
        if field.kind == "s" and field.shape in ("", "!", "*"):  # more than half of all fields
            if raw or field.shape:
                found[field.name] = wire.text(raw)
        elif field.shape == "{":
            key, value = _pair(field.kind, wire.opaque(raw), depth)
            found.setdefault(field.name, {})[key] = value
        elif field.shape == "[":
            found.setdefault(field.name, []).extend(_items(field, raw, depth))
        elif not field.name:
            found |= _value(field.kind, raw, depth)
        else:
            value = _value(field.kind, raw, depth)
            if field.shape or value not in _EMPTY:
                found[field.name] = value
    return found


def _items(field: Field, raw: int | bytes, depth: int) -> list[Any]:
    """One item of a list, or several numbers packed into one field."""
    if field.kind in ("i", "t") and isinstance(raw, bytes):
        return [_value(field.kind, number, depth) for number in wire.packed(raw)]
    return [_value(field.kind, raw, depth)]


def _pair(kind: str, data: bytes, depth: int) -> tuple[str, Any]:
    parts = dict(wire.fields(data))
    empty: int | bytes = 0 if kind in "it" else b""
    return wire.text(parts.get(1, b"")), _value(kind, parts.get(2, empty), depth)


def _value(kind: str, raw: int | bytes, depth: int) -> Any:
    if kind == "s":
        return wire.text(raw)
    if kind == "i":
        return wire.signed(raw)
    if kind == "t":
        return bool(wire.signed(raw))
    if kind == "b":
        return base64.b64encode(wire.opaque(raw)).decode()
    if kind == "d":
        return wire.double(raw)
    if len(kind) == 1:
        return _special(kind, wire.opaque(raw))
    return _message(messages.table()[kind], wire.opaque(raw), depth + 1)


def _special(kind: str, raw: bytes) -> Any:
    if kind == "L":
        return [wire.text(value) for number, value in wire.fields(raw) if number == 1]
    parts = dict(wire.fields(raw))
    if kind == "Q":
        return wire.text(parts.get(1, b"0")) or "0"
    if kind == "I":
        return wire.text(parts.get(3, b"")) if parts.get(1) else wire.signed(parts.get(2, 0))
    if kind in "TU":
        return _time(parts, micro=kind == "U")
    return _embedded(wire.opaque(parts.get(1, b"")))


def _embedded(data: bytes) -> Any:
    if data.startswith(MAGIC):
        return decode(data)
    try:
        return orjson.loads(data) if data else None
    except orjson.JSONDecodeError as e:
        raise Malformed(f"embedded JSON: {e}") from e


def _time(parts: dict[int, int | bytes], *, micro: bool) -> str | None:
    seconds, nanos = wire.signed(parts.get(1, 0)), wire.signed(parts.get(2, 0))
    if not parts or (seconds, nanos) == (GO_ZERO, 0):
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as e:
        raise Malformed(f"a time is out of range: {seconds}") from e
    text = f"{moment.year:04}" + moment.strftime("-%m-%dT%H:%M:%S")
    return f"{text}.{nanos // 1000 % 1_000_000:06d}Z" if micro else f"{text}Z"
