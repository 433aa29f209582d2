"""Which thresholds are met and which pod goes for it. PURE, after upstream's eviction package: its signals and order.

Amounts are bytes, inodes or processes. One pod goes at a time: the next look sees what it brought.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kube import quantity, types
from nodeagent.pods import spec
from nodeagent.resources import qos

MEMORY, DISK, PIDS = "MemoryPressure", "DiskPressure", "PIDPressure"
CONDITIONS: Final = {
    "memory.available": MEMORY,
    "nodefs.available": DISK,
    "nodefs.inodesFree": DISK,
    "imagefs.available": DISK,
    "imagefs.inodesFree": DISK,
    "pid.available": PIDS,
}
"""Signal -> the node's condition while it is below its threshold."""
RESOURCES: Final = {MEMORY: "memory", DISK: "ephemeral-storage", PIDS: "pids"}
HARD: Final = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}
"""Upstream's thresholds where the configuration names none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How much of something there is still, and in all."""

    available: int
    capacity: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Below `value` ("100Mi", "10%") for `grace` seconds, pods have to go; hard ones have no grace."""

    signal: str
    value: str
    grace: float = 0.0

    def amount(self, capacity: int) -> int:
        """The value as an amount."""
        if self.value.endswith("%"):
            return int(capacity * float(self.value[:-1]) / 100)
        return quantity.parse(self.value).value()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pod that may go, and what it uses by resource."""

    pod: types.Pod
    usage: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The pod that goes, how long it may take (None: as long as it wants), and why."""

    uid: str
    message: str
    grace: int


def problem(signal: str, value: str) -> str | None:
    """What is wrong with a threshold of the configuration."""
    if signal not in CONDITIONS:
        return f"unknown signal, supported: {', '.join(CONDITIONS)}"
    try:
        if value.endswith("%"):
            return None if 0 <= float(value[:-1]) <= 100 else f"{value!r} is not between 0% and 100%"
        quantity.parse(value)
    except ValueError:
        return f"{value!r} is neither a quantity nor a percentage"
    return None


def below(thresholds: Iterable[Threshold], levels: Mapping[str, Level]) -> list[Threshold]:
    """The thresholds that are met now, graces not counted; memory comes first, as upstream has it."""
    found = [t for t in thresholds if (level := levels.get(t.signal)) and level.available < t.amount(level.capacity)]
    return sorted(found, key=lambda t: (CONDITIONS[t.signal] != MEMORY, t.grace))


def due(met: Iterable[Threshold], since: Mapping[Threshold, float], *, now: float) -> list[Threshold]:
    """Those whose grace has passed; `since` is when each was first seen met, in seconds of the same clock as `now`."""
    return [t for t in met if now - since.get(t, now) >= t.grace]


def evict(threshold: Threshold, level: Level, candidates: Iterable[Candidate], *, soft_grace: int) -> Verdict | None:
    """The pod that goes for a threshold; None if none may."""
    resource = RESOURCES[CONDITIONS[threshold.signal]]
    ranked = rank([c for c in candidates if not is_critical(c.pod)], resource)
    if not ranked:
        return None
    chosen = ranked[0]
    grace = 0
    if threshold.grace:
        grace = min(soft_grace, spec.grace(chosen.pod)) if soft_grace else spec.grace(chosen.pod)
    return Verdict(uid=chosen.pod.metadata.uid, message=message(threshold, level, chosen, resource), grace=grace)


def is_critical(pod: types.Pod) -> bool:
    """Static pods and those of the highest priorities never go."""
    return spec.is_static(pod) or spec.is_mirror(pod) or (pod.spec.priority or 0) >= qos.NODE_CRITICAL


def rank(candidates: Sequence[Candidate], resource: str) -> list[Candidate]:
    """Who goes first: who uses more than requested, then who matters less, then who is furthest above the request."""

    def order(candidate: Candidate) -> tuple[bool, int, int]:
        over = candidate.usage.get(resource, 0) - requested(candidate.pod, resource)
        if resource == "pids":  # nobody asks for process ids
            return False, candidate.pod.spec.priority or 0, -candidate.usage.get(resource, 0)
        return over <= 0, candidate.pod.spec.priority or 0, -over

    return sorted(candidates, key=order)


def requested(pod: types.Pod, resource: str) -> int:
    """What a pod asked for."""
    found = qos.pod_requests(pod).get(resource)
    return found.value() if found is not None else 0


def message(threshold: Threshold, level: Level, chosen: Candidate, resource: str) -> str:
    """Why, in upstream's words."""
    amount = threshold.amount(level.capacity)
    text = f"The node was low on resource: {resource}. Threshold quantity: {shown(amount, resource)}, "
    text += f"available: {shown(level.available, resource)}. "
    used = chosen.usage.get(resource, 0)
    if resource == "pids" or used <= requested(chosen.pod, resource):
        return text
    asked = shown(requested(chosen.pod, resource), resource)
    names = ", ".join(container.name for container in chosen.pod.spec.containers)
    return f"{text}Containers {names} were using {shown(used, resource)}, request is {asked}, has larger consumption. "


def shown(amount: int, resource: str) -> str:
    """An amount as people write it."""
    return str(amount) if resource == "pids" or amount < 1024 else f"{amount // 1024}Ki"


def pressures(
    met: Iterable[Threshold], last_met: Mapping[str, float], *, now: float, transition: float
) -> frozenset[str]:
    """The node's conditions: those met now, and those met less than `transition` seconds ago."""
    current = {CONDITIONS[t.signal] for t in met}
    return frozenset(current | {name for name, at in last_met.items() if now - at < transition})
