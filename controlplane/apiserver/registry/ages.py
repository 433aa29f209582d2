"""Durations in the short form people read in tables: 5s, 2m30s, 3h5m, 2d4h, 5y.

Owns upstream's rounding (apimachinery `util/duration`). Must not know whose age it is.
"""

from __future__ import annotations

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 86400 * 365


def human(seconds: float) -> str:
    """Two units at most; the second one is left out where it says little."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < _HOUR * 3:
        return _minutes(whole)
    if whole < _DAY * 2:
        return _pair(whole, _HOUR, "h", _MINUTE, "m") if whole < _HOUR * 8 else f"{whole // _HOUR}h"
    if whole < _DAY * 8:
        return _pair(whole, _DAY, "d", _HOUR, "h")
    if whole < _YEAR * 2:
        return f"{whole // _DAY}d"
    return _pair(whole, _YEAR, "y", _DAY, "d") if whole < _YEAR * 8 else f"{whole // _YEAR}y"


def _minutes(whole: int) -> str:
    return _pair(whole, _MINUTE, "m", 1, "s") if whole < _MINUTE * 10 else f"{whole // _MINUTE}m"


def _pair(whole: int, unit: int, name: str, small: int, small_name: str) -> str:
    rest = whole % unit // small
    return f"{whole // unit}{name}{rest}{small_name}" if rest else f"{whole // unit}{name}"
