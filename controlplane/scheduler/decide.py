"""One decision: where a pod goes, or why nowhere. Pure; chance comes in as a function."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.scheduler import affinity, filter, score
from controlplane.scheduler.filter import Refusal
from controlplane.scheduler.snapshot import NodeInfo, PodInfo, Snapshot

MIN_NODES = 100
NO_NODES = "no nodes available to schedule pods"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Where a pod goes (node), or the refusals by node name. evaluated counts the nodes looked at."""

    node: str | None
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    evaluated: int = 0
    feasible: int = 0
    total: int = 0

    @property
    def plugins(self) -> frozenset[str]:
        """Who refused: only events that concern them can help."""
        return frozenset(refusal.plugin for refusal in self.refusals.values())


def decide(info: PodInfo, snapshot: Snapshot, *, choose: Callable[[Sequence[str]], str]) -> Verdict:
    """Filter nodes, score those left, and let choose pick among the best."""
    nodes = snapshot.nodes
    candidates = _candidates(info, nodes, snapshot)
    wanted = enough(len(candidates))
    filters = filter.prepare(info, snapshot)
    feasible: list[NodeInfo] = []
    refusals: dict[str, Refusal] = {}
    for on in candidates:
        refusal = filter.run(filters, on)
        if refusal is None and (awaited := snapshot.awaited_on(on.name, by=info)):
            # Both ways: the pods may come, or go elsewhere.
            refusal = filter.run(filters, on.plus(awaited))
        if refusal is None:
            feasible.append(on)
            if len(feasible) >= wanted:
                break
        else:
            refusals[on.name] = refusal
    evaluated = len(feasible) + len(refusals)
    if not feasible:
        return Verdict(
            node=None, refusals=refusals | _left_out(nodes, candidates), evaluated=evaluated, total=len(nodes)
        )
    best = _best(info, feasible, snapshot, total=len(nodes))
    return Verdict(
        node=best[0] if len(best) == 1 else choose(best),
        refusals=refusals,
        evaluated=evaluated,
        feasible=len(feasible),
        total=len(nodes),
    )


def enough(count: int) -> int:
    """How many fitting nodes to look for: all of a small cluster, a falling share of a large one."""
    if count < MIN_NODES:
        return max(1, count)
    percent = max(5, 50 - count // 125)
    return max(MIN_NODES, count * percent // 100)


def explain(verdict: Verdict, *, preemption: str = "") -> str:
    """The message for people, as upstream words it; preemption says why making room does not help either."""
    if not verdict.total:
        return NO_NODES
    counts = Counter(reason for refusal in verdict.refusals.values() for reason in refusal.reasons)
    message = f"0/{verdict.total} nodes are available: {_listed(counts)}."
    return f"{message} preemption: {preemption}" if preemption else message


def helpless(verdict: Verdict, reasons: Mapping[str, Sequence[str]]) -> str:
    """Why preemption helps on no node, in upstream's words."""
    counts = Counter(reason for found in reasons.values() for reason in found)
    return f"0/{verdict.total} nodes are available: {_listed(counts)}."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


def _candidates(info: PodInfo, nodes: Sequence[NodeInfo], snapshot: Snapshot) -> Sequence[NodeInfo]:
    named = affinity.named_nodes(affinity.required_terms(info.pod.spec))
    if named is not None:
        return [on for name in sorted(named) if (on := snapshot.infos.get(name)) is not None and on.node is not None]
    if len(nodes) < MIN_NODES:
        return nodes
    start = snapshot.start % len(nodes)
    return [*nodes[start:], *nodes[:start]]


def _left_out(nodes: Sequence[NodeInfo], candidates: Sequence[NodeInfo]) -> dict[str, Refusal]:
    """Nodes not looked at because the pod names others."""
    if len(candidates) == len(nodes):
        return {}
    seen = {on.name for on in candidates}
    return {on.name: filter.UNFIT for on in nodes if on.name not in seen}


def _best(info: PodInfo, feasible: Sequence[NodeInfo], snapshot: Snapshot, *, total: int) -> list[str]:
    if len(feasible) == 1:
        return [feasible[0].name]
    totals = score.total(info, feasible, snapshot, total_nodes=total)
    top = max(totals)
    return [on.name for on, value in zip(feasible, totals, strict=True) if value == top]
