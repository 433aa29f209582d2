"""Pods that wait for a decision: active (now), back-off (after a failure), unschedulable (until something helps).

Owns who is next. Must not know why a pod failed beyond the plugins that refused it, nor what time it is: that is an
argument, in monotonic seconds.
"""

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from controlplane.projection import Pod
from controlplane.scheduler import filter, interpod, spread, volumes

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 10.0  # seconds
GATES = "SchedulingGates"
MAX_UNSCHEDULABLE = 300.0  # seconds until a pod is tried again without a reason


class Event(Enum):
    """What can make a pod schedulable."""

    NODE_ADDED = auto()
    NODE_ALLOCATABLE = auto()
    NODE_LABELS = auto()
    NODE_TAINTS = auto()
    POD_GONE = auto()
    POD_PLACED = auto()
    STORAGE = auto()


_ANY = ""  # refused by no plugin in particular: anything may help
_HELPS: Mapping[str, frozenset[Event]] = {
    GATES: frozenset(),
    filter.NODE_UNSCHEDULABLE: frozenset((Event.NODE_ADDED, Event.NODE_TAINTS)),
    filter.NODE_NAME: frozenset((Event.NODE_ADDED,)),
    filter.TAINT_TOLERATION: frozenset((Event.NODE_ADDED, Event.NODE_TAINTS)),
    filter.NODE_AFFINITY: frozenset((Event.NODE_ADDED, Event.NODE_LABELS)),
    filter.NODE_PORTS: frozenset((Event.NODE_ADDED, Event.POD_GONE)),
    spread.PLUGIN: frozenset((Event.NODE_ADDED, Event.NODE_LABELS, Event.POD_GONE, Event.POD_PLACED)),
    interpod.PLUGIN: frozenset((Event.NODE_ADDED, Event.NODE_LABELS, Event.POD_GONE, Event.POD_PLACED)),
    volumes.PLUGIN: frozenset((Event.NODE_ADDED, Event.NODE_LABELS, Event.STORAGE)),
    filter.FIT: frozenset((Event.NODE_ADDED, Event.NODE_ALLOCATABLE, Event.POD_GONE)),
}


@dataclass(slots=True)
class Waiting:
    """A pod in the queue. plugins: who refused it last."""

    pod: Pod
    since: float
    attempts: int = 0
    failed_at: float = 0.0
    plugins: frozenset[str] = frozenset()
    place: str = "active"
    ticket: int = 0
    first_seen: float = 0.0

    @property
    def backoff_ends(self) -> float:
        """When this pod may be tried again (monotonic seconds)."""
        if not self.attempts:
            return 0.0
        return self.failed_at + min(MAX_BACKOFF, INITIAL_BACKOFF * 2.0 ** (min(self.attempts, 10) - 1))


