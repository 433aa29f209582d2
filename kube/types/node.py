"""Nodes: capacity, conditions, addresses, taints.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import ObjectMeta


class Taint(Projection):
    """Keeps away pods that do not tolerate it."""

    effect: str = ""
    key: str = ""
    time_added: str | None = None
    value: str = ""


class NodeSpec(Projection):
    """Pod ranges, taints and the cordon mark."""

    external_id: str | None = None
    pod_cidr: str | None = None
    pod_cidrs: tuple[str, ...] = ()
    provider_id: str | None = None
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeAddress(Projection):
    """One address or name of a node."""

    address: str = ""
    type: str = ""


class NodeCondition(Projection):
    """A condition of a node."""

    status: str = ""
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None
    message: str = ""
    reason: str = ""
    type: str = ""


class DaemonEndpoint(Projection):
    """The port of a node daemon."""

    port: int = msgspec.field(default=0, name="Port")


class NodeDaemonEndpoints(Projection):
    """Ports of the node's daemons."""

    kubelet_endpoint: DaemonEndpoint | None = None


class NodeSystemInfo(Projection):
    """Versions and ids of the machine."""

    architecture: str = ""
    boot_id: str = ""
    container_runtime_version: str = ""
    kernel_version: str = ""
    kube_proxy_version: str = ""
    kubelet_version: str = ""
    machine_id: str = ""
    operating_system: str = ""
    os_image: str = ""
    system_uuid: str = ""


class ContainerImage(Projection):
    """An image present on the node."""

    names: tuple[str, ...] = ()
    size_bytes: int | None = None


class AttachedVolume(Projection):
    """A volume attached to the node."""

    device_path: str = ""
    name: str = ""


class NodeStatus(Projection):
    """The node as last seen."""

    addresses: tuple[NodeAddress, ...] = ()
    allocatable: dict[str, str | int | float] = {}
    capacity: dict[str, str | int | float] = {}
    conditions: tuple[NodeCondition, ...] = ()
    daemon_endpoints: NodeDaemonEndpoints = msgspec.field(default_factory=NodeDaemonEndpoints)
    declared_features: tuple[str, ...] = ()
    images: tuple[ContainerImage, ...] = ()
    node_info: NodeSystemInfo = msgspec.field(default_factory=NodeSystemInfo)
    phase: str | None = None
    volumes_attached: tuple[AttachedVolume, ...] = ()
    volumes_in_use: tuple[str, ...] = ()


class Node(Projection):
    """A machine pods run on."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)
