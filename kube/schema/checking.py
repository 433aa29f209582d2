"""Checking an object against its type, as upstream's strict decoder does, with its words.

Owns unknown fields, wrong JSON types, number ranges, quantities, times and base64. Must not know the rules of a kind
("Required value", allowed values): those are validation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kube import quantity
from kube.schema.catalog import Shape, catalog, split_api_version

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BASE64_PREFIX = re.compile(r"[A-Za-z0-9+/\r\n]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_RANGE = {"int32": 2**31, "int64": 2**63}
_PLAIN: dict[str, type] = {"string": str, "boolean": bool}
_EMPTY: dict[str, Any] = {"string": "", "boolean": False, "integer": 0, "struct": {}}


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong with an object's form: `unknown` field paths, and the first `fault` in upstream's words."""

    kind: str
    version: str
    unknown: tuple[str, ...] = ()
    fault: str = ""

    def warnings(self) -> list[str]:
        """One line per unknown field, as `fieldValidation=Warn` sends them."""
        return [f'unknown field "{path}"' for path in self.unknown]

    def strict_error(self) -> str:
        """`strict decoding error: unknown field "spec.x", ...`, or ""."""
        return f"strict decoding error: {', '.join(self.warnings())}" if self.unknown else ""

    def message(self, *, strict: bool) -> str:
        """The text of the 400 answer, or "" when the object may pass; unknown fields count only if `strict`."""
        problem = self.fault or (self.strict_error() if strict else "")
        return f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {problem}' * bool(problem)


class _Fault(Exception):
    """Ends the walk at the first value of a wrong type."""


def check(api_version: str, kind: str, obj: Any, *, strict: bool = True, prune: bool = False) -> Report:
    """Compares `obj` with the type of its kind; without `strict` unknown fields are not collected.

    With `prune`, unknown fields and nulls are removed from `obj` in place, as upstream's decoder drops them.
    Raises UnknownKind for a kind the schemas do not have.
    """
    group, version = split_api_version(api_version)
    schemas = catalog()
    walk = _Walk(prune=prune)
    fault = ""
    try:
        walk.value(schemas.shape(schemas.definition(group, version, kind)), obj)
    except _Fault as error:
        fault = str(error)
    return Report(kind, version, tuple(walk.unknown) if strict else (), fault)


class _Walk:
    """One pass over an object. `path` and `owners` name the place only when something is wrong."""

    def __init__(self, *, prune: bool) -> None:
        self.unknown: list[str] = []
        self._prune = prune
        self._path: list[str | int] = []
        self._owners: list[str] = []

    def value(self, shape: Shape, value: Any) -> None:
        """Checks one value that is not null."""
        tag = shape.tag
        if tag == "struct":
            self._struct(shape, value)
        elif tag == "list":
            self._list(shape, value)
        elif tag == "map":
            self._map(shape, value)
        elif tag in _PLAIN:
            if type(value) is not _PLAIN[tag]:
                raise self._mismatch(shape, value)
        elif tag != "any":
            self._scalar(shape, value)

    def _struct(self, shape: Shape, value: Any) -> None:
        if not isinstance(value, dict):
            raise self._mismatch(shape, value)
        fields, dropped = shape.fields, []
        self._owners.append(shape.name)
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                self.unknown.append(self._place(key))
                dropped.append(key)
            elif item is None:
                dropped.append(key)
            else:
                self._path.append(key)
                self.value(field.shape, item)
                self._path.pop()
        self._owners.pop()
        if self._prune:
            for key in dropped:
                del value[key]

    def _list(self, shape: Shape, value: Any) -> None:
        item_shape = shape.item
        if not isinstance(value, list) or item_shape is None:
            raise self._mismatch(shape, value)
        for index, item in enumerate(value):
            if item is None:
                self._fill(value, index, item_shape)
                continue
            self._path.append(index)
            self.value(item_shape, item)
            self._path.pop()

    def _map(self, shape: Shape, value: Any) -> None:
        item_shape = shape.item
        if not isinstance(value, dict) or item_shape is None:
            raise self._mismatch(shape, value)
        for key, item in value.items():
            if item is None:
                self._fill(value, key, item_shape)
                continue
            self._path.append(f"\0{key}")
            self.value(item_shape, item)
            self._path.pop()

    def _fill(self, holder: Any, place: str | int, shape: Shape) -> None:
        """Null inside a list or map is the empty value of its type."""
        if self._prune and shape.tag in _EMPTY:
            empty = _EMPTY[shape.tag]
            holder[place] = {} if empty == {} else empty

    def _scalar(self, shape: Shape, value: Any) -> None:
        if shape.tag == "integer":
            self._integer(shape, value)
        elif shape.tag == "quantity":
            self._quantity(shape, value)
        elif shape.tag == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._mismatch(shape, value)
        elif shape.tag == "int-or-string":
            if not isinstance(value, str):
                self._int_of_int_or_string(value)
        elif not isinstance(value, str):
            raise self._mismatch(shape, value)
        elif shape.tag == "time":
            _check_time(value)
        else:
            _check_base64(value)

    def _integer(self, shape: Shape, value: Any) -> None:
        bound = _RANGE[shape.go]
        if type(value) is not int or not -bound <= value < bound:
            raise self._mismatch(shape, value)

    def _int_of_int_or_string(self, value: Any) -> None:
        if type(value) is not int or not -(2**31) <= value < 2**31:
            described = _described_for_integer(value)
            raise _Fault(f"json: cannot unmarshal {described} into Go value of type int32")

    def _quantity(self, shape: Shape, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._mismatch(shape, value)
        try:
            quantity.parse(value)
        except quantity.QuantityError as error:
            raise _Fault(str(error)) from None

    def _place(self, key: str) -> str:
        """`spec.containers[0].foo`."""
        text = ""
        for part in [*self._path, key]:
            text += f"[{part}]" if isinstance(part, int) else "." + part.lstrip("\0")
        return text[1:]

    def _mismatch(self, shape: Shape, value: Any) -> _Fault:
        """The decoder's words: the innermost struct, then the path of field names without indexes and map keys."""
        names = [part for part in self._path if isinstance(part, str) and part[:1] != "\0"]
        target = f"Go struct field {self._owners[-1]}.{'.'.join(names)}" if names else "Go value"
        described = _described_for_integer(value) if shape.tag == "integer" else _described(value)
        return _Fault(f"json: cannot unmarshal {described} into {target} of type {shape.go}")


def _described(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def _described_for_integer(value: Any) -> str:
    """A number that does not fit is quoted; only then."""
    described = _described(value)
    return f"number {value!r}" if described == "number" else described


def _check_time(value: str) -> None:
    if not _TIME.fullmatch(value):
        raise _Fault(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"')


def _check_base64(value: str) -> None:
    if _BASE64.fullmatch(value):
        return
    plain = value.replace("\r", "").replace("\n", "")
    if not _BASE64.fullmatch(plain):
        valid = _BASE64_PREFIX.match(value)
        raise _Fault(f"illegal base64 data at input byte {valid.end() if valid else 0}")