@dataclass(slots=True)
class SchedulingQueue:
    """The three queues. A pod is in one of them, or being decided on (then it is in none)."""

    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _active: list[tuple[int, float, int, str]] = field(default_factory=list)
    _backoff: list[tuple[float, int, str]] = field(default_factory=list)
    _parked: dict[str, dict[str, Waiting]] = field(default_factory=dict)  # plugin -> pods it refused, by UID
    _tickets: "itertools.count[int]" = field(default_factory=itertools.count)

    def add(self, pod: Pod, *, now: float) -> None:
        """A new pod, or a changed one: a change of its spec may help it, so it goes straight to active."""
        known = self._waiting.get(pod.metadata.uid)
        if known is None:
            known = Waiting(pod, now, first_seen=now)
            self._waiting[pod.metadata.uid] = known
        elif _asks_the_same(known.pod, pod):
            known.pod = pod
            return
        known.pod = pod
        self._to_active(known)

    def remove(self, uid: str) -> None:
        """The pod needs no decision any more."""
        found = self._waiting.pop(uid, None)
        if found:
            self._unpark(found)

    def pop(self, *, now: float) -> Waiting | None:
        """The pod to decide on next, or None. The caller decides, and calls failed() if it must come back."""
        self._release(now)
        while self._active:
            *_, ticket, uid = heapq.heappop(self._active)
            found = self._waiting.get(uid)
            if found and found.ticket == ticket:
                del self._waiting[uid]
                return found
        return None

    def unschedulable(self, waiting: Waiting, *, plugins: frozenset[str], now: float) -> None:
        """No node will do: wait for something that could help."""
        self._fail(waiting, now)
        waiting.plugins, waiting.place = plugins or frozenset((_ANY,)), "unschedulable"
        for plugin in waiting.plugins:
            self._parked.setdefault(plugin, {})[waiting.pod.metadata.uid] = waiting

    def failed(self, waiting: Waiting, *, now: float) -> None:
        """It could not be carried out: try again after a while."""
        self._fail(waiting, now)
        self._to_backoff(waiting)

    def happened(self, event: Event, *, now: float) -> bool:
        """Move the pods that an event could help. Answers whether any moved."""
        helped = {
            uid: one
            for plugin, pods in self._parked.items()
            if plugin == _ANY or event in _HELPS[plugin]
            for uid, one in pods.items()
        }
        for one in helped.values():
            self._move(one, now)
        return bool(helped)

    def flush(self, *, now: float) -> None:
        """Move pods that have waited too long for an event."""
        for one in list(self._waiting.values()):
            if one.place == "unschedulable" and now - one.failed_at >= MAX_UNSCHEDULABLE:
                self._move(one, now)

    def next_release(self) -> float | None:
        """When the first pod leaves back-off (monotonic seconds)."""
        while self._backoff and not self._current(self._backoff[0]):
            heapq.heappop(self._backoff)
        return self._backoff[0][0] if self._backoff else None

    def counts(self) -> dict[str, int]:
        """How many pods wait, by queue."""
        found = {"active": 0, "backoff": 0, "unschedulable": 0}
        for one in self._waiting.values():
            found[one.place] += 1
        return found

    def _fail(self, waiting: Waiting, now: float) -> None:
        waiting.attempts += 1
        waiting.failed_at = now
        self._waiting[waiting.pod.metadata.uid] = waiting

    def _release(self, now: float) -> None:
        while (ends := self.next_release()) is not None and ends <= now:
            *_, uid = heapq.heappop(self._backoff)
            self._to_active(self._waiting[uid])

    def _move(self, waiting: Waiting, now: float) -> None:
        if waiting.backoff_ends > now:
            self._to_backoff(waiting)
        else:
            self._to_active(waiting)

    def _to_active(self, waiting: Waiting) -> None:
        self._unpark(waiting)
        waiting.place, waiting.ticket = "active", next(self._tickets)
        entry = (-(waiting.pod.spec.priority or 0), waiting.since, waiting.ticket, waiting.pod.metadata.uid)
        heapq.heappush(self._active, entry)

    def _to_backoff(self, waiting: Waiting) -> None:
        self._unpark(waiting)
        waiting.place, waiting.ticket = "backoff", next(self._tickets)
        heapq.heappush(self._backoff, (waiting.backoff_ends, waiting.ticket, waiting.pod.metadata.uid))

    def _unpark(self, waiting: Waiting) -> None:
        for plugin in waiting.plugins:
            pods = self._parked.get(plugin, {})
            pods.pop(waiting.pod.metadata.uid, None)
            if not pods:
                self._parked.pop(plugin, None)

    def _current(self, entry: tuple[float, int, str]) -> bool:
        found = self._waiting.get(entry[2])
        return found is not None and found.ticket == entry[1]


def _asks_the_same(old: Pod, new: Pod) -> bool:
    """Whether a change is one of status only: retrying for that would be a loop fed by our own condition."""
    return (old.spec, old.metadata.labels, old.metadata.annotations) == (
        new.spec,
        new.metadata.labels,
        new.metadata.annotations,
    )
