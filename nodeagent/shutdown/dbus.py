"""The little of D-Bus that an inhibitor needs: messages of strings, to bytes and back. PURE.

Owns marshalling of headers and of bodies made of strings, booleans and whole numbers, little-endian. Must not know
sockets or services. Follows the D-Bus specification, version 1 of the protocol.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any, Final

from nodeagent import errors

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE, UNIX_FDS = range(1, 10)
HEAD_BYTES: Final = 16
MAX_BYTES: Final = 1 << 20
_FIXED: Final = {
    "y": ("B", 1),
    "b": ("I", 4),
    "u": ("I", 4),
    "i": ("i", 4),
    "h": ("I", 4),
    "t": ("Q", 8),
    "x": ("q", 8),
}


class BusError(errors.NodeagentError):
    """The bus said no, or what cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message that came; `fields` are its header's by number, `body` its values in order."""

    kind: int
    serial: int
    fields: dict[int, Any]
    body: tuple[Any, ...] = ()


def call(
    serial: int, *, destination: str, path: str, interface: str, member: str, strings: Sequence[str] = ()
) -> bytes:
    """A method call with strings as arguments."""
    body = bytearray()
    for text in strings:
        _string(body, text)
    fields = bytearray()
    named = [(PATH, "o", path), (DESTINATION, "s", destination), (INTERFACE, "s", interface), (MEMBER, "s", member)]
    for number, kind, text in named:
        _field(fields, number, kind)
        _string(fields, text)
    if strings:
        _field(fields, SIGNATURE, "g")
        _signature(fields, "s" * len(strings))
    head = struct.pack("<cBBBIII", b"l", CALL, 0, 1, len(body), serial, len(fields))
    return _padded(head + bytes(fields), 8) + bytes(body)


def size(head: bytes) -> int:
    """How long the message is whose first 16 bytes these are. Raises BusError."""
    if head[:1] != b"l":
        raise BusError("the bus does not speak as this machine does")
    body, fields = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<I", head, 12)[0]
    whole: int = HEAD_BYTES + (fields + 7) // 8 * 8 + body
    if whole > MAX_BYTES:
        raise BusError(f"a message of {whole} bytes is too long")
    return whole


def read(data: bytes) -> Message:
    """One whole message. Raises BusError."""
    try:
        _, kind, _, _, _, serial, length = struct.unpack_from("<cBBBIII", data)
        reader = _Reader(data[: HEAD_BYTES + length], HEAD_BYTES)
        fields: dict[int, Any] = {}
        while reader.position < HEAD_BYTES + length:
            reader.align(8)
            number = reader.value("y")
            fields[number] = reader.variant()
        body = _Reader(data, (HEAD_BYTES + length + 7) // 8 * 8)
        values = tuple(body.value(kind_of) for kind_of in _kinds(fields.get(SIGNATURE, "")))
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise BusError(f"a message of the bus cannot be read: {e}") from e
    return Message(kind=kind, serial=serial, fields=fields, body=values)


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self._data, self.position = data, position

    def align(self, to: int) -> None:
        self.position = (self.position + to - 1) // to * to

    def value(self, kind: str) -> Any:
        if kind == "v":
            return self.variant()
        if kind in _FIXED:
            code, width = _FIXED[kind]
            self.align(width)
            (found,) = struct.unpack_from("<" + code, self._data, self.position)
            self.position += width
            return bool(found) if kind == "b" else found
        if kind in ("s", "o", "g"):
            count = self.value("y" if kind == "g" else "u")
            found = self._data[self.position : self.position + count].decode()
            self.position += count + 1
            return found
        raise BusError(f"values of the kind {kind!r} are not read here")

    def variant(self) -> Any:
        return self.value(self.value("g"))


def _kinds(signature: str) -> str:
    """The kinds of a body's values, one letter each; what follows a kind that is not read here is left out."""
    known = {*_FIXED, "s", "o", "g", "v"}
    end = next((n for n, letter in enumerate(signature) if letter not in known), len(signature))
    return signature[:end]


def _field(out: bytearray, number: int, kind: str) -> None:
    _pad(out, 8)
    out.append(number)
    _signature(out, kind)


def _signature(out: bytearray, text: str) -> None:
    out += bytes([len(text)]) + text.encode() + b"\0"


def _string(out: bytearray, text: str) -> None:
    _pad(out, 4)
    data = text.encode()
    out += struct.pack("<I", len(data)) + data + b"\0"


def _pad(out: bytearray, to: int) -> None:
    out += bytes(-len(out) % to)


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)
