"""The scheme table: every resource this project serves or reads, and the words Kubernetes uses for it.

Owns names, scopes, short names, categories, verbs and URL paths. Must not know how a resource is
stored, validated or printed: those live behind the same table elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)
_STATUS_VERBS = ("get", "patch", "update")
_CONNECT_VERBS = ("create", "get")
_PROXY_VERBS = ("create", "delete", "get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource of one group and version; `group` is "" for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[str, ...] = ()
    storage: str = ""
    """The `group_resource` whose objects this resource shows; empty means its own."""

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """The kind of its collection: "PodList"."""
        return self.kind + "List"

    @property
    def group_resource(self) -> str:
        """The name messages use: "pods", "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def group_kind(self) -> str:
        """The kind as messages name it: "Pod", "Deployment.apps"."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def storage_key(self) -> str:
        """Where its objects are kept: its own `group_resource`, or that of the resource it shares with."""
        return self.storage or self.group_resource

    @property
    def virtual(self) -> bool:
        """True for kinds that are answered but never stored (reviews, bindings)."""
        return self.verbs == CREATE_ONLY

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of one of its subresources."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
            if subresource:
                parts.append(subresource)
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Subresource:
    """What discovery says of a subresource: the kind it speaks, and its verbs."""

    name: str
    group: str
    version: str
    kind: str
    verbs: tuple[str, ...]


_OWN_VERBS = {"finalize": ("update",)}
_FOREIGN = {
    "attach": Subresource("attach", "", "v1", "PodAttachOptions", _CONNECT_VERBS),
    "binding": Subresource("binding", "", "v1", "Binding", CREATE_ONLY),
    "eviction": Subresource("eviction", "policy", "v1", "Eviction", CREATE_ONLY),
    "exec": Subresource("exec", "", "v1", "PodExecOptions", _CONNECT_VERBS),
    "log": Subresource("log", "", "v1", "Pod", ("get",)),
    "portforward": Subresource("portforward", "", "v1", "PodPortForwardOptions", _CONNECT_VERBS),
    "scale": Subresource("scale", "autoscaling", "v1", "Scale", _STATUS_VERBS),
    "token": Subresource("token", "authentication.k8s.io", "v1", "TokenRequest", CREATE_ONLY),
}


def subresource(resource: Resource, *, name: str) -> Subresource | None:
    """What `resource`/`name` speaks, or None where the resource has no such subresource."""
    if name not in resource.subresources:
        return None
    if name in _FOREIGN:
        return _FOREIGN[name]
    if name == "proxy":
        verbs = ("get",) if resource.kind == "Node" else _PROXY_VERBS
        return Subresource(name, "", "v1", f"{resource.kind}ProxyOptions", verbs)
    return Subresource(name, resource.group, resource.version, resource.kind, _OWN_VERBS.get(name, _STATUS_VERBS))


_ALL = ("all",)
_STATUS = ("status",)
_SCALED = ("scale", "status")
_POD_SUBRESOURCES = (
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
    "status",
)
_NO_COLLECTION = tuple(verb for verb in ALL_VERBS if verb != "deletecollection")


def _core(kind: str, plural: str, short: tuple[str, ...] = (), *, namespaced: bool = True, **more: object) -> Resource:
    return _resource("", kind, plural, short, namespaced=namespaced, **more)


def _resource(
    group: str, kind: str, plural: str, short: tuple[str, ...] = (), *, namespaced: bool = True, **more: object
) -> Resource:
    singular = kind.lower()
    return Resource(group, "v1", kind, plural, singular, namespaced, short, **more)  # type: ignore[arg-type]


BINDINGS = _core("Binding", "bindings", verbs=CREATE_ONLY)
CONFIG_MAPS = _core("ConfigMap", "configmaps", ("cm",))
ENDPOINTS = _core("Endpoints", "endpoints", ("ep",))
EVENTS = _core("Event", "events", ("ev",))
LIMIT_RANGES = _core("LimitRange", "limitranges", ("limits",))
NAMESPACES = _core(
    "Namespace", "namespaces", ("ns",), namespaced=False, verbs=_NO_COLLECTION, subresources=("finalize", "status")
)
NODES = _core("Node", "nodes", ("no",), namespaced=False, subresources=("proxy", "status"))
PERSISTENT_VOLUME_CLAIMS = _core("PersistentVolumeClaim", "persistentvolumeclaims", ("pvc",), subresources=_STATUS)
PERSISTENT_VOLUMES = _core("PersistentVolume", "persistentvolumes", ("pv",), namespaced=False, subresources=_STATUS)
PODS = _core("Pod", "pods", ("po",), categories=_ALL, subresources=_POD_SUBRESOURCES)
POD_TEMPLATES = _core("PodTemplate", "podtemplates")
REPLICATION_CONTROLLERS = _core(
    "ReplicationController", "replicationcontrollers", ("rc",), categories=_ALL, subresources=_SCALED
)
RESOURCE_QUOTAS = _core("ResourceQuota", "resourcequotas", ("quota",), subresources=_STATUS)
SECRETS = _core("Secret", "secrets")
SERVICE_ACCOUNTS = _core("ServiceAccount", "serviceaccounts", ("sa",), subresources=("token",))
SERVICES = _core("Service", "services", ("svc",), categories=_ALL, subresources=("proxy", "status"))

CONTROLLER_REVISIONS = _resource("apps", "ControllerRevision", "controllerrevisions")
DAEMON_SETS = _resource("apps", "DaemonSet", "daemonsets", ("ds",), categories=_ALL, subresources=_STATUS)
DEPLOYMENTS = _resource("apps", "Deployment", "deployments", ("deploy",), categories=_ALL, subresources=_SCALED)
REPLICA_SETS = _resource("apps", "ReplicaSet", "replicasets", ("rs",), categories=_ALL, subresources=_SCALED)
STATEFUL_SETS = _resource("apps", "StatefulSet", "statefulsets", ("sts",), categories=_ALL, subresources=_SCALED)

CRON_JOBS = _resource("batch", "CronJob", "cronjobs", ("cj",), categories=_ALL, subresources=_STATUS)
JOBS = _resource("batch", "Job", "jobs", categories=_ALL, subresources=_STATUS)

CERTIFICATE_SIGNING_REQUESTS = _resource(
    "certificates.k8s.io",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    ("csr",),
    namespaced=False,
    subresources=("approval", "status"),
)
LEASES = _resource("coordination.k8s.io", "Lease", "leases")
ENDPOINT_SLICES = _resource("discovery.k8s.io", "EndpointSlice", "endpointslices")
EVENTS_V1 = _resource("events.k8s.io", "Event", "events", ("ev",), storage="events")
_FLOW = "flowcontrol.apiserver.k8s.io"
FLOW_SCHEMAS = _resource(_FLOW, "FlowSchema", "flowschemas", namespaced=False, subresources=_STATUS)
PRIORITY_LEVEL_CONFIGURATIONS = _resource(
    _FLOW, "PriorityLevelConfiguration", "prioritylevelconfigurations", namespaced=False, subresources=_STATUS
)
INGRESS_CLASSES = _resource("networking.k8s.io", "IngressClass", "ingressclasses", namespaced=False)
INGRESSES = _resource("networking.k8s.io", "Ingress", "ingresses", ("ing",), subresources=_STATUS)
IP_ADDRESSES = Resource("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "ipaddress", False, ("ip",))
NETWORK_POLICIES = _resource("networking.k8s.io", "NetworkPolicy", "networkpolicies", ("netpol",))
SERVICE_CIDRS = _resource("networking.k8s.io", "ServiceCIDR", "servicecidrs", namespaced=False, subresources=_STATUS)
RUNTIME_CLASSES = _resource("node.k8s.io", "RuntimeClass", "runtimeclasses", namespaced=False)
POD_DISRUPTION_BUDGETS = _resource(
    "policy", "PodDisruptionBudget", "poddisruptionbudgets", ("pdb",), subresources=_STATUS
)
_DEVICES = "resource.k8s.io"
DEVICE_CLASSES = _resource(_DEVICES, "DeviceClass", "deviceclasses", namespaced=False)
RESOURCE_CLAIMS = _resource(_DEVICES, "ResourceClaim", "resourceclaims", subresources=_STATUS)
RESOURCE_CLAIM_TEMPLATES = _resource(_DEVICES, "ResourceClaimTemplate", "resourceclaimtemplates")
RESOURCE_SLICES = _resource(_DEVICES, "ResourceSlice", "resourceslices", namespaced=False)
PRIORITY_CLASSES = _resource("scheduling.k8s.io", "PriorityClass", "priorityclasses", ("pc",), namespaced=False)
CSI_DRIVERS = _resource("storage.k8s.io", "CSIDriver", "csidrivers", namespaced=False)
CSI_NODES = _resource("storage.k8s.io", "CSINode", "csinodes", namespaced=False)
CSI_STORAGE_CAPACITIES = _resource("storage.k8s.io", "CSIStorageCapacity", "csistoragecapacities")
STORAGE_CLASSES = _resource("storage.k8s.io", "StorageClass", "storageclasses", ("sc",), namespaced=False)
VOLUME_ATTACHMENTS = _resource(
    "storage.k8s.io", "VolumeAttachment", "volumeattachments", namespaced=False, subresources=_STATUS
)
VOLUME_ATTRIBUTES_CLASSES = _resource(
    "storage.k8s.io", "VolumeAttributesClass", "volumeattributesclasses", ("vac",), namespaced=False
)

_AUTHENTICATION = "authentication.k8s.io"
SELF_SUBJECT_REVIEWS = _resource(
    _AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", namespaced=False, verbs=CREATE_ONLY
)
TOKEN_REVIEWS = _resource(_AUTHENTICATION, "TokenReview", "tokenreviews", namespaced=False, verbs=CREATE_ONLY)

_AUTHORIZATION = "authorization.k8s.io"
LOCAL_SUBJECT_ACCESS_REVIEWS = _resource(
    _AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=CREATE_ONLY
)
SELF_SUBJECT_ACCESS_REVIEWS = _resource(
    _AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False, verbs=CREATE_ONLY
)
SELF_SUBJECT_RULES_REVIEWS = _resource(
    _AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False, verbs=CREATE_ONLY
)
SUBJECT_ACCESS_REVIEWS = _resource(
    _AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", namespaced=False, verbs=CREATE_ONLY
)

RESOURCES: tuple[Resource, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Resource))
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}
_BY_PLURAL = {(resource.group, resource.version, resource.plural): resource for resource in RESOURCES}


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The resource of an object's `apiVersion` and `kind`."""
    return _BY_KIND.get((api_version, kind))


def by_plural(group: str, version: str, plural: str) -> Resource | None:
    """The resource of a URL's group ("" for core), version and plural name."""
    return _BY_PLURAL.get((group, version, plural))


def group_versions() -> tuple[tuple[str, str], ...]:
    """Every served (group, version), the core group first, then in table order."""
    return tuple(dict.fromkeys((resource.group, resource.version) for resource in RESOURCES))


def in_group(group: str, version: str) -> Iterable[Resource]:
    """The resources of one group and version, in table order."""
    return (resource for resource in RESOURCES if (resource.group, resource.version) == (group, version))
