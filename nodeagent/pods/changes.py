"""What a change of a pod's object means for the work on it. PURE."""

from typing import Final

from kube import types
from nodeagent.pods import spec

OWN_CONDITIONS: Final = frozenset(
    (
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
        "PodResizePending",
        "PodResizeInProgress",
        "AllContainersRestarting",
    )
)


def ending(pod: types.Pod) -> bool:
    """Whether the API wants it gone."""
    return pod.metadata.deletion_timestamp is not None


def urgent(old: types.Pod, new: types.Pod) -> bool:
    """Whether it must end, or end sooner, so that what is under way is to be interrupted."""
    return ending(new) and (not ending(old) or spec.grace(new) < spec.grace(old))


def shown_in_files(old: types.Pod, new: types.Pod) -> bool:
    """Whether volumes may show something else now."""
    return (old.metadata.labels, old.metadata.annotations) != (new.metadata.labels, new.metadata.annotations)


def only_status(old: types.Pod, new: types.Pod) -> bool:
    """Whether nothing changed but the status this agent wrote itself: no reason to look at the runtime again."""
    if old.spec != new.spec or theirs(old) != theirs(new) or shown_in_files(old, new):
        return False
    before, after = old.metadata, new.metadata
    return (before.generation, before.deletion_timestamp, before.deletion_grace_period_seconds) == (
        after.generation,
        after.deletion_timestamp,
        after.deletion_grace_period_seconds,
    )


def theirs(pod: types.Pod) -> list[types.PodCondition]:
    """Conditions others have written, which readiness gates may wait for."""
    return [c for c in pod.status.conditions if c.type not in OWN_CONDITIONS]
