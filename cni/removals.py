"""Removing interfaces, together when several callers want to at once.

The kernel waits for every processor to forget an interface, tens of milliseconds on a busy machine: for a group of them
it waits once. Owns who does the removal for whom. Blocking: use it from threads.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cni.netlink import connection, interfaces, wire

# What is put into this group is gone a moment later; nobody else's number, by luck: "nodeagen" in four bytes.
GROUP = 0x6E0DEA6E


@dataclass(slots=True)
class _Wish:
    """What one caller wants to be gone."""

    names: Sequence[str]
    done: bool = False
    error: wire.NetlinkError | OSError | None = None


class Removals:
    """Callers of one network namespace; who comes first works for all that wait."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Wish] = []

    def remove(self, names: Sequence[str]) -> None:
        """Returns when none of these interfaces is there. Raises wire.NetlinkError, OSError."""
        mine = _Wish(names)
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._remove_all()
        if mine.error:
            raise mine.error

    def _remove_all(self) -> None:
        with self._guard:
            wishes, self._waiting = self._waiting, []
        error: wire.NetlinkError | OSError | None = None
        try:
            with connection.Socket() as host:
                host.apply(plan([name for wish in wishes for name in wish.names]))
        except (wire.NetlinkError, OSError) as found:
            error = found
        for wish in wishes:
            wish.error, wish.done = error, True


def plan(names: Sequence[str]) -> list[wire.Message]:
    """The messages that remove these interfaces, those that are there. PURE."""
    grouped = [interfaces.set_group(name, group=GROUP) for name in dict.fromkeys(names)]
    return [*grouped, interfaces.delete_group(GROUP)]
