"""The catalogue of type definitions: read lazily, kept small.

Owns `definitions.json` in memory (one line of bytes per definition until somebody asks for it) and the compiled
shapes. Must not know what they are used for: checking, merging and OpenAPI stand on top of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kube.schema import gonames

_GVK = re.compile(rb'\{"group":"([^"]*)","kind":"([^"]*)","version":"([^"]*)"\}\]\}$')
_LINE = re.compile(rb'^"([^"]+)":(\{.*\}),?$', re.MULTILINE)
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ("quantity", "resource.Quantity"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": ("any", "v1.FieldsV1"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": ("time", "v1.MicroTime"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": ("time", "v1.Time"),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": ("any", "runtime.RawExtension"),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ("int-or-string", "intstr.IntOrString"),
}
_SCALARS = {"string": "string", "boolean": "bool", "number": "float64"}


class UnknownKind(LookupError):
    """A kind or definition the catalogue does not have."""


class Shape:
    """What a value must look like: a `tag`, upstream's Go name for it, and what lies inside.

    Tags: struct, map, list, string, bytes, integer, number, boolean, time, quantity, int-or-string, any.
    """

    __slots__ = ("_atomic", "_catalog", "_definition", "_fields", "go", "item", "name", "tag")

    def __init__(self, tag: str, go: str, *, item: Shape | None = None) -> None:
        self.tag = tag
        self.go = go
        self.item = item
        self.name = ""
        self._catalog: Catalog | None = None
        self._definition = ""
        self._fields: dict[str, Field] | None = None
        self._atomic: bool | None = None

    @classmethod
    def struct(cls, catalog: Catalog, definition: str) -> Shape:
        """A struct whose fields are compiled when first asked for."""
        version, name = definition.split(".")[-2:]
        shape = cls("struct", f"{version}.{name}")
        shape.name, shape._catalog, shape._definition = name, catalog, definition
        return shape

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields of a struct by JSON name; empty for everything else."""
        if self._fields is None:
            self._fields = self._catalog.fields(self._definition) if self._catalog else {}
        return self._fields

    @property
    def atomic(self) -> bool:
        """Whether a struct is owned as a whole, wherever it stands."""
        if self._atomic is None:
            raw = self._catalog.raw(self._definition) if self._catalog else {}
            self._atomic = raw.get("x-kubernetes-map-type") == "atomic"
        return self._atomic


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct: its shape, and how lists and maps in it merge."""

    shape: Shape
    strategies: tuple[str, ...] = ()
    merge_key: str = ""
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    map_type: str = ""


class Catalog:
    """All definitions by full name, such as `io.k8s.api.core.v1.PodSpec`."""

    def __init__(self, text: bytes) -> None:
        self._lines = {match[1].decode(): match[2] for match in _LINE.finditer(text)}
        self._shapes: dict[str, Shape] = {}
        self._kinds: dict[tuple[str, str, str], str] = {}
        for name, line in self._lines.items():
            if match := _GVK.search(line):
                group, kind, version = (part.decode() for part in match.groups())
                self._kinds[group, version, kind] = name

    def names(self) -> list[str]:
        """Every definition, sorted."""
        return sorted(self._lines)

    def raw(self, name: str) -> dict[str, Any]:
        """The reduced JSON schema of one definition, parsed afresh. Raises UnknownKind."""
        if name not in self._lines:
            raise UnknownKind(f"no schema definition {name}")
        definition: dict[str, Any] = json.loads(self._lines[name])
        return definition

    def definition(self, group: str, version: str, kind: str) -> str:
        """The definition of a kind. Raises UnknownKind."""
        try:
            return self._kinds[group, version, kind]
        except KeyError:
            raise UnknownKind(f'no kind "{kind}" in version "{group}/{version}"'.replace('"/', '"')) from None

    def shape(self, name: str) -> Shape:
        """The compiled shape of a definition."""
        if name not in self._shapes:
            tag, go = _SPECIAL.get(name, ("struct", ""))
            self._shapes[name] = Shape(tag, go) if go else Shape.struct(self, name)
        return self._shapes[name]

    def fields(self, name: str) -> dict[str, Field]:
        """The compiled fields of a definition."""
        return {key: self._field(schema) for key, schema in self.raw(name).get("properties", {}).items()}

    def _field(self, schema: Mapping[str, Any]) -> Field:
        strategy = schema.get("x-kubernetes-patch-strategy", "")
        return Field(
            self._shape_of(schema),
            strategies=tuple(strategy.split(",")) if strategy else (),
            merge_key=schema.get("x-kubernetes-patch-merge-key", ""),
            list_type=schema.get("x-kubernetes-list-type", ""),
            list_map_keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
            map_type=schema.get("x-kubernetes-map-type", ""),
        )

    def _shape_of(self, schema: Mapping[str, Any]) -> Shape:
        if "$ref" in schema:
            return self.shape(schema["$ref"])
        kind, form = schema.get("type"), schema.get("format", "")
        if kind == "array":
            item = self._shape_of(schema["items"])
            return Shape("list", f"[]{item.go}", item=item)
        if kind == "object" and "additionalProperties" in schema:
            item = self._shape_of(schema["additionalProperties"])
            return Shape("map", gonames.map_of(item.go), item=item)
        if kind == "integer":
            return _scalar("integer", form or "int64")
        if kind == "string" and form == "byte":
            return _scalar("bytes", "[]uint8")
        return _scalar(kind, _SCALARS[kind]) if kind in _SCALARS else _scalar("any", "interface {}")


@cache
def _scalar(tag: str, go: str) -> Shape:
    return Shape(tag, go)


def _data() -> bytes:
    return Path(__file__).with_name("definitions.json").read_bytes()


@cache
def catalog() -> Catalog:
    """The catalogue of this build, loaded once per process."""
    return Catalog(_data())


def split_api_version(api_version: str) -> tuple[str, str]:
    """(group, version) of "apps/v1" or "v1"."""
    group, _, version = api_version.rpartition("/")
    return group, version


@cache
def revision() -> str:
    """A digest of the schema data: changes when any OpenAPI document may change."""
    digest = hashlib.sha256(_data())
    digest.update(Path(__file__).with_name("descriptions.yaml").read_bytes())
    return digest.hexdigest().upper()
