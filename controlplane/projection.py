"""What the scheduler and the controllers read of API objects: small structs that keep only those fields.

Owns the field list. Must not be written back: a projection loses whatever it does not name, so every write is a dict.
Templates, selectors and affinity stay plain dicts, because they are compared or copied as a whole.
"""

from typing import Any

import msgspec

from kube.types.base import Projection

JSON = dict[str, Any]


class OwnerReference(Projection):
    """metav1.OwnerReference, whole, so it can be written back."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Meta(Projection):
    """The fields of ObjectMeta that controllers act on. Times are RFC 3339 text."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class LeanMeta(Projection):
    """What the garbage collector reads: who this is, who owns it, what still holds it."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None


class Lean(Projection):
    """Any object, metadata only."""

    metadata: LeanMeta


class Condition(Projection):
    """One entry of a status.conditions list, whichever kind it belongs to."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_update_time: str | None = None
    last_heartbeat_time: str | None = None
    last_probe_time: str | None = None
    observed_generation: int | None = None


Quantity = str | int | float


class Resources(Projection):
    """Requests and limits by resource name."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class ContainerPort(Projection):
    """A port a container declares."""

    container_port: int
    name: str = ""
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "TCP"


class Container(Projection):
    """A container or an init container; restart_policy Always makes the latter a sidecar."""

    name: str
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: Resources = msgspec.field(default_factory=Resources)
    restart_policy: str | None = None


class Toleration(Projection):
    """What a pod puts up with. toleration_seconds is in seconds, None means for ever."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class ClaimSource(Projection):
    """The claim a volume of a pod is."""

    claim_name: str = ""


class PodVolume(Projection):
    """A volume of a pod, as far as claims go; `ephemeral` holds the template of the claim it makes."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: JSON | None = None


class PodSpec(Projection):
    """Where a pod wants to run and what it asks for."""

    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int | None = None
    preemption_policy: str | None = None
    scheduling_gates: tuple[JSON, ...] = ()
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    resources: Resources | None = None
    overhead: dict[str, Quantity] = {}
    node_selector: dict[str, str] = {}
    affinity: JSON = {}
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[JSON, ...] = ()
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    restart_policy: str = "Always"
    volumes: tuple[PodVolume, ...] = ()


class PodIP(Projection):
    """One address of a pod."""

    ip: str = ""


class ContainerStatus(Projection):
    """How a container is doing, as far as deletion order cares."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0


class PodStatus(Projection):
    """What the kubelet says about a pod."""

    phase: str = "Pending"
    conditions: tuple[Condition, ...] = ()
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    start_time: str | None = None
    container_statuses: tuple[ContainerStatus, ...] = ()
    nominated_node_name: str = ""


class Pod(Projection):
    """A pod, as the control plane's loops see it."""

    metadata: Meta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Taint(Projection):
    """A node taint. time_added is RFC 3339 text."""

    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class NodeSpec(Projection):
    """Node fields set by controllers and by kubectl cordon."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    pod_cidr: str = ""
    pod_cidrs: tuple[str, ...] = ()


class ContainerImage(Projection):
    """An image a node holds; size in bytes."""

    names: tuple[str, ...] = ()
    size_bytes: int = 0


class NodeAddress(Projection):
    """Where a node is reached, and what kind of address that is."""

    type: str = ""
    address: str = ""


class NodeStatus(Projection):
    """What a node offers and how it feels."""

    addresses: tuple[NodeAddress, ...] = ()
    allocatable: dict[str, Quantity] = {}
    capacity: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()
    images: tuple[ContainerImage, ...] = ()


class Node(Projection):
    """A node, as the control plane's loops see it."""

    metadata: Meta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class LeaseSpec(Projection):
    """Who holds a lease and when it was last renewed (RFC 3339 micro time)."""

    holder_identity: str | None = None
    renew_time: str | None = None


class Lease(Projection):
    """coordination.k8s.io Lease."""

    metadata: Meta
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


class NamespaceSpec(Projection):
    """Finalizers of a namespace: not those of its metadata."""

    finalizers: tuple[str, ...] = ()


class NamespaceStatus(Projection):
    """Phase and deletion conditions."""

    phase: str = "Active"
    conditions: tuple[Condition, ...] = ()


class Namespace(Projection):
    """A namespace."""

    metadata: Meta
    spec: NamespaceSpec = msgspec.field(default_factory=NamespaceSpec)
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)


