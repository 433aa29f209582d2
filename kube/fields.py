"""Field selectors: `metadata.name=x,status.phase!=Failed` and matching (apimachinery `pkg/fields`).

Owns the grammar with its escapes. Must not know which fields a kind may be selected by: the API server does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_TERM = re.compile(r"(?:\\.|[^\\,])+", re.DOTALL)
_SIGN = re.compile(r"(?:\\.|[^\\=!])*?(!=|==|=)", re.DOTALL)


class FieldSelectorError(ValueError):
    """A field selector that cannot be read; the message quotes it."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One field, equal (`equal`) or not equal to one value."""

    field: str
    equal: bool
    value: str

    def __str__(self) -> str:
        return f"{self.field}{'=' if self.equal else '!='}{escape(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Requirements that must all hold; none matches everything."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def empty(self) -> bool:
        """True when it selects everything."""
        return not self.requirements

    def matches(self, values: Mapping[str, str]) -> bool:
        """True when every field has, or has not, its value; a field that is absent counts as ""."""
        return all((values.get(want.field, "") == want.value) == want.equal for want in self.requirements)

    def exact(self, field: str) -> str | None:
        """The one value `field` must have, or None when the selector does not fix it."""
        return next((want.value for want in self.requirements if want.equal and want.field == field), None)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = FieldSelector()


def parse(text: str) -> FieldSelector:
    """The selector of a `fieldSelector` parameter; "" matches everything. Raises FieldSelectorError."""
    return FieldSelector(tuple(_requirement(term, text) for term in _TERM.findall(text)))


def escape(value: str) -> str:
    """The value with `\\`, `,` and `=` escaped, as a selector carries it."""
    return re.sub(r"([\\,=])", r"\\\1", value)


def _requirement(term: str, text: str) -> Requirement:
    match = _SIGN.match(term)
    if match is None:
        raise FieldSelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
    return Requirement(term[: match.start(1)], match[1] != "!=", _unescaped(term[match.end(1) :], text))


def _unescaped(value: str, text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        if match[1] not in ("\\", ",", "=") or not match[1]:
            raise FieldSelectorError(f"invalid field selector '{text}': invalid escape sequence \\{match[1]}")
        return match[1]

    if re.search(r"(?<!\\)(?:\\\\)*=", value):
        raise FieldSelectorError(f"invalid field selector '{text}': unescaped '=' in the value '{value}'")
    return _ESCAPE.sub(plain, value)
