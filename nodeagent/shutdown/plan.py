"""Who ends when in the time a shutdown leaves, and with how long a grace. PURE.

Follows upstream's shutdown manager: the pods of the lowest priority first, each group within its own share.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kube import types
from nodeagent.pods import plan as plans
from nodeagent.pods import spec

CRITICAL: Final = 2_000_000_000
"""The priority from which pods count as critical: that of system-cluster-critical."""
REASON: Final = "Terminated"
MESSAGE: Final = "Pod was terminated in response to imminent node shutdown."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The pods of at least this priority, and of less than the next share's, get so many seconds."""

    priority: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Pods that end together, each with its grace, and how long they are waited for at most, in seconds."""

    ends: Mapping[str, plans.End]
    seconds: float


def shares(*, whole: float, critical: float, by_priority: Sequence[Share] = ()) -> tuple[Share, ...]:
    """The shares as configured, the lowest first: by priority, or ordinary pods and critical ones."""
    if by_priority:
        return tuple(sorted(by_priority, key=lambda share: share.priority))
    if not whole:
        return ()
    return (Share(priority=0, seconds=whole - critical), Share(priority=CRITICAL, seconds=critical))


def rounds(pods: Iterable[types.Pod], of: Sequence[Share]) -> tuple[Round, ...]:
    """Which pods end in which round; rounds without pods are left out."""
    groups: list[dict[str, plans.End]] = [{} for _ in of]
    for pod in pods:
        priority = pod.spec.priority or 0
        number = max((n for n, share in enumerate(of) if share.priority <= priority), default=0)
        most = int(of[number].seconds)
        end = plans.End(reason=REASON, message=MESSAGE, grace=min(most, spec.grace(pod)))
        groups[number][pod.metadata.uid] = end
    return tuple(Round(ends=group, seconds=share.seconds) for group, share in zip(groups, of, strict=True) if group)
