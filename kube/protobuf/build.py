"""Builds `fields.txt` from texts given on the command line: dev only, nothing that runs imports it.

    python -m kube.protobuf.build FILE.proto FILE.go ...

Takes facts alone: from each `.proto` the numbers and types of fields, from Go sources the JSON names and what
encoding/json does with an empty value. Keeps the kinds of the scheme and what they reach, one message a line, sorted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kube import scheme

TARGET = Path(__file__).with_name("fields.txt")
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_EXTRA = ("DeleteOptions", "PartialObjectMetadata", "PartialObjectMetadataList", "Status", "WatchEvent")
_SCALARS = {"string": "s", "int32": "i", "int64": "i", "bool": "t", "double": "d", "bytes": "b"}
_SPECIAL = {
    "k8s.io.apimachinery.pkg.api.resource.Quantity": "Q",
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": "I",
    "k8s.io.apimachinery.pkg.runtime.RawExtension": "R",
    f"{_META}.Time": "T",
    f"{_META}.MicroTime": "U",
    f"{_META}.FieldsV1": "F",
}
_PACKAGE = re.compile(r"^package ([\w.]+)(?:;|$)", re.MULTILINE)
_MESSAGE = re.compile(r"^message (\w+) \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(
    r"^ +(optional|repeated|map<string, ([\w.]+)>)(?: ([\w.]+))? (\w+) = (\d+)(?: \[.*\])?;", re.MULTILINE
)
_STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
_GO_FIELD = re.compile(r"^\s+(?:\w+ )?([*\[\]\w.]+) `([^`]*)`", re.MULTILINE)


class GoField(NamedTuple):
    """What Go knows of a field: its JSON name ("" when inline), and when JSON leaves its empty value out."""

    name: str
    pointer: bool
    omitempty: bool
    omitzero: bool


class ProtoField(NamedTuple):
    """What the wire knows of a field."""

    number: int
    name: str
    label: str
    type: str


Messages = dict[str, list[ProtoField]]
Structs = dict[str, dict[int, GoField]]


def build(texts: Iterable[tuple[str, str]], *, kinds: Iterable[str]) -> str:
    """The text of `fields.txt`, from pairs of a .proto and its Go source: the same input always gives the same text.

    `kinds` are full names of messages; they and what they reach are kept.
    """
    messages: Messages = {}
    structs: Structs = {}
    for proto, source in texts:
        found = _messages(proto)
        messages |= found
        known = _structs(source)
        structs |= {name: known.get(name.rpartition(".")[2], {}) for name in found}
    lines: dict[str, str] = {}
    for root in kinds:
        _reach(root, messages, structs, lines)
    return "".join(f"{line}\n" for line in sorted(lines.values()))


def roots() -> Iterator[str]:
    """The messages of all kinds that are served or spoken."""
    spoken = ((r, scheme.subresource(r, name=name)) for r in scheme.RESOURCES for name in r.subresources)
    kinds = [(r.group, r.version, r.kind) for r in scheme.RESOURCES]
    kinds += [(s.group, s.version, s.kind) for _, s in spoken if s is not None and not s.kind.endswith("Options")]
    for group, version, kind in kinds:
        yield f"k8s.io.api.{group.partition('.')[0] or 'core'}.{version}.{kind}"
    yield from (f"{_META}.{kind}" for kind in _EXTRA)


def _messages(text: str) -> dict[str, list[ProtoField]]:
    """The messages of one .proto by full name, their types made full as well."""
    match = _PACKAGE.search(text)
    package = match[1] if match else ""
    found = {}
    for name, inside in _MESSAGE.findall(text):
        fields = []
        for label, value, type_, field, number in _FIELD.findall(inside):
            full = value or type_
            if full not in _SCALARS:
                full = full[1:] if full.startswith(".") else f"{package}.{full}"
            fields.append(ProtoField(int(number), field, "map" if value else label, full))
        found[f"{package}.{name}"] = fields
    return found


def _structs(text: str) -> Structs:
    """The structs of Go sources by name, their fields by number."""
    found: Structs = {}
    for name, inside in _STRUCT.findall(text):
        fields = found.setdefault(name, {})
        for type_, tags in _GO_FIELD.findall(inside):
            proto = re.search(r'protobuf:"\w+,(\d+)', tags)
            json = re.search(r'json:"([^",]*)((?:,\w+)*)"', tags)
            if proto and json:
                options = json[2].split(",")
                fields[int(proto[1])] = GoField(json[1], type_[0] == "*", "omitempty" in options, "omitzero" in options)
    return found


def _reach(name: str, messages: Messages, structs: Structs, lines: dict[str, str]) -> None:
    """Write the line of a message and of those it holds."""
    if name in lines:
        return
    codes = []
    lines[name] = ""
    for field in sorted(messages[name]):
        go = structs[name].get(field.number)
        if go is None:
            raise SystemExit(f"{name}: the Go source has no field {field.name}")
        kind = _kind(field.type, messages)
        codes.append(f" {field.number}:{go.name}:{_shape(field, go)}{kind}")
        if kind not in _SCALARS.values() and kind not in {*_SPECIAL.values(), "L"}:
            _reach(field.type, messages, structs, lines)
    lines[name] = _short(name) + "".join(codes)


def _kind(type_: str, messages: Messages) -> str:
    if type_ in _SCALARS:
        return _SCALARS[type_]
    if type_ in _SPECIAL:
        return _SPECIAL[type_]
    if [(field.label, field.name, field.type) for field in messages[type_]] == [("repeated", "items", "string")]:
        return "L"
    return _short(type_)


def _shape(field: ProtoField, go: GoField) -> str:
    if field.label != "optional":
        return "{" if field.label == "map" else "["
    if go.pointer:
        return "*"
    omitted = go.omitzero or (go.omitempty and field.type in _SCALARS)
    return "" if omitted or not go.name else "!"


def _short(name: str) -> str:
    return ".".join(name.split(".")[-3:])


def main(arguments: Sequence[str]) -> None:
    """Write the table; each .proto is followed by the Go sources of its package."""
    pairs: list[tuple[str, str]] = []
    for argument in arguments:
        text = Path(argument).read_text()
        if argument.endswith(".proto"):
            pairs.append((text, ""))
        elif pairs:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + text)
        else:
            raise SystemExit(f"{argument}: name the .proto of its package first")
    if not pairs:
        raise SystemExit(__doc__)
    TARGET.write_text(build(pairs, kinds=roots()))


if __name__ == "__main__":
    main(sys.argv[1:])
