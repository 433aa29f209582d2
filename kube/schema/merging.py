"""How the fields of each kind merge under a strategic merge patch, read from the schemas."""

from __future__ import annotations

from kube.patch import FieldRule
from kube.schema.catalog import Shape, catalog, split_api_version


class TypeRules:
    """The `kube.patch.MergeRules` of one struct; for anything else every field is plain."""

    __slots__ = ("_shape",)

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def field(self, name: str) -> FieldRule:
        """The rule of one field; unknown fields merge as plain maps and replace as lists."""
        if self._shape.tag == "map" and self._shape.item is not None:
            return FieldRule(TypeRules(self._shape.item))
        field = self._shape.fields.get(name)
        if field is None:
            return FieldRule(_PLAIN)
        below = field.shape
        if below.tag == "list" and below.item is not None:
            below = below.item
        return FieldRule(
            TypeRules(below),
            merge="merge" in field.strategies,
            replace="replace" in field.strategies,
            merge_key=field.merge_key,
        )


_PLAIN = TypeRules(Shape("any", "interface {}"))


def merge_rules(api_version: str, kind: str) -> TypeRules:
    """The rules of a kind, for `kube.patch.strategic_merge`. Raises UnknownKind."""
    group, version = split_api_version(api_version)
    schemas = catalog()
    return TypeRules(schemas.shape(schemas.definition(group, version, kind)))
