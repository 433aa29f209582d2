"""The wire format of protocol buffers: fields out of bytes, and bytes of fields. Knows no message."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}


class Malformed(ValueError):
    """Bytes that are not what they should be; the text says what."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number and raw value. Raises Malformed."""
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        at += 1
        if key > 0x7F:
            key, at = _varint(data, at - 1)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            if at < end and data[at] < 0x80:  # nearly all are that short
                size = data[at]
                at += 1
            else:
                size, at = _varint(data, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise Malformed(f"wire type {kind} is not used by Kubernetes")
        if at + size > end:
            raise Malformed("a field is longer than its message")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data):
            raise Malformed("the message ends within a number")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise Malformed("a number is too long")


def packed(data: bytes) -> Iterator[int]:
    """The numbers of a packed list."""
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def signed(raw: int | bytes) -> int:
    """A number as two's complement of 64 bits, as all of Kubernetes' numbers are."""
    if isinstance(raw, bytes):
        raise Malformed("a number was expected")
    raw &= (1 << 64) - 1
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def opaque(raw: int | bytes) -> bytes:
    """Bytes, text or a message."""
    if isinstance(raw, int):
        raise Malformed("bytes were expected, found a number")
    return raw


def text(raw: int | bytes) -> str:
    """UTF-8."""
    try:
        return opaque(raw).decode()
    except UnicodeDecodeError as e:
        raise Malformed(f"a text is no UTF-8: {e}") from e


def double(raw: int | bytes) -> float:
    """A floating point number."""
    if len(opaque(raw)) != _SIZES[FIXED64]:
        raise Malformed("a floating point number was expected")
    return float(struct.unpack("<d", opaque(raw))[0])


# --- writing ---------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """A number; negative ones take ten bytes."""
    number &= (1 << 64) - 1
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def number_field(number: int, value: int) -> bytes:
    """A field that is a number or a boolean."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that is bytes, text or a message."""
    return b"%s%s%s" % (varint(number << 3 | BYTES), varint(len(value)), value)


def double_field(number: int, value: float) -> bytes:
    """A field that is a floating point number."""
    return varint(number << 3 | FIXED64) + struct.pack("<d", value)
