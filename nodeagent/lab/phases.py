"""How long each part of bringing a lab up took, told to a listener while it happens. Must not know how that is
shown.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part that has ended."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(slots=True)
class Step:
    """A part under way; what is put into `detail` is shown with its end."""

    name: str
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Phases:
    """The parts so far. `began` and `ended` are called as they happen."""

    began: Callable[[str], None] = lambda name: None
    ended: Callable[[Phase], None] = lambda phase: None
    done: list[Phase] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Measure the body. A part that raises is not recorded: its error tells the story."""
        step, start = Step(name), time.monotonic()
        self.began(name)
        yield step
        phase = Phase(name=name, seconds=time.monotonic() - start, detail=step.detail)
        self.done.append(phase)
        self.ended(phase)
