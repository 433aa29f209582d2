"""Short constructors for field errors, and the few checks every kind repeats.

Owns the phrases shared by all validators. Must not know any kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kube.status import FieldError

JSON = dict[str, Any]
Errors = list[FieldError]

NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
IMMUTABLE = "field is immutable"
MAX_INT32 = 2**31 - 1


def required(path: str, detail: str = "") -> FieldError:
    """`path: Required value: detail`."""
    return FieldError("Required", path, detail)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """`path: Invalid value: value: detail`."""
    return FieldError("Invalid", path, detail, value)


def unsupported(path: str, value: Any, supported: Sequence[str]) -> FieldError:
    """`path: Unsupported value: value: supported values: ...` in the order given, which is upstream's."""
    listed = ", ".join(f'"{item}"' for item in supported)
    return FieldError("NotSupported", path, f"supported values: {listed}" if listed else "", value)


def forbidden(path: str, detail: str) -> FieldError:
    """`path: Forbidden: detail`."""
    return FieldError("Forbidden", path, detail)


def duplicate(path: str, value: Any) -> FieldError:
    """`path: Duplicate value: value`."""
    return FieldError("Duplicate", path, "", value)


def not_found(path: str, value: Any) -> FieldError:
    """`path: Not found: value`."""
    return FieldError("NotFound", path, "", value)


def too_long(path: str, limit: int) -> FieldError:
    """`path: Too long: may not be more than N bytes`."""
    return FieldError("TooLong", path, f"may not be more than {limit} bytes")


def too_many(path: str, actual: int, limit: int) -> FieldError:
    """`path: Too many: N: must have at most M items`."""
    return FieldError("TooMany", path, f"must have at most {limit} items", actual)


def invalids(path: str, value: Any, details: Iterable[str]) -> Errors:
    """One Invalid per detail."""
    return [FieldError("Invalid", path, detail, value) for detail in details]


def immutable(path: str, new: Any, old: Any) -> Errors:
    """An error unless both are equal; absent, None and empty count as equal."""
    if new == old or (not new and not old and not isinstance(new, bool) and not isinstance(old, bool)):
        return []
    return [invalid(path, new, IMMUTABLE)]


def nonnegative(path: str, value: int | None) -> Errors:
    """An error for a number below 0."""
    return [invalid(path, value, NEGATIVE)] if value is not None and value < 0 else []


def in_range(low: int, high: int) -> str:
    """Upstream's phrase for a number outside an inclusive range."""
    return f"must be between {low} and {high}, inclusive"
