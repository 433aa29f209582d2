"""Label selectors: their text form, their object form, and matching (apimachinery `pkg/labels`).

Owns the grammar `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`. Must not know what carries the labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

IN, NOT_IN, EXISTS, MISSING, GREATER, LESS = "in", "notin", "exists", "!", "gt", "lt"

_PART = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(_PART)
_VALUE = re.compile(f"(?:{_PART})?")
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN = re.compile(r"\s*(==|!=|[=!,()<>]|[^\s=!,()<>]+)")
_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": MISSING}
_EQUALITY = {"=": IN, "==": IN, "!=": NOT_IN}


class SelectorError(ValueError):
    """A selector that cannot be read; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one key; `values` is sorted and empty for exists and missing."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True when labels fulfil it; NotIn is also fulfilled by a missing key."""
        value = labels.get(self.key)
        if self.operator == IN:
            return value in self.values
        if self.operator == NOT_IN:
            return value not in self.values
        if self.operator in (GREATER, LESS):
            return _compares(value, self.operator, int(self.values[0]))
        return (value is not None) == (self.operator == EXISTS)

    def __str__(self) -> str:
        if self.operator in (EXISTS, MISSING):
            return self.key if self.operator == EXISTS else f"!{self.key}"
        if self.operator in (GREATER, LESS):
            return f"{self.key}{'>' if self.operator == GREATER else '<'}{self.values[0]}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator == IN else '!='}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that must all hold; without conditions it matches everything, unless `nothing`."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """True when it selects everything."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True when labels fulfil every requirement."""
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def parse(text: str) -> Selector:
    """The selector of a `labelSelector` parameter; "" matches everything. Raises SelectorError."""
    tokens = _Tokens(text)
    if tokens.peek() is None:
        return EVERYTHING
    found = [_requirement(tokens, expected="!, identifier, or 'end of string'")]
    while (separator := tokens.next()) is not None:
        if separator != ",":
            raise _unexpected(separator, "',' or 'end of string'")
        found.append(_requirement(tokens, expected="identifier after ','"))
    return _selector(found)


def from_map(labels: Mapping[str, str] | None) -> Selector:
    """Every key equal to its value: the form of `Service.spec.selector`; None and {} match everything."""
    return _selector(Requirement(key, IN, (value,)) for key, value in (labels or {}).items())


def from_object(selector: Any) -> Selector:
    """The selector of a LabelSelector given as a dict or a struct; None matches nothing, {} everything.

    Raises SelectorError naming the key and the fault.
    """
    if selector is None:
        return NOTHING
    equal = _field(selector, "matchLabels", "match_labels") or {}
    found = [_checked(key, IN, [value]) for key, value in equal.items()]
    for expression in _field(selector, "matchExpressions", "match_expressions") or ():
        operator = _field(expression, "operator", "operator")
        if operator not in _OPERATORS:
            raise SelectorError(f'"{operator}" is not a valid label selector operator')
        key, values = _field(expression, "key", "key") or "", _field(expression, "values", "values") or ()
        found.append(_checked(key, _OPERATORS[operator], values))
    return _selector(found)


def _field(source: Any, wire: str, attribute: str) -> Any:
    return source.get(wire) if isinstance(source, Mapping) else getattr(source, attribute)


def _selector(requirements: Iterable[Requirement]) -> Selector:
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def _compares(value: str | None, operator: str, bound: int) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > bound if operator == GREATER else number < bound


class _Tokens:
    """The words and signs of a selector, one look ahead."""

    def __init__(self, text: str) -> None:
        self._left: Iterator[str] = (match[1] for match in _TOKEN.finditer(text))
        self._ahead = next(self._left, None)

    def peek(self) -> str | None:
        return self._ahead

    def next(self) -> str | None:
        taken, self._ahead = self._ahead, next(self._left, None)
        return taken

    def at_word(self) -> bool:
        return self._ahead is not None and self._ahead[0] not in "=!,()<>"

    def word(self) -> str:
        """The next token if it is a word, else "" and nothing is taken."""
        return (self.next() or "") if self.at_word() else ""


def _unexpected(found: str | None, expected: str) -> SelectorError:
    return SelectorError(f"found '{found or ''}', expected: {expected}")


def _requirement(tokens: _Tokens, *, expected: str) -> Requirement:
    if tokens.peek() != "!" and not tokens.at_word():
        raise _unexpected(tokens.peek(), expected)
    try:
        return _condition(tokens)
    except SelectorError as error:
        raise SelectorError(f"unable to parse requirement: {error}") from None


def _condition(tokens: _Tokens) -> Requirement:
    if tokens.peek() == "!":
        tokens.next()
        if not tokens.at_word():
            raise _unexpected(tokens.peek(), "identifier")
        return _checked(tokens.word(), MISSING, [])
    key, sign = tokens.word(), tokens.peek()
    if sign is None or sign == ",":
        return _checked(key, EXISTS, [])
    tokens.next()
    if sign in _EQUALITY:
        return _checked(key, _EQUALITY[sign], [tokens.word()])
    if sign in ("<", ">"):
        return _checked(key, GREATER if sign == ">" else LESS, [tokens.word()])
    if sign in (IN, NOT_IN):
        return _checked(key, sign, _value_set(tokens))
    raise _unexpected(sign, "in, notin, =, ==, !=, gt, lt")


def _value_set(tokens: _Tokens) -> list[str]:
    sign = tokens.next()
    if sign != "(":
        raise SelectorError(f"found '{sign or ''}' expected: '('")
    values = [tokens.word()]
    while (sign := tokens.next()) == ",":
        values.append(tokens.word())
    if sign != ")":
        raise _unexpected(sign, "',' or ')'")
    return values


def _checked(key: str, operator: str, values: Iterable[str]) -> Requirement:
    chosen = tuple(sorted(set(values)))
    _check_key(key)
    if operator in (IN, NOT_IN) and not chosen:
        raise SelectorError("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if operator in (EXISTS, MISSING) and chosen:
        raise SelectorError("values: Invalid value: values set must be empty for exists and does not exist")
    if operator in (GREATER, LESS) and not re.fullmatch(r"-?\d+", chosen[0]):
        raise SelectorError(
            f"values[0]: Invalid value: \"{chosen[0]}\": for 'Gt', 'Lt' operators, the value must be an integer"
        )
    for value in chosen:
        if not _VALUE.fullmatch(value):
            raise SelectorError(
                f'values[0][{key}]: Invalid value: "{value}": a valid label must be an '
                "empty string or consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and "
                "end with an alphanumeric character"
            )
    return Requirement(key, operator, chosen)


def _check_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        raise SelectorError(
            f'key: Invalid value: "{key}": name part must consist of at most 63 '
            "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character; "
            "an optional prefix must be a DNS subdomain followed by '/'"
        )
