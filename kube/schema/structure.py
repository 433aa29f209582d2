"""How the fields of each kind are owned under server-side apply, read from the schemas.

Owns the choice between a whole and its parts (kube-openapi `schemaconv`). Must not know who owns what.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kube.schema.catalog import Field, Shape, catalog, split_api_version

_KEY_DEFAULTS = {"protocol": "TCP"}
"""Upstream's schemas give this key field of ports a default; no other key field has one that matters."""


class TypeStructure:
    """The `kube.patch.Structure` of one type."""

    __slots__ = ("_children", "_item", "_keys", "_shape", "tag")

    def __init__(self, tag: str, shape: Shape, keys: tuple[str, ...] = ()) -> None:
        self.tag = tag
        self._shape = shape
        self._keys = keys
        self._children: dict[str, TypeStructure] = {}
        self._item: TypeStructure | None = None

    def declares(self, name: str) -> bool:
        """Whether this is a struct with such a field."""
        return self.tag == "struct" and name in self._shape.fields

    def field(self, name: str) -> TypeStructure:
        """The structure of a field or of a map's value; what is not declared is taken by parts."""
        if self.tag == "map":
            return self.item()
        found = self._children.get(name)
        if found is None:
            field = self._shape.fields.get(name)
            if field is None:
                return _ANY
            found = self._children[name] = _of_field(field)
        return found

    def item(self) -> TypeStructure:
        """The structure of items and map values."""
        if self._item is None:
            self._item = _of_shape(self._shape.item) if self._shape.item is not None else _ANY
        return self._item

    def key(self, item: dict[str, Any]) -> dict[str, Any]:
        """The identifying fields of an item of a keyed list."""
        pairs = ((name, item.get(name, _KEY_DEFAULTS.get(name))) for name in self._keys)
        return {name: value for name, value in pairs if value is not None}


_ANY = TypeStructure("any", Shape("any", "interface {}"))


def structure(api_version: str, kind: str) -> TypeStructure:
    """The structure of a kind. Raises UnknownKind."""
    group, version = split_api_version(api_version)
    schemas = catalog()
    return _of_shape(schemas.shape(schemas.definition(group, version, kind)))


@cache
def _of_shape(shape: Shape) -> TypeStructure:
    """The structure of a type wherever it stands."""
    if shape.tag == "struct":
        return TypeStructure("leaf" if shape.atomic else "struct", shape)
    return TypeStructure(shape.tag if shape.tag in ("map", "any") else "leaf", shape)


def _of_field(field: Field) -> TypeStructure:
    if field.map_type == "atomic":
        return TypeStructure("leaf", field.shape)
    if field.shape.tag != "list":
        return _of_shape(field.shape)
    if field.list_type == "map":
        return TypeStructure("keyed", field.shape, field.list_map_keys)
    if field.list_type == "set":
        return TypeStructure("set", field.shape)
    if not field.list_type and "merge" in field.strategies:
        return TypeStructure("keyed" if field.merge_key else "set", field.shape, (field.merge_key,))
    return TypeStructure("leaf", field.shape)
