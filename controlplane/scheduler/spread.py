"""Topology spread: pods of a kind kept even over zones or nodes. Pure, with upstream's texts.

A domain is a value of the constraint's topology key. Skew is how many more pods of the kind a domain has than the
emptiest one.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane import tolerations
from controlplane.projection import JSON, Node, Pod
from controlplane.scheduler import affinity, interpod
from kube.labels import Selector

PLUGIN = "PodTopologySpread"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_REFUSING = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint of a pod. honors_*: whether nodes the pod cannot use anyway are left out of the count."""

    topology_key: str
    max_skew: int
    selector: Selector
    min_domains: int = 1
    honors_affinity: bool = True
    honors_taints: bool = False


# What a pod of a workload gets when it says nothing: soft, over nodes and zones.
DEFAULTS = ((HOSTNAME, 3), (ZONE, 5))


def constraints(pod: Pod, *, hard: bool) -> tuple[Constraint, ...]:
    """The constraints that forbid (hard), or those that only prefer."""
    wanted = "DoNotSchedule" if hard else "ScheduleAnyway"
    entries = pod.spec.topology_spread_constraints
    return tuple(
        _constraint(pod, entry) for entry in entries if entry.get("whenUnsatisfiable", "DoNotSchedule") == wanted
    )


def _constraint(pod: Pod, entry: JSON) -> Constraint:
    return Constraint(
        entry.get("topologyKey", ""),
        entry.get("maxSkew", 1),
        interpod.with_label_keys(pod, entry),
        entry.get("minDomains") or 1,
        entry.get("nodeAffinityPolicy", "Honor") == "Honor",
        entry.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


@dataclass(frozen=True, slots=True)
class Domains:
    """How many pods of the kind each domain of a constraint has."""

    constraint: Constraint
    counts: Mapping[str, int]
    self_match: int

    def allows(self, value: str) -> bool:
        """Whether one more pod in a domain keeps the skew."""
        fewest = min(self.counts.values(), default=0) if len(self.counts) >= self.constraint.min_domains else 0
        return self.counts.get(value, 0) + self.self_match - fewest <= self.constraint.max_skew


def count(pod: Pod, wanted: Sequence[Constraint], nodes: Iterable[tuple[Node, Iterable[Pod]]]) -> list[Domains]:
    """Count pods of the kind by domain, over the nodes that have every key and that the pod could use."""
    counters: list[Counter[str]] = [Counter() for _ in wanted]
    terms = affinity.required_terms(pod.spec)
    for node, pods in nodes:
        if not all(each.topology_key in node.metadata.labels for each in wanted):
            continue
        here = list(pods)
        fits = affinity.fits(pod.spec, node, terms)
        for counter, each in zip(counters, wanted, strict=True):
            if (each.honors_affinity and not fits) or (each.honors_taints and _tainted(pod, node)):
                continue
            counter[node.metadata.labels[each.topology_key]] += sum(1 for one in here if _is_kin(pod, one, each))
    return [
        Domains(each, dict(counter), int(each.selector.matches(pod.metadata.labels)))
        for counter, each in zip(counters, wanted, strict=True)
    ]


def _is_kin(pod: Pod, other: Pod, constraint: Constraint) -> bool:
    meta = other.metadata
    same = meta.namespace == pod.metadata.namespace and not meta.deletion_timestamp
    return same and constraint.selector.matches(meta.labels)


def _tainted(pod: Pod, node: Node) -> bool:
    refusing = [taint for taint in node.spec.taints if taint.effect in _REFUSING]
    return bool(tolerations.untolerated(pod.spec.tolerations, refusing))


def scores(counted: Sequence[tuple[str, int, Mapping[str, int]]], nodes: Sequence[Mapping[str, str]]) -> list[int]:
    """0 to 100 for each node, given as its labels: the emptier its domains, the better.

    counted: topology key, max skew, and pods of the kind by domain. A node without a key counts as a domain of none.
    """
    raw = [0.0] * len(nodes)
    for key, max_skew, counts in counted:
        domains = {each[key] for each in nodes if key in each}
        weight = math.log(len(domains) + 2)
        for position, each in enumerate(nodes):
            if key in each:
                raw[position] += counts.get(each[key], 0) * weight + max_skew - 1
    rounded = [round(value) for value in raw]
    low, high = min(rounded, default=0), max(rounded, default=0)
    return [100 * (high + low - value) // high if high else 100 for value in rounded]
