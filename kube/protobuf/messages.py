"""Which field has which number: the messages of the API's protobuf form, read once from `fields.txt`.

One line a message, `number:name:code` a field. An empty name means the fields of that message stand in ours (Go's
inline). Codes: s string, i integer, t boolean, d double, b bytes, Q quantity, I int-or-string, T time, U micro time,
F raw JSON, R raw object, L list in a message, or a message's name; before them * for a pointer and ! for a field that
JSON always shows (an empty value is kept), [ for a list, { for a map with string keys.
"""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple


class Field(NamedTuple):
    """One field: `kind` is a code without its prefix; `shape` is "" (plain), "!", "*", "[" or "{"."""

    name: str
    shape: str
    kind: str


ANY_VERSION = frozenset({"DeleteOptions", "PartialObjectMetadata", "PartialObjectMetadataList", "Status", "WatchEvent"})
Message = Mapping[int, Field]


@functools.cache
def table() -> Mapping[str, Message]:
    """Every message by name, such as "core.v1.Pod"."""
    text = resources.files(__package__).joinpath("fields.txt").read_text()
    found = {}
    for line in text.splitlines():
        name, *fields = line.split(" ")
        found[name] = dict(_field(item) for item in fields)
    return found


def name_of(api_version: str, kind: str) -> str | None:
    """The message of a kind, None when it is not known."""
    if kind in ANY_VERSION:
        return f"meta.v1.{kind}"
    group, _, version = api_version.rpartition("/")
    name = f"{group.partition('.')[0] or 'core'}.{version}.{kind}"
    return name if name in table() else None


def _field(text: str) -> tuple[int, Field]:
    number, name, code = text.split(":")
    shape = code[0] if code[0] in "!*[{" else ""
    return int(number), Field(name, shape, code[len(shape) :])
