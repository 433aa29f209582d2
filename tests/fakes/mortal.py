"""A process that dies at its n-th effect, as by `kill -9`: what it did stays, and it does nothing more.

Owns counting and dying. Whatever passes through `Mortal.around` is an effect: calls of a runtime, requests to an API,
file work in threads. Must not know what the effects are.
"""

import asyncio
import functools
import inspect
import threading
from collections.abc import Collection
from typing import Any, Literal

Moment = Literal["before", "after"]
"""Whether the effect that kills is itself still done: `after` means its result was never heard."""


class Died(OSError):
    """What file work in a thread meets once its process is dead: nothing it does matters any more."""


class Mortal:
    """Dies at effect number `at`, counted from 1; 0 never. `effects` names what was done, in order."""

    def __init__(self, *, at: int = 0, moment: Moment = "before") -> None:
        self._at, self._moment = at, moment
        self._lock = threading.Lock()
        self.effects: list[str] = []
        self.dead = False

    def around(self, real: Any, *, name: str, only: Collection[str] = ()) -> Any:
        """`real`, each of whose methods (or the ones in `only`) is an effect from now on."""
        return _Watched(self, real, name, frozenset(only))

    def _enter(self, name: str) -> bool:
        """Whether this effect is the one that kills; OSError when dead already."""
        with self._lock:
            if self.dead:
                raise Died(name)
            self.effects.append(name)
            kills = len(self.effects) == self._at
            if kills and self._moment == "before":
                self.dead = True
                raise Died(name)
            return kills

    def _leave(self, name: str, kills: bool) -> None:
        if kills:
            self.dead = True
        if self.dead:
            raise Died(name)

    def blocking(self, name: str, work: Any, *arguments: Any, **named: Any) -> Any:
        """An effect in a thread."""
        kills = self._enter(name)
        found = work(*arguments, **named)
        self._leave(name, kills)
        return found

    async def waiting(self, name: str, work: Any, *arguments: Any, **named: Any) -> Any:
        """An effect on the loop. A dead process never gets an answer, whoever waits for it."""
        try:
            kills = self._enter(name)
            found = await work(*arguments, **named)
            self._leave(name, kills)
        except Died:
            await asyncio.Event().wait()
        return found


class MortalRuntime:
    """A container runtime each of whose calls is an effect; its stream of events is not."""

    def __init__(self, real: Any, life: Mortal) -> None:
        self.sandboxes = life.around(real.sandboxes, name="sandboxes")
        self.containers = life.around(real.containers, name="containers")
        self.execs = life.around(real.execs, name="execs")
        self.images = life.around(real.images, name="images")
        self.info, self.events, self.close = real.info, real.events, real.close


class _Watched:
    def __init__(self, life: Mortal, real: Any, name: str, only: frozenset[str]) -> None:
        self._life, self._real, self._name, self._only = life, real, name, only

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found) or (self._only and name not in self._only):
            return found
        counted = self._life.waiting if inspect.iscoroutinefunction(found) else self._life.blocking
        return functools.partial(counted, f"{self._name}.{name}", found)
