"""How old a stamp on an object is. Knows nothing of clocks: the time of day is always an argument."""

from datetime import datetime

from kube.runtime import clock


def parse(text: str | None) -> datetime | None:
    """Read an RFC 3339 time; None stays None, and so does text that is no time: it was written by others."""
    if not text:
        return None
    try:
        return clock.parse_rfc3339(text)
    except ValueError:
        return None


def age(stamp: str | None, now: datetime) -> float:
    """Seconds since a stamp; 0 for a missing one, never negative."""
    moment = parse(stamp)
    return max(0.0, (now - moment).total_seconds()) if moment else 0.0
