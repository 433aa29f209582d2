"""Taints: which ones a node's conditions call for. Pure."""

from datetime import datetime

from controlplane.controllers import conditions
from controlplane.projection import Node, Taint
from kube.runtime import clock

NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"
_PREFIX = "node.kubernetes.io/"
NOT_READY, UNREACHABLE = _PREFIX + "not-ready", _PREFIX + "unreachable"
UNSCHEDULABLE = _PREFIX + "unschedulable"
_BY_CONDITION = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): _PREFIX + "memory-pressure",
    ("DiskPressure", "True"): _PREFIX + "disk-pressure",
    ("PIDPressure", "True"): _PREFIX + "pid-pressure",
    ("NetworkUnavailable", "True"): _PREFIX + "network-unavailable",
}
_OWNED = frozenset((*_BY_CONDITION.values(), UNSCHEDULABLE))


def health_key(node: Node) -> str | None:
    """The taint key of a node that is not ready, None for one that is or never said anything."""
    ready = conditions.find(node.status.conditions, "Ready")
    return _BY_CONDITION.get(("Ready", ready.status)) if ready else None


def wanted(node: Node, *, evict: bool, now: datetime) -> tuple[Taint, ...]:
    """All taints a node should have. Those of others stay as they are; times of those that stay, too.

    evict: whether a node that is not ready is to lose its pods (the NoExecute taint), too.
    """
    keys = {(key, NO_SCHEDULE) for c in node.status.conditions if (key := _BY_CONDITION.get((c.type, c.status)))}
    if node.spec.unschedulable:
        keys.add((UNSCHEDULABLE, NO_SCHEDULE))
    if evict and (key := health_key(node)):
        keys.add((key, NO_EXECUTE))
    if conditions.find(node.status.conditions, "Ready") is None:
        # Not heard of yet: the taint it registered with stays until it is.
        keys |= {(t.key, t.effect) for t in node.spec.taints if t.key == NOT_READY}
    kept = [t for t in node.spec.taints if t.key not in _OWNED or (t.key, t.effect) in keys or _foreign(t)]
    new = sorted(keys - {(t.key, t.effect) for t in kept})
    return (*kept, *(Taint(key=key, effect=effect, time_added=clock.rfc3339(now)) for key, effect in new))


def _foreign(taint: Taint) -> bool:
    """An owned key with an effect this controller never uses was put there by people."""
    evicting = taint.key in (NOT_READY, UNREACHABLE)
    return taint.effect != NO_SCHEDULE and not (evicting and taint.effect == NO_EXECUTE)
