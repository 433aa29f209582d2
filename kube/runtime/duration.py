"""Durations as Kubernetes configuration writes them (Go's `time.ParseDuration`). Pure."""

import re
from fractions import Fraction

_UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str | int | float) -> float:
    """Seconds of `1m30s`, `100ms`, `-1.5h`, `0`; a bare number is seconds. ValueError names the text."""
    if isinstance(text, bool):
        raise ValueError(f"invalid duration {text!r}")
    if isinstance(text, int | float):
        return float(text)
    body = text.strip()
    sign = -1 if body.startswith("-") else 1
    body = body[1:] if body[:1] in ("+", "-") else body
    if body == "0":
        return 0.0
    total, end = Fraction(0), 0
    for part in _PART.finditer(body):
        if part.start() != end:
            break
        total += Fraction(part[1]) * _UNITS[part[2]]
        end = part.end()
    if not body or end != len(body):
        raise ValueError(f"invalid duration {text!r}: want a form such as 1m30s, 100ms or 1.5h")
    return float(sign * total)


def format_duration(seconds: float) -> str:
    """The way Go prints a duration: `1m30s`, `1h0m0s`, `250ms`, `0s`."""
    if not seconds:
        return "0s"
    sign, nanos = ("-" if seconds < 0 else ""), round(abs(seconds) * 10**9)
    if nanos < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanos >= size:
                return f"{sign}{_decimal(nanos, size)}{unit}"
    hours, rest = divmod(nanos, 3600 * 10**9)
    minutes, rest = divmod(rest, 60 * 10**9)
    text = f"{_decimal(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
