"""The wire format, and what Kubernetes wraps around it. Pure: bytes in, plain values out.

A message becomes what its JSON would be: fields with empty values are absent unless Go keeps a pointer to them.
"""

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from kube.protobuf import messages

Object = dict[str, Any]
MAGIC = b"k8s\x00"
MAX_DEPTH = 100
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are not what they should be; the text says what."""


def decode(data: bytes) -> Object:
    """The object in an envelope: `k8s\\0`, then a runtime.Unknown with type and raw bytes. Raises Malformed."""
    if not data.startswith(MAGIC):
        raise Malformed("the body does not start with the protobuf prefix of Kubernetes")
    api_version = kind = ""
    raw = b""
    try:
        for number, value in _wire(data[len(MAGIC) :]):
            if number == 1:
                meta = dict(_wire(_bytes(value)))
                api_version, kind = _text(meta.get(1, b"")), _text(meta.get(2, b""))
            elif number == 2:
                raw = _bytes(value)
            elif number == 3 and value:
                raise Malformed(f"content encoding {_text(value)!r} is not read")
        name = messages.name_of(api_version, kind)
        if name is None:
            raise Malformed(f"{api_version} {kind} is not known in protobuf")
        obj = _message(name, raw, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as e:
        raise Malformed(f"the body is cut short or damaged: {e}") from e
    return {"kind": kind, "apiVersion": api_version, **obj}


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number and raw value."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif kind == BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise Malformed("a field is longer than its message")
            yield number, data[at : at + size]
            at += size
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
            if at + size > end:
                raise Malformed("a field is longer than its message")
            yield number, data[at : at + size]
            at += size
        else:
            raise Malformed(f"wire type {kind} is not used by Kubernetes")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise Malformed("a number is too long")


def _message(name: str, data: bytes, depth: int) -> Object:
    if depth > MAX_DEPTH:
        raise Malformed("messages are nested too deeply")
    fields = messages.table()[name]
    found: Object = {}
    for number, raw in _wire(data):
        field = fields.get(number)
        if field is None:
            continue  # a field of a newer release
        if field.shape == "{":
            key, value = _pair(field.kind, _bytes(raw), depth)
            found.setdefault(field.name, {})[key] = value
            continue
        value = _value(field.kind, raw, depth)
        if field.shape == "[":
            found.setdefault(field.name, []).append(value)
        elif not field.name:
            found |= value
        elif field.shape == "*" or value not in ("", 0, False, None, {}):
            found[field.name] = value
    return found


def _pair(kind: str, data: bytes, depth: int) -> tuple[str, Any]:
    parts = dict(_wire(data))
    empty: int | bytes = 0 if kind in "it" else b""
    return _text(parts.get(1, b"")), _value(kind, parts.get(2, empty), depth)


def _value(kind: str, raw: int | bytes, depth: int) -> Any:
    if kind == "s":
        return _text(raw)
    if kind == "i":
        return _signed(raw)
    if kind == "t":
        return bool(raw)
    if kind == "b":
        return base64.b64encode(_bytes(raw)).decode()
    if kind == "d":
        return struct.unpack("<d", _bytes(raw))[0]
    if len(kind) == 1:
        return _special(kind, dict(_wire(_bytes(raw))), _bytes(raw))
    return _message(kind, _bytes(raw), depth + 1)


def _special(kind: str, parts: dict[int, int | bytes], raw: bytes) -> Any:
    if kind == "Q":
        return _text(parts.get(1, b"0")) or "0"
    if kind == "I":
        return _text(parts.get(3, b"")) if parts.get(1) else _signed(parts.get(2, 0))
    if kind in "TU":
        return _time(parts, micro=kind == "U")
    if kind == "D":
        return f"{_signed(parts.get(1, 0)) / 1e9:g}s"
    if kind == "L":
        return [_text(value) for number, value in _wire(raw) if number == 1]
    text = _bytes(parts.get(1, b""))
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError as e:
        raise Malformed(f"embedded JSON: {e}") from e


def _time(parts: dict[int, int | bytes], *, micro: bool) -> str | None:
    seconds, nanos = _signed(parts.get(1, 0)), _signed(parts.get(2, 0))
    if not parts:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as e:
        raise Malformed(f"a time is out of range: {seconds}") from e
    if moment.year <= 1:
        return None  # Go's zero time
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{nanos // 1000:06d}Z" if micro else "Z")


def _signed(raw: int | bytes) -> int:
    if isinstance(raw, bytes):
        raise Malformed("a number was expected")
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise Malformed("bytes were expected, found a number")
    return raw


def _text(raw: int | bytes) -> str:
    return _bytes(raw).decode()
