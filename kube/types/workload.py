"""Deployments, ReplicaSets and the other kinds that make pods.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import LabelSelector, ObjectMeta
from kube.types.pod import PodTemplateSpec


class RollingUpdateDeployment(Projection):
    """How many pods may be missing or too many during an update."""

    max_surge: int | str | None = None
    max_unavailable: int | str | None = None


class DeploymentStrategy(Projection):
    """How new pods replace old ones."""

    rolling_update: RollingUpdateDeployment | None = None
    type: str | None = None


class DeploymentSpec(Projection):
    """Replicas, selector, template and update rules."""

    min_ready_seconds: int = 0
    paused: bool = False
    progress_deadline_seconds: int | None = None
    replicas: int | None = None
    revision_history_limit: int | None = None
    selector: LabelSelector | None = None
    strategy: DeploymentStrategy = msgspec.field(default_factory=DeploymentStrategy)
    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)


class DeploymentCondition(Projection):
    """A condition of a Deployment."""

    status: str = ""
    last_transition_time: str | None = None
    last_update_time: str | None = None
    message: str = ""
    reason: str = ""
    type: str = ""


class DeploymentStatus(Projection):
    """Counts of a Deployment's pods."""

    available_replicas: int = 0
    collision_count: int | None = None
    conditions: tuple[DeploymentCondition, ...] = ()
    observed_generation: int = 0
    ready_replicas: int = 0
    replicas: int = 0
    terminating_replicas: int | None = None
    unavailable_replicas: int = 0
    updated_replicas: int = 0


class Deployment(Projection):
    """Pods kept up and rolled forward through ReplicaSets."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class ReplicaSetSpec(Projection):
    """Replicas, selector and template."""

    min_ready_seconds: int = 0
    replicas: int | None = None
    selector: LabelSelector | None = None
    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)


class ReplicaSetCondition(Projection):
    """A condition of a ReplicaSet."""

    status: str = ""
    last_transition_time: str | None = None
    message: str = ""
    reason: str = ""
    type: str = ""


class ReplicaSetStatus(Projection):
    """Counts of a ReplicaSet's pods."""

    available_replicas: int = 0
    conditions: tuple[ReplicaSetCondition, ...] = ()
    fully_labeled_replicas: int = 0
    observed_generation: int = 0
    ready_replicas: int = 0
    replicas: int = 0
    terminating_replicas: int | None = None


class ReplicaSet(Projection):
    """A fixed number of equal pods."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: ReplicaSetSpec = msgspec.field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


class JobSpec(Projection):
    """Completions, parallelism and limits."""

    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    completion_mode: str | None = None
    completions: int | None = None
    managed_by: str | None = None
    manual_selector: bool = False
    max_failed_indexes: int | None = None
    parallelism: int | None = None
    pod_replacement_policy: str | None = None
    selector: LabelSelector | None = None
    suspend: bool | None = None
    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)
    ttl_seconds_after_finished: int | None = None


class JobCondition(Projection):
    """A condition of a Job."""

    status: str = ""
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str = ""
    reason: str = ""
    type: str = ""


class JobStatus(Projection):
    """Counts and times of a Job."""

    active: int = 0
    completed_indexes: str | None = None
    completion_time: str | None = None
    conditions: tuple[JobCondition, ...] = ()
    failed: int = 0
    failed_indexes: str | None = None
    ready: int | None = None
    start_time: str | None = None
    succeeded: int = 0
    terminating: int | None = None


class Job(Projection):
    """Pods that run to completion."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: JobSpec = msgspec.field(default_factory=JobSpec)
    status: JobStatus = msgspec.field(default_factory=JobStatus)
