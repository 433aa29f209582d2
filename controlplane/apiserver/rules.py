"""The fixed rules until RBAC comes: everyone's read access, the control plane's own parts, the service network.

Pure tables and functions from a question to a decision. Nodes have rules of their own in `noderules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.apiserver.authn import AUTHENTICATED
from controlplane.apiserver.authz import ALLOWED, NO_OPINION, Attributes, Decision
from kube import bootstraptoken, pki

HEALTH = ("/healthz", "/livez", "/readyz", "/version")
DISCOVERY = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
OPENID = ("/.well-known/openid-configuration", "/openid/v1/jwks")
READ = frozenset({"get", "list", "watch"})
WRITE = frozenset({"create", "update", "patch", "delete"})
ANY = "*"


@dataclass(frozen=True, slots=True)
class Grant:
    """Verbs on resources ("pods", "pods/status", "*") of a group ("*" = all)."""

    group: str
    resources: frozenset[str]
    verbs: frozenset[str]

    def covers(self, attributes: Attributes) -> bool:
        """Whether it allows what is asked."""
        wanted = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
        return (
            self.group in (ANY, attributes.group)
            and (ANY in self.resources or wanted in self.resources)
            and (ANY in self.verbs or attributes.verb in self.verbs)
        )


def grant(group: str, resources: str, verbs: frozenset[str] | str) -> Grant:
    """A Grant from words: `grant("apps", "deployments deployments/status", READ)`."""
    chosen = verbs if isinstance(verbs, frozenset) else frozenset(verbs.split())
    return Grant(group, frozenset(resources.split()), chosen)


EVENTS = (grant("", "events", "create patch update"), grant("events.k8s.io", "events", "create patch update"))
LEASES = (grant("coordination.k8s.io", "leases", "create get update patch list watch delete"),)
REVIEWS = (
    grant("authentication.k8s.io", "tokenreviews", "create"),
    grant("authorization.k8s.io", "subjectaccessreviews", "create"),
)
SERVICE_NETWORK = (
    grant("", "services endpoints namespaces pods nodes", READ),
    grant("discovery.k8s.io", "endpointslices", READ),
    grant("networking.k8s.io", "networkpolicies servicecidrs", READ),
    *EVENTS,
)
SYSTEM_ACCOUNT = "system:serviceaccount:kube-system:"
# Upstream's controller manager works under an account for each controller. Their own roles are narrower; together they
# may do what it may.
CONTROLLER_ACCOUNTS = frozenset(
    [
        "attachdetach-controller",
        "bootstrap-signer",
        "certificate-controller",
        "clusterrole-aggregation-controller",
        "cronjob-controller",
        "daemon-set-controller",
        "deployment-controller",
        "device-taint-eviction-controller",
        "disruption-controller",
        "endpoint-controller",
        "endpointslice-controller",
        "endpointslicemirroring-controller",
        "ephemeral-volume-controller",
        "expand-controller",
        "generic-garbage-collector",
        "horizontal-pod-autoscaler",
        "job-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher",
        "legacy-service-account-token-cleaner",
        "namespace-controller",
        "node-controller",
        "persistent-volume-binder",
        "pod-garbage-collector",
        "podcertificaterequestcleaner",
        "pv-protection-controller",
        "pvc-protection-controller",
        "podgroup-protection-controller",
        "replicaset-controller",
        "replication-controller",
        "resource-claim-controller",
        "resourcepoolstatusrequest-controller",
        "resourcequota-controller",
        "service-ca-cert-publisher",
        "root-ca-cert-publisher",
        "route-controller",
        "selinux-warning-controller",
        "service-account-controller",
        "service-cidrs-controller",
        "service-controller",
        "statefulset-controller",
        "storage-version-garbage-collector",
        "storage-version-migrator-controller",
        "token-cleaner",
        "ttl-after-finished-controller",
        "ttl-controller",
        "validatingadmissionpolicy-status-controller",
        "volumeattributesclass-protection-controller",
    ]
)
COMPONENTS: Mapping[str, tuple[Grant, ...]] = {
    "system:kube-proxy": SERVICE_NETWORK,
    # What kubeadm runs as pods.
    SYSTEM_ACCOUNT + "kube-proxy": SERVICE_NETWORK,
    SYSTEM_ACCOUNT + "coredns": SERVICE_NETWORK,
    "system:kube-dns": (*SERVICE_NETWORK, *LEASES),
    "system:load-balancer": (
        *SERVICE_NETWORK,
        *LEASES,
        grant("", "services/status", "patch update"),
    ),
    "system:kube-scheduler": (
        grant(ANY, ANY, READ),
        grant("", "pods/binding bindings", "create"),
        grant("", "pods/status", "patch update"),
        grant("", "pods", "delete"),
        *EVENTS,
        *LEASES,
        *REVIEWS,
    ),
    "system:kube-controller-manager": (grant(ANY, ANY, ANY),),
}
SELF_REVIEWS = (
    grant("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", "create"),
    grant("authentication.k8s.io", "selfsubjectreviews", "create"),
)
DNS_SLICE_PREFIX = "kube-dns-"
# What kubeadm grants the group of its tokens, and the list of nodes, in which a new one looks for a namesake.
JOINING = (
    grant("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
    grant("certificates.k8s.io", "certificatesigningrequests/nodeclient", "create"),
    grant("", "nodes", READ),
)
CONFIGURATION = ("kubelet-config", "kube-proxy", "kubeadm-config", "cluster-info")
RENEWING = grant("certificates.k8s.io", "certificatesigningrequests/selfnodeclient", "create")


def everyone(attributes: Attributes) -> Decision:
    """What anybody may read: health and version; and with an identity, discovery and questions about oneself."""
    known = AUTHENTICATED in attributes.user.groups
    if not attributes.resource:
        return _path(attributes, known=known)
    if known and any(grant.covers(attributes) for grant in SELF_REVIEWS):
        return ALLOWED
    return NO_OPINION


def _path(attributes: Attributes, *, known: bool) -> Decision:
    if attributes.verb not in ("get", "head"):
        return NO_OPINION
    if _below(attributes.path, HEALTH):
        return ALLOWED
    if known and (_below(attributes.path, DISCOVERY) or attributes.path in OPENID):
        return ALLOWED
    return NO_OPINION


def _below(path: str, roots: tuple[str, ...]) -> bool:
    path = path.rstrip("/")
    return any(path == root or path.startswith(root + "/") for root in roots)


def components(attributes: Attributes) -> Decision:
    """The control plane's and the service network's own users, by name."""
    found = COMPONENTS.get(_component(attributes.user.name), ())
    if any(grant.covers(attributes) for grant in found):
        return ALLOWED
    if attributes.user.name == "system:kube-dns" and _own_slice(attributes):
        return ALLOWED
    return NO_OPINION


def _component(user: str) -> str:
    """Whose rules hold for this user."""
    if user.startswith(SYSTEM_ACCOUNT) and user.removeprefix(SYSTEM_ACCOUNT) in CONTROLLER_ACCOUNTS:
        return "system:kube-controller-manager"
    return user


def joining(attributes: Attributes) -> Decision:
    """What anybody may read before joining, what a token may do, and what a node may have renewed."""
    reads_map = (attributes.group, attributes.resource, attributes.verb) == ("", "configmaps", "get")
    if reads_map and (attributes.namespace, attributes.name) == (bootstraptoken.INFO_NAMESPACE, CONFIGURATION[-1]):
        return ALLOWED
    groups = attributes.user.groups
    if bootstraptoken.NODE_GROUP in groups and any(grant.covers(attributes) for grant in JOINING):
        return ALLOWED
    member = pki.NODE_GROUP in groups or bootstraptoken.GROUP in groups
    if member and reads_map and attributes.namespace == "kube-system" and attributes.name in CONFIGURATION:
        return ALLOWED
    if pki.NODE_GROUP in groups and RENEWING.covers(attributes):
        return ALLOWED
    return NO_OPINION


def _own_slice(attributes: Attributes) -> bool:
    """DNS servers publish themselves in EndpointSlices `kube-dns-<node>`; a creation's name is in the body."""
    if (attributes.group, attributes.resource, attributes.namespace) != (
        "discovery.k8s.io", "endpointslices", "kube-system",
    ):  # fmt: skip
        return False
    if attributes.verb == "create":
        return not attributes.name
    return attributes.verb in WRITE and attributes.name.startswith(DNS_SLICE_PREFIX)
