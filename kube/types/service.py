"""Services and the addresses behind them.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import Condition, ObjectMeta


class ServicePort(Projection):
    """One port of a service."""

    app_protocol: str | None = None
    name: str = ""
    node_port: int = 0
    port: int = 0
    protocol: str = "TCP"
    target_port: int | str | None = None


class ClientIPConfig(Projection):
    """How long a client stays with one endpoint, in seconds."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(Projection):
    """Settings of session affinity."""

    client_ip: ClientIPConfig | None = None


class ServiceSpec(Projection):
    """Selector, ports, addresses and traffic rules."""

    allocate_load_balancer_node_ports: bool | None = None
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    external_name: str = ""
    external_traffic_policy: str | None = None
    health_check_node_port: int = 0
    internal_traffic_policy: str = "Cluster"
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    publish_not_ready_addresses: bool = False
    selector: dict[str, str] = {}
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    traffic_distribution: str | None = None
    type: str = "ClusterIP"


class PortStatus(Projection):
    """The state of a load balancer's port."""

    error: str | None = None
    port: int = 0
    protocol: str = "TCP"


class LoadBalancerIngress(Projection):
    """An address a load balancer answers on."""

    hostname: str | None = None
    ip: str | None = None
    ip_mode: str | None = None
    ports: tuple[PortStatus, ...] = ()


class LoadBalancerStatus(Projection):
    """The addresses of a load balancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Projection):
    """Load balancer addresses and conditions."""

    conditions: tuple[Condition, ...] = ()
    load_balancer: LoadBalancerStatus = msgspec.field(default_factory=LoadBalancerStatus)


class Service(Projection):
    """A name and address for a set of pods."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


class ServiceCIDRSpec(Projection):
    """The ranges, one of each IP version at most."""

    cidrs: tuple[str, ...] = ()


class ServiceCIDR(Projection):
    """Ranges that cluster addresses are taken from."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: ServiceCIDRSpec = msgspec.field(default_factory=ServiceCIDRSpec)


class ObjectReference(Projection):
    """An object, by kind, name and uid."""

    api_version: str = ""
    kind: str = ""
    field_path: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    uid: str = ""


class EndpointAddress(Projection):
    """One address of an Endpoints object."""

    hostname: str | None = None
    ip: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Projection):
    """One port of an Endpoints object or EndpointSlice."""

    app_protocol: str | None = None
    name: str | None = None
    port: int = 0
    protocol: str = "TCP"


class EndpointSubset(Projection):
    """Addresses with the same ports."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Projection):
    """All addresses behind a service, in one object."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    subsets: tuple[EndpointSubset, ...] = ()
