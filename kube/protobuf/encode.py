"""Plain values to bytes: an object as its JSON says it, in Kubernetes' protobuf form.

Pure; knows the table of messages, no kind's rules. Maps are written in the order of their keys, so that equal objects
give equal bytes.
"""

import base64
import binascii
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from kube.protobuf import messages, wire
from kube.protobuf.decode import MAGIC
from kube.protobuf.messages import Field

Object = dict[str, Any]
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"


class Unencodable(ValueError):
    """An object that has no protobuf form: its kind has none, or it is not what its kind says."""


def encodable(api_version: str, kind: str) -> bool:
    """Whether objects of this kind have a protobuf form here."""
    return messages.name_of(api_version, kind) is not None or _item(api_version, kind) is not None


def encode(obj: Object) -> bytes:
    """The object in its envelope. Raises Unencodable."""
    meta = wire.bytes_field(1, obj["apiVersion"].encode()) + wire.bytes_field(2, obj["kind"].encode())
    return MAGIC + wire.bytes_field(1, meta) + wire.bytes_field(2, _raw(obj)) + b"\x1a\x00\x22\x00"


def watch_frame(kind: str, obj: Object) -> bytes:
    """One change of a watch: four bytes of length, then a bare WatchEvent around the object in its envelope."""
    event = wire.bytes_field(1, kind.encode()) + wire.bytes_field(2, wire.bytes_field(1, encode(obj)))
    return struct.pack(">I", len(event)) + event


def _raw(obj: Object) -> bytes:
    version, kind = obj["apiVersion"], obj["kind"]
    try:
        if (name := messages.name_of(version, kind)) is not None:
            return _message(name, obj)
        if (item := _item(version, kind)) is not None:
            parts = [wire.bytes_field(1, _message("meta.v1.ListMeta", obj.get("metadata") or {}))]
            parts += [wire.bytes_field(2, _message(item, value)) for value in obj.get("items") or []]
            return b"".join(parts)
    except (AttributeError, TypeError, ValueError, OverflowError, binascii.Error) as e:
        raise Unencodable(f"{version} {kind} is not what its type says: {e}") from e
    raise Unencodable(f"{version} {kind} has no protobuf form")


def _item(api_version: str, kind: str) -> str | None:
    """The message of the items of a list kind: all lists have the same form."""
    return messages.name_of(api_version, kind.removesuffix("List")) if kind.endswith("List") else None


def _message(name: str, obj: Object) -> bytes:
    return b"".join(part for number, field in messages.table()[name].items() for part in _field(number, field, obj))


def _field(number: int, field: Field, obj: Object) -> Iterator[bytes]:
    if not field.name:
        if inner := _message(field.kind, obj):
            yield wire.bytes_field(number, inner)
        return
    value = obj.get(field.name)
    if value is None:
        return
    if field.shape == "[":
        for item in value:
            yield _value(number, field.kind, item)
    elif field.shape == "{":
        for key in sorted(value):
            yield wire.bytes_field(number, wire.bytes_field(1, key.encode()) + _value(2, field.kind, value[key]))
    else:
        yield _value(number, field.kind, value)


def _value(number: int, kind: str, value: Any) -> bytes:
    if kind == "s":
        return wire.bytes_field(number, value.encode())
    if kind in ("i", "t"):
        return wire.number_field(number, value)
    if kind == "b":
        return wire.bytes_field(number, base64.b64decode(value, validate=True))
    if kind == "d":
        return wire.double_field(number, value)
    return wire.bytes_field(number, _special(kind, value) if len(kind) == 1 else _message(kind, value))


def _special(kind: str, value: Any) -> bytes:
    if kind == "Q":
        return wire.bytes_field(1, str(value).encode())
    if kind == "I":
        if isinstance(value, str):
            return wire.number_field(1, 1) + wire.number_field(2, 0) + wire.bytes_field(3, value.encode())
        return wire.number_field(1, 0) + wire.number_field(2, value) + wire.bytes_field(3, b"")
    if kind in "TU":
        return _time(value, micro=kind == "U")
    if kind == "L":
        return b"".join(wire.bytes_field(1, item.encode()) for item in value)
    return wire.bytes_field(1, orjson.dumps(value))


def _time(text: str, *, micro: bool) -> bytes:
    moment = datetime.fromisoformat(text)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return wire.number_field(1, seconds) + wire.number_field(2, moment.microsecond * 1000 if micro else 0)
