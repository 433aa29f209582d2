"""What was last seen of a pod: phase, conditions, addresses, containers.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.container import ResourceRequirements
from kube.types.meta import ObjectMeta
from kube.types.pod import PodSpec


class ContainerStateWaiting(Projection):
    """Not started yet, and why."""

    message: str = ""
    reason: str = ""


class ContainerStateRunning(Projection):
    """Running since."""

    started_at: str | None = None


class ContainerStateTerminated(Projection):
    """Ended: how and when."""

    container_id: str | None = None
    exit_code: int = 0
    finished_at: str | None = None
    message: str = ""
    reason: str = ""
    signal: int | None = None
    started_at: str | None = None


class ContainerState(Projection):
    """Exactly one attribute is set; none means waiting."""

    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None
    waiting: ContainerStateWaiting | None = None


class VolumeMountStatus(Projection):
    """How a mount turned out."""

    mount_path: str = ""
    name: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None


class ContainerStatus(Projection):
    """One container as last seen."""

    allocated_resources: dict[str, str | int | float] = {}
    container_id: str | None = None
    image: str = ""
    image_id: str = ""
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    name: str = ""
    ready: bool = False
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    restart_count: int = 0
    started: bool | None = None
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    stop_signal: str | None = None
    volume_mounts: tuple[VolumeMountStatus, ...] = ()


class PodIP(Projection):
    """One address of a pod."""

    ip: str = ""


class HostIP(Projection):
    """One address of the pod's node."""

    ip: str = ""


class PodCondition(Projection):
    """A condition of a pod."""

    status: str = ""
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str = ""
    observed_generation: int | None = None
    reason: str = ""
    type: str = ""


class PodStatus(Projection):
    """The pod as last seen."""

    allocated_resources: dict[str, str | int | float] = {}
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    host_ip: str = ""
    host_ips: tuple[HostIP, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    message: str = ""
    nominated_node_name: str | None = None
    observed_generation: int | None = None
    phase: str = ""
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    qos_class: str | None = None
    reason: str = ""
    resize: str | None = None
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    start_time: str | None = None


class Pod(Projection):
    """A pod: containers that share one node, network and volumes."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)
