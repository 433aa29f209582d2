"""The few fields of Services, EndpointSlices and pods that names are made of; nothing else is kept in memory.

Projections for decoding only (see `kube.types`): a cluster of many thousand Services is held by every node's server.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection

HEADLESS = "None"


class Meta(Projection, gc=False):
    """Name, namespace and revision."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class Port(Projection, gc=False):
    """A port of a Service or a slice."""

    name: str | None = None
    port: int | None = None
    protocol: str = "TCP"


class ServiceSpec(Projection, gc=False):
    """What decides a Service's names."""

    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_name: str = ""
    ports: tuple[Port, ...] = ()
    publish_not_ready_addresses: bool = False
    type: str = "ClusterIP"


class Service(Projection, gc=False):
    """A Service, as far as names go."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class SliceLabels(Projection, gc=False):
    """Whose slice it is, and who writes it."""

    service_name: str = msgspec.field(default="", name="kubernetes.io/service-name")
    managed_by: str = msgspec.field(default="", name="endpointslice.kubernetes.io/managed-by")


class SliceMeta(Projection, gc=False):
    """Name, namespace, revision and the labels that matter."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: SliceLabels = msgspec.field(default_factory=SliceLabels)


class Conditions(Projection, gc=False):
    """Unknown counts as ready."""

    ready: bool | None = None


class Endpoint(Projection, gc=False):
    """One endpoint with its addresses."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions = msgspec.field(default_factory=Conditions)
    hostname: str | None = None
    node_name: str | None = None


class EndpointSlice(Projection, gc=False):
    """Some endpoints of a Service."""

    metadata: SliceMeta = msgspec.field(default_factory=SliceMeta)
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Port, ...] = ()


class PodAddress(Projection, gc=False):
    """One address of a pod."""

    ip: str = ""


class PodStatus(Projection, gc=False):
    """The addresses a pod has, and whether it runs."""

    phase: str = ""
    pod_ips: tuple[PodAddress, ...] = ()


class PodSpec(Projection, gc=False):
    """Whether the pod shares its node's addresses."""

    host_network: bool = False


class Pod(Projection, gc=False):
    """A pod, as far as names go."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Namespace(Projection, gc=False):
    """A namespace: its name alone."""

    metadata: Meta = msgspec.field(default_factory=Meta)
