"""Times of the API: RFC 3339, told wrong in Go's words (`time.Parse`), kept in UTC as upstream writes them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

LAYOUT = "2006-01-02T15:04:05Z07:00"
_TWO = re.compile(r"\d\d", re.ASCII)
_STEPS: tuple[tuple[str, re.Pattern[str], str, range], ...] = (
    ("2006", re.compile(r"\d{4}", re.ASCII), "", range(0)),
    ("-", re.compile("-"), "", range(0)),
    ("01", _TWO, "month", range(1, 13)),
    ("-", re.compile("-"), "", range(0)),
    ("02", _TWO, "", range(0)),
    ("T", re.compile("T"), "", range(0)),
    ("15", _TWO, "hour", range(24)),
    (":", re.compile(":"), "", range(0)),
    ("04", _TWO, "minute", range(60)),
    (":", re.compile(":"), "", range(0)),
    ("05", re.compile(r"\d\d(?:[.,]\d+)?", re.ASCII), "second", range(60)),
    ("Z07:00", re.compile(r"Z|[+-]\d\d:\d\d", re.ASCII), "", range(0)),
)
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_CANONICAL_MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def fault(text: str) -> str:
    """Why `text` is no time, in Go's words, or ""."""
    at = 0
    for layout, pattern, part, allowed in _STEPS:
        match = pattern.match(text, at)
        if match is None:
            return f'parsing time "{text}" as "{LAYOUT}": cannot parse "{text[at:]}" as "{layout}"'
        if part and int(match[0][:2]) not in allowed:
            return f'parsing time "{text}": {part} out of range'
        at = match.end()
    if at < len(text):
        return f'parsing time "{text}": extra text: "{text[at:]}"'
    return "" if _day_exists(text) else f'parsing time "{text}": day out of range'


def _day_exists(text: str) -> bool:
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    try:
        datetime(year or 4, month, day, tzinfo=UTC)
    except ValueError:
        return False
    return True


def canonical(text: str, *, micro: bool) -> str:
    """A time without fault as upstream stores it: UTC, in whole seconds, or with six digits if `micro`."""
    if (_CANONICAL_MICRO if micro else _CANONICAL).fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text.replace(",", ".")).astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds' if micro else 'seconds')}Z"
