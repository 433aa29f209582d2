"""What a probe's outcomes add up to, and when it runs next. PURE.

Owns thresholds and timing. Must not know how a probe is made.
Follows the 1.36 kubelet, except that a container that has just started is asked for readiness again soon, not only
after a whole period: those early misses count for nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from kube import types

Kind = Literal["startup", "liveness", "readiness"]
KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")

_SOON = 0.05
_SLOWER = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """Where a probe stands. `result` None: no verdict yet. `run`: how often the last outcome came in a row."""

    result: bool | None = None
    last: bool | None = None
    run: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One try. `passed` None: it says nothing about the container, so it does not count."""

    passed: bool | None
    message: str = ""
    warning: bool = False


def of(container: types.Container | types.EphemeralContainer, kind: Kind) -> types.Probe | None:
    """The container's probe of a kind."""
    probe: types.Probe | None = getattr(container, f"{kind}_probe")
    return probe


def step(state: State, probe: types.Probe, *, passed: bool) -> State:
    """Count one outcome; the result turns once its threshold is reached."""
    run = state.run + 1 if state.last is passed else 1
    threshold = probe.success_threshold if passed else probe.failure_threshold
    return State(passed if run >= threshold else state.result, passed, run)


def is_final(kind: Kind, state: State) -> bool:
    """Tell whether the probe has done its work on this container: it will be killed, or it has started."""
    return (state.result is False and kind != "readiness") or (state.result is True and kind == "startup")


def first_delay(probe: types.Probe, *, age: float, found_running: bool, luck: float) -> float:
    """Seconds until the first run of a container `age` seconds old; `luck` in [0, 1) spreads the load of a restart."""
    spread = luck * probe.period_seconds if found_running else 0.0
    return max(probe.initial_delay_seconds - age, spread, 0.0)


def early_delay(kind: Kind, probe: types.Probe, state: State, *, tries: int) -> float | None:
    """Seconds until an additional early try after `tries` misses; None when the usual period applies."""
    if kind != "readiness" or probe.exec is not None or state.result is not None or state.last is True:
        return None
    delay = _SOON * _SLOWER**tries
    return delay if delay < probe.period_seconds / 2 else None


def shown(kind: Kind, outcome: Outcome) -> str:
    """The text of the event."""
    verb = "warning" if outcome.warning else "failed"
    return f"{kind.capitalize()} probe {verb}: {outcome.message}"
