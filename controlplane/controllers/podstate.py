"""What controllers conclude from a pod: active, ready, available, and which one to delete first. Pure.

Follows upstream's ordering of active pods for scaling down; ready times are compared exactly, not in powers of two.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from controlplane.controllers import conditions, times
from controlplane.projection import Pod

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_finished(pod: Pod) -> bool:
    """Succeeded or Failed: it will never run again."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Neither finished nor being deleted."""
    return not is_finished(pod) and not pod.metadata.deletion_timestamp


def is_ready(pod: Pod) -> bool:
    """The Ready condition is True."""
    ready = conditions.find(pod.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def seconds_to_available(pod: Pod, *, min_ready_seconds: int, now: datetime) -> float | None:
    """0 once the pod has been ready long enough, seconds still to go, None while it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_seconds:
        return 0.0
    return max(0.0, min_ready_seconds - (now - _ready_since(pod)).total_seconds())


def deletion_order(pod: Pod, *, siblings: Mapping[str, int]) -> tuple[object, ...]:
    """Sort key: the smallest goes first. siblings: active pods of the same application by node name."""
    ready = is_ready(pod)
    restarts = max((c.restart_count for c in pod.status.container_statuses), default=0)
    created = times.parse(pod.metadata.creation_timestamp) or _EPOCH
    return (
        bool(pod.spec.node_name),
        _PHASES.get(pod.status.phase, 2),
        ready,
        _deletion_cost(pod),
        -siblings.get(pod.spec.node_name, 0),
        -_ready_since(pod).timestamp() if ready else 0.0,
        -restarts,
        -created.timestamp(),
        pod.metadata.name,
    )


def _ready_since(pod: Pod) -> datetime:
    ready = conditions.find(pod.status.conditions, "Ready")
    return (times.parse(ready.last_transition_time) if ready else None) or _EPOCH


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0
