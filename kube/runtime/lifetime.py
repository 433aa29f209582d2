"""What one run of a component leaves with things that outlive it, and takes away when it ends.

The supervisor opens a lifetime around each run; shared things (an informer that is given a handler) register the undo.
Without it every restart would leave dead handlers behind. Knows neither components nor informers.
"""

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

_CURRENT: contextvars.ContextVar[list[Callable[[], None]] | None] = contextvars.ContextVar("lifetime", default=None)


@contextlib.contextmanager
def lifetime() -> Iterator[None]:
    """Everything registered inside, also by tasks started inside, is undone at the end, latest first."""
    undos: list[Callable[[], None]] = []
    token = _CURRENT.set(undos)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        for undo in reversed(undos):
            try:
                undo()
            except Exception:
                log.exception("an undo at the end of a component failed")
        undos.clear()


def at_end(undo: Callable[[], None]) -> None:
    """Call `undo` when the current lifetime ends; without one nothing is remembered."""
    if (undos := _CURRENT.get()) is not None:
        undos.append(undo)
