"""Preemption: which pods of lower priority would have to go so that a pod fits, and on which node. Pure.

Follows upstream's rules: take every lower pod away, see whether the newcomer fits, then give back as many as
possible, those protected by a disruption budget first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controlplane.scheduler import filter
from controlplane.scheduler.decide import Verdict
from controlplane.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from kube.labels import Selector

MIN_CANDIDATES = 100
CANDIDATE_SHARE = 10  # percent of the nodes
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget: whom it protects, and how many of them may go now."""

    namespace: str
    selector: Selector
    allowed: int

    def protects(self, info: PodInfo) -> bool:
        """Whether a pod counts against it."""
        meta = info.pod.metadata
        return meta.namespace == self.namespace and self.selector.matches(meta.labels)


@dataclass(frozen=True, slots=True)
class Victims:
    """Pods that have to go from a node, the most important first; violations counts those a budget protects."""

    node: str
    pods: tuple[PodInfo, ...]
    violations: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The node chosen, or why each node was not."""

    chosen: Victims | None = None
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)


def preempt(
    info: PodInfo, verdict: Verdict, world: Snapshot, *, budgets: Sequence[Budget] = (), start: int = 0
) -> Outcome:
    """Look for a node to make room on, among those whose refusal removing pods could cure.

    start: where in the list of nodes to begin, so that a large cluster is not always searched from one end.
    """
    reasons: dict[str, tuple[str, ...]] = {}
    curable = []
    for name, refusal in verdict.refusals.items():
        if refusal.curable:
            curable.append(name)
        else:
            reasons[name] = (NOT_HELPFUL,)
    shift = start % len(curable) if curable else 0
    wanted = max(MIN_CANDIDATES, verdict.total * CANDIDATE_SHARE // 100)
    found: list[Victims] = []
    for name in [*curable[shift:], *curable[:shift]]:
        result = victims(info, world.infos[name], world, budgets=budgets)
        if isinstance(result, Victims):
            found.append(result)
            if len(found) >= wanted:
                break
        else:
            reasons[name] = result
    return Outcome(min(found, key=_cost), reasons) if found else Outcome(None, reasons)


def victims(
    info: PodInfo, on: NodeInfo, world: Snapshot, *, budgets: Sequence[Budget] = ()
) -> Victims | tuple[str, ...]:
    """The fewest, least important pods whose removal makes the newcomer fit; or the reasons why none does."""
    lower = [one for one in on.pods.values() if one.priority < info.priority]
    if not lower:
        return (NO_VICTIMS,)
    gone = {one.uid for one in lower}
    refusal = _try(info, on, world, frozenset(gone))
    if refusal is not None:
        return refusal.reasons
    protected, free = _by_budget(sorted(lower, key=importance), budgets)
    violations = 0
    for one in (*protected, *free):
        if _try(info, on, world, frozenset(gone - {one.uid})) is None:
            gone.discard(one.uid)
        elif one in protected:
            violations += 1
    doomed = sorted((one for one in lower if one.uid in gone), key=importance)
    return Victims(on.name, tuple(doomed), violations)


def importance(info: PodInfo) -> tuple[int, str]:
    """Sort key: the most important first, by priority and then by how long it has run."""
    return (-info.priority, info.pod.status.start_time or "9999")


def _try(info: PodInfo, on: NodeInfo, world: Snapshot, gone: frozenset[str]) -> filter.Refusal | None:
    return filter.run(filter.prepare(info, world, without=gone), on.without(gone))


def _by_budget(pods: Iterable[PodInfo], budgets: Sequence[Budget]) -> tuple[list[PodInfo], list[PodInfo]]:
    """(pods whose going would break a budget, the others): the first of a group use up what it allows."""
    left = [budget.allowed for budget in budgets]
    protected: list[PodInfo] = []
    free: list[PodInfo] = []
    for one in pods:
        broken = False
        for position, budget in enumerate(budgets):
            if budget.protects(one):
                left[position] -= 1
                broken = broken or left[position] < 0
        (protected if broken else free).append(one)
    return protected, free


def _cost(found: Victims) -> tuple[int, int, int, int, tuple[int, ...]]:
    """Fewest broken budgets, lowest highest priority, lowest sum, fewest pods, latest start of the most important."""
    priorities = [one.priority for one in found.pods]
    highest = max(priorities, default=-(2**31))
    starts = min((one.pod.status.start_time or "" for one in found.pods if one.priority == highest), default="")
    # Sums are shifted so that many small victims never look cheaper than few.
    total = sum(priority + 2**31 for priority in priorities)
    return (found.violations, highest, total, len(found.pods), tuple(-ord(letter) for letter in starts))
