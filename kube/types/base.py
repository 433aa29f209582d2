"""The base of all projections: how attribute names become Kubernetes' field names.

Owns the naming rule and the decoding options. Must not know any kind.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")

_ACRONYMS = {
    "cidr": "CIDR",
    "cidrs": "CIDRs",
    "id": "ID",
    "ids": "IDs",
    "ip": "IP",
    "ipc": "IPC",
    "ips": "IPs",
    "pid": "PID",
    "uri": "URI",
    "uuid": "UUID",
    "wwns": "WWNs",
}


def wire_name(attribute: str) -> str:
    """The JSON name of an attribute: `pod_ip` -> `podIP`, `fs_group` -> `fsGroup`; a trailing `_` is dropped."""
    first, *rest = attribute.rstrip("_").split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class DecodeError(ValueError):
    """JSON that is not the kind asked for; the message names the kind, the path and the fault."""


class Projection(msgspec.Struct, rename=wire_name, omit_defaults=True, kw_only=True):
    """A view of an object with the fields we read; the rest is skipped. Never written back."""


def decode(raw: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """The object in `raw` as a `kind`; null stands for "absent" anywhere, as upstream reads it.

    Raises DecodeError naming the path and the fault.
    """
    try:
        return _decoder(cast(Any, kind)).decode(raw)  # type: ignore[no-any-return]
    except msgspec.ValidationError:
        return _decode_with_nulls(raw, kind)
    except msgspec.DecodeError as error:
        raise DecodeError(f"{kind.__name__}: {error}") from error


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _decode_with_nulls(raw: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """The slow way: upstream writes `endpoints: null` for an empty slice, which no tuple accepts."""
    try:
        return msgspec.convert(_without_nulls(msgspec.json.decode(raw)), kind)
    except msgspec.ValidationError as error:
        raise DecodeError(f"{kind.__name__}: {error}") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
