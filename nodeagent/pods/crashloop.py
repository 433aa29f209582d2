"""How long a crashing container waits before it is started again: 10 s, doubling, to a cap. PURE.

The first restart is immediate. The delay is forgotten after 600 s without a restart, whatever the cap is.
"""

import dataclasses
from typing import Final

BASE: Final = 10.0
CAP: Final = 300.0
FORGET: Final = 600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """The wait before the next restart in seconds, set when the last restart happened (Unix seconds)."""

    seconds: float
    since: float


def remaining(delay: Delay | None, *, finished_at: float, now: float) -> float:
    """Seconds until a container that ended at `finished_at` may start again; 0 for now."""
    if delay is None or finished_at - delay.since > FORGET:
        return 0.0
    return max(0.0, finished_at + delay.seconds - now)


def after_restart(delay: Delay | None, *, finished_at: float, now: float, cap: float = CAP) -> Delay:
    """The delay for the next time, once the container has been restarted."""
    if delay is None or finished_at - delay.since > FORGET:
        return Delay(seconds=min(BASE, cap), since=now)
    return Delay(seconds=min(delay.seconds * 2, cap), since=now)
