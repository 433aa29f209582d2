"""Where a pod may run: affinity, tolerations, spreading, gates.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

from kube.types.base import Projection
from kube.types.meta import LabelSelector


class NodeSelectorRequirement(Projection):
    """One condition on a node's label or field."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Projection):
    """Conditions that must all hold."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(Projection):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class PreferredSchedulingTerm(Projection):
    """A term that adds its weight to a node's score."""

    preference: NodeSelectorTerm | None = None
    weight: int = 0


class NodeAffinity(Projection):
    """Nodes a pod needs or prefers."""

    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class PodAffinityTerm(Projection):
    """Pods whose topology domain a pod seeks or avoids."""

    label_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    topology_key: str = ""


class WeightedPodAffinityTerm(Projection):
    """A pod affinity term with its weight."""

    pod_affinity_term: PodAffinityTerm | None = None
    weight: int = 0


class PodAffinity(Projection):
    """Pods to be near."""

    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()


class PodAntiAffinity(Projection):
    """Pods to be away from."""

    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()


class Affinity(Projection):
    """All affinity rules of a pod."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class Toleration(Projection):
    """A taint the pod puts up with, perhaps for some seconds."""

    effect: str = ""
    key: str = ""
    operator: str = ""
    toleration_seconds: int | None = None
    value: str = ""


class TopologySpreadConstraint(Projection):
    """How evenly pods must lie over topology domains."""

    label_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    max_skew: int = 0
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    topology_key: str = ""
    when_unsatisfiable: str = ""


class PodReadinessGate(Projection):
    """A condition somebody else sets before the pod counts as ready."""

    condition_type: str = ""


class PodSchedulingGate(Projection):
    """A name that keeps the pod from being scheduled."""

    name: str = ""
