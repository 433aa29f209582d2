"""How long to wait before trying again, per key.

Pure arithmetic beside a table of attempts; it never sleeps and knows nothing of what is tried.
"""

import random
from collections.abc import Callable, Hashable


class Backoff:
    """Exponential back-off: base, base * factor, ... up to cap, each stretched by up to `jitter` of itself."""

    def __init__(
        self,
        base: float,
        cap: float,
        factor: float = 2.0,
        jitter: float = 0.0,
        *,
        rand: Callable[[], float] = random.random,
    ) -> None:
        if base <= 0 or cap < base or factor < 1 or jitter < 0:
            raise ValueError(f"back-off needs 0 < base <= cap and factor >= 1: {base=} {cap=} {factor=} {jitter=}")
        self._base, self._cap, self._factor, self._jitter = base, cap, factor, jitter
        self._rand = rand
        self._waits: dict[Hashable, float] = {}

    def next(self, key: Hashable = None) -> float:
        """Seconds to wait after one more failure of `key`; the jitter may exceed the cap."""
        wait = self._waits.get(key, self._base)
        self._waits[key] = min(wait * self._factor, self._cap)
        return wait * (1 + self._jitter * self._rand()) if self._jitter else wait

    def reset(self, key: Hashable = None) -> None:
        """Forget the failures of `key`."""
        self._waits.pop(key, None)
