"""Resource quantities: exact arithmetic and upstream's canonical text (apimachinery `api/resource`).

Owns parsing, rounding, ordering and printing of "500m", "1Gi", "1e3". Must not know what is measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, total_ordering

BINARY = "BinarySI"
DECIMAL = "DecimalSI"
EXPONENT = "DecimalExponent"

_NANO = 10**9
_MAX_LENGTH = 256
_MAX_BINARY = 2**63 - 1
_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIXES = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL_BY_EXPONENT = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_BY_EXPONENT = {exponent: suffix for suffix, exponent in _BINARY_SUFFIXES.items()}
_SHAPE = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([-+]?\d{1,3})", re.ASCII)
_BAD_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_BAD_NUMBER = "unable to parse numeric part of quantity"
_BAD_SUFFIX = "unable to parse quantity's suffix"


class QuantityError(ValueError):
    """Text that is no quantity; the message is upstream's."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An exact amount in units of 10^-9, and the family of suffixes it is printed in."""

    nano: int
    format: str = DECIMAL

    def milli(self) -> int:
        """Thousandths, rounded up: 1 CPU is 1000."""
        return -(-self.nano // 10**6)

    def value(self) -> int:
        """Whole units, rounded up."""
        return -(-self.nano // _NANO)

    def __bool__(self) -> bool:
        return self.nano != 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nano == other.nano

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __hash__(self) -> int:
        return hash(self.nano)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, self.format if self.nano else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.format if self.nano else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.format)

    def __str__(self) -> str:
        if self.nano == 0:
            return "0"
        whole, rest = divmod(self.nano, _NANO)
        if self.format == BINARY and rest == 0 and abs(whole) >= 1024:
            return _binary_text(whole)
        return _decimal_text(self.nano, exponent_form=self.format == EXPONENT)


ZERO = Quantity(0)


def parse(source: str | int | float) -> Quantity:
    """The quantity a manifest gives as text or number; finer than 10^-9 rounds away from zero.

    Raises QuantityError with upstream's message.
    """
    text = source if isinstance(source, str) else repr(source)
    if len(text) > _MAX_LENGTH:
        raise QuantityError(f"a quantity may not be longer than {_MAX_LENGTH} characters")
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Quantity:
    match = _SHAPE.fullmatch(text)
    if match is None or not text:
        raise QuantityError(_BAD_FORMAT)
    if not (match[2] or match[3]):
        raise QuantityError(_BAD_NUMBER)
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4]
    numerator, denominator, form = _scale(suffix)
    digits = int(whole + fraction) * numerator * _NANO
    nano = -(-digits // (denominator * 10 ** len(fraction)))
    if form == BINARY:
        nano = min(nano, _MAX_BINARY * _NANO)
        form = DECIMAL if 0 < nano < _NANO else form
    return Quantity(-nano if sign == "-" else nano, form)


def _scale(suffix: str) -> tuple[int, int, str]:
    """(numerator, denominator, format) of a suffix."""
    if suffix in _BINARY_SUFFIXES:
        return 1024 ** _BINARY_SUFFIXES[suffix], 1, BINARY
    form = DECIMAL
    exponent = _DECIMAL_SUFFIXES.get(suffix)
    if exponent is None:
        match = _EXPONENT.fullmatch(suffix)
        if match is None:
            raise QuantityError(_BAD_SUFFIX)
        exponent, form = int(match[1]), EXPONENT
    return (10**exponent, 1, form) if exponent >= 0 else (1, 10**-exponent, form)


def _binary_text(whole: int) -> str:
    exponent = 0
    while whole % 1024 == 0 and exponent < 6:
        whole //= 1024
        exponent += 1
    return f"{whole}{_BINARY_BY_EXPONENT.get(exponent, '')}"


def _decimal_text(nano: int, *, exponent_form: bool) -> str:
    """The whole number before the largest suffix that loses nothing."""
    exponent = -9
    while nano % 1000 == 0 and (exponent_form or exponent < 18):
        nano //= 1000
        exponent += 3
    if exponent_form:
        return f"{nano}e{exponent}" if exponent else str(nano)
    return f"{nano}{_DECIMAL_BY_EXPONENT[exponent]}"