class ConfigMap(Projection):
    """A config map with its text data."""

    metadata: Meta
    data: dict[str, str] = {}


class ServicePort(Projection):
    """One port of a Service; target_port is a number, a name, or None for the port itself."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    app_protocol: str | None = None


class ServiceSpec(Projection):
    """What decides a Service's endpoints."""

    type: str = "ClusterIP"
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = ""
    ip_families: tuple[str, ...] = ()
    publish_not_ready_addresses: bool = False
    traffic_distribution: str | None = None


class Service(Projection):
    """A Service."""

    metadata: Meta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class Endpoints(Projection):
    """Endpoints of the old API; subsets are compared whole."""

    metadata: Meta
    subsets: tuple[JSON, ...] = ()


class EndpointSlice(Projection):
    """A slice; endpoints and ports are compared whole."""

    metadata: Meta
    address_type: str = "IPv4"
    endpoints: tuple[JSON, ...] = ()
    ports: tuple[JSON, ...] = ()


class ReplicaSetSpec(Projection):
    """Desired replicas and the template they are made from."""

    replicas: int = 1
    min_ready_seconds: int = 0
    selector: JSON = {}
    template: JSON = {}


class ReplicaSetStatus(Projection):
    """The counts a ReplicaSet reports."""

    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    terminating_replicas: int | None = None
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Projection):
    """A ReplicaSet."""

    metadata: Meta
    spec: ReplicaSetSpec = msgspec.field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


class ReplicationController(Projection):
    """A ReplicationController: a ReplicaSet whose selector is a map of labels."""

    metadata: Meta
    spec: ReplicaSetSpec = msgspec.field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


class RollingUpdate(Projection):
    """Surge and unavailability, absolute or in percent."""

    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class Strategy(Projection):
    """How a Deployment replaces its pods."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = msgspec.field(default_factory=RollingUpdate)


class DeploymentSpec(Projection):
    """What a Deployment wants."""

    replicas: int = 1
    selector: JSON = {}
    template: JSON = {}
    strategy: Strategy = msgspec.field(default_factory=Strategy)
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    paused: bool = False
    progress_deadline_seconds: int = 600


class DeploymentStatus(Projection):
    """The counts and conditions a Deployment reports."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int | None = None
    collision_count: int | None = None
    conditions: tuple[Condition, ...] = ()


class Deployment(Projection):
    """A Deployment."""

    metadata: Meta
    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class QuotaPart(Projection):
    """What a quota allows, or last allowed, and to whom."""

    hard: dict[str, Quantity] = {}
    scopes: tuple[str, ...] = ()
    scope_selector: JSON = {}


class ResourceQuota(Projection):
    """A ResourceQuota; what is used of it is not kept, because that changes with every write."""

    metadata: Meta
    spec: QuotaPart = msgspec.field(default_factory=QuotaPart)
    status: QuotaPart = msgspec.field(default_factory=QuotaPart)


class BudgetSpec(Projection):
    """Whom a disruption budget protects, and how many of them must stay or may go."""

    selector: JSON | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class BudgetStatus(Projection):
    """How many of them may go now, and what that was counted from."""

    observed_generation: int = 0
    disrupted_pods: dict[str, str] = {}
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    conditions: tuple[Condition, ...] = ()


class PodDisruptionBudget(Projection):
    """A PodDisruptionBudget."""

    metadata: Meta
    spec: BudgetSpec = msgspec.field(default_factory=BudgetSpec)
    status: BudgetStatus = msgspec.field(default_factory=BudgetStatus)


class SigningRequestSpec(Projection):
    """Who asks whom to sign what; the request is PEM in base64."""

    request: str = ""
    signer_name: str = ""
    expiration_seconds: int | None = None
    usages: tuple[str, ...] = ()
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class SigningRequestStatus(Projection):
    """What became of it."""

    conditions: tuple[Condition, ...] = ()
    certificate: str = ""


class SigningRequest(Projection):
    """A CertificateSigningRequest."""

    metadata: Meta
    spec: SigningRequestSpec = msgspec.field(default_factory=SigningRequestSpec)
    status: SigningRequestStatus = msgspec.field(default_factory=SigningRequestStatus)


class Secret(Projection):
    """A Secret, its values in base64."""

    metadata: Meta
    type: str = ""
    data: dict[str, str] = {}
