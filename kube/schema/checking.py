"""Checking an object against its type, as upstream's strict decoder does, with its words.

Owns unknown fields, wrong JSON types, number ranges, quantities, times and base64. Must not know the rules of a kind
("Required value", allowed values): those are validation.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

from kube import quantity
from kube.schema import gonames, times
from kube.schema.catalog import Shape, catalog, split_api_version

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BASE64_PREFIX = re.compile(r"[A-Za-z0-9+/\r\n]*")
_RANGE = {"int32": 2**31, "int64": 2**63}
_PLAIN: dict[str, type] = {"string": str, "boolean": bool}
"""Shapes that any value of one Python type fulfils."""
_EMPTY: dict[str, Any] = {"string": "", "boolean": False, "integer": 0, "quantity": "0", "struct": {}}


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

    With `prune`, `obj` becomes in place what upstream's decoder keeps: without unknown fields and nulls, quantities
    and times in their canonical form.
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

    def value(self, shape: Shape, value: Any) -> Any:
        """Checks one value that is not null; the value as it is to be kept."""
        tag = shape.tag
        if tag == "struct":
            self._struct(shape, value)
        elif tag == "list":
            self._list(shape, value)
        elif tag == "map":
            self._map(shape, value)
        elif tag in _PLAIN:
            if type(value) is not _PLAIN[tag]:
                raise self._mismatch(shape.go, value)
        elif tag != "any":
            return self._scalar(shape, value)
        return value

    def _struct(self, shape: Shape, value: Any) -> None:
        if not isinstance(value, dict):
            raise self._mismatch(shape.go, value)
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
                self._inside(value, key, field.shape, item, step=key)
        self._owners.pop()
        if self._prune:
            for key in dropped:
                del value[key]

    def _list(self, shape: Shape, value: Any) -> None:
        if not isinstance(value, list) or shape.item is None:
            raise self._mismatch(shape.go, value)
        for index, item in enumerate(value):
            self._inside(value, index, shape.item, item, step=index)

    def _map(self, shape: Shape, value: Any) -> None:
        if not isinstance(value, dict) or shape.item is None:
            raise self._mismatch(shape.go, value)
        for key, item in value.items():
            self._inside(value, key, shape.item, item, step=f"\0{key}")

    def _inside(self, holder: Any, at: str | int, shape: Shape, item: Any, *, step: str | int) -> None:
        """One item of a container; null is the empty value of its type."""
        if type(item) is _PLAIN.get(shape.tag):
            return
        if item is None:
            kept = copy.copy(_EMPTY.get(shape.tag))
        else:
            self._path.append(step)
            kept = self.value(shape, item)
            self._path.pop()
        if self._prune and kept is not item:
            holder[at] = kept

    def _scalar(self, shape: Shape, value: Any) -> Any:
        if shape.tag == "integer":
            self._integer(shape.go, value)
        elif shape.tag == "quantity":
            return _canonical_quantity(value)
        elif shape.tag == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._mismatch(shape.go, value)
        elif shape.tag == "int-or-string":
            if not isinstance(value, str):
                self._integer("int32", value)
        elif not isinstance(value, str):
            raise self._mismatch("string" if shape.tag == "time" else shape.go, value)
        elif shape.tag == "time":
            return _canonical_time(value, micro=shape.go == "v1.MicroTime")
        else:
            _check_base64(value)
        return value

    def _integer(self, go: str, value: Any) -> None:
        bound = _RANGE[go]
        if type(value) is not int or not -bound <= value < bound:
            raise self._mismatch(go, value)

    def _place(self, key: str) -> str:
        """`spec.containers[0].foo`."""
        text = ""
        for part in [*self._path, key]:
            text += f"[{part}]" if isinstance(part, int) else "." + part.lstrip("\0")
        return text[1:]

    def _mismatch(self, go: str, value: Any) -> _Fault:
        """The decoder's words: the innermost struct, then the path of field names without indexes and map keys."""
        names = [part for part in self._path if isinstance(part, str) and part[:1] != "\0"]
        place = ".".join(map(gonames.path, self._owners, names))
        target = f"Go struct field {self._owners[-1]}.{place}" if names else "Go value"
        return _Fault(f"json: cannot unmarshal {_described(value, integer=go in _RANGE)} into {target} of type {go}")


def _described(value: Any, *, integer: bool) -> str:
    """The JSON type; a number that does not fit an integer is quoted."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return f"number {value!r}" if integer else "number"


def _canonical_quantity(value: Any) -> Any:
    """Upstream reads any JSON value as the text of a quantity, without the space around it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = value.strip() if isinstance(value, str) else repr(value) if number else ""
    try:
        return _kept(str(quantity.parse(text)), value)
    except quantity.QuantityError as error:
        raise _Fault(str(error)) from None


def _canonical_time(value: str, *, micro: bool) -> str:
    if fault := times.fault(value):
        raise _Fault(fault)
    return str(_kept(times.canonical(value, micro=micro), value))


def _kept(canonical: str, value: Any) -> Any:
    """The same object where nothing changes."""
    return value if canonical == value else canonical


def _check_base64(value: str) -> None:
    plain = value if _BASE64.fullmatch(value) else value.replace("\r", "").replace("\n", "")
    if not _BASE64.fullmatch(plain):
        valid = _BASE64_PREFIX.match(value)
        raise _Fault(f"illegal base64 data at input byte {valid.end() if valid else 0}")
