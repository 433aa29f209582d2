"""What a node may do: read what its pods need, write what is its own (upstream's Node authorizer).

Owns the rules of `system:node:<name>`. Looks at pods through a small reader of the store; knows no HTTP.
"""

from collections.abc import Callable, Iterable
from typing import Any

from controlplane.apiserver.authz import ALLOWED, NO_OPINION, Attributes, Decision
from controlplane.apiserver.rules import DNS_SLICE_PREFIX, EVENTS, READ, REVIEWS, SERVICE_NETWORK, grant

Object = dict[str, Any]
PodsOf = Callable[[str, str], Iterable[Object]]
PREFIX = "system:node:"
GROUP = "system:nodes"
GRANTS = (
    *SERVICE_NETWORK,
    *EVENTS,
    *REVIEWS,
    grant("node.k8s.io", "runtimeclasses", READ),
    grant("storage.k8s.io", "csidrivers storageclasses", READ),
    grant("storage.k8s.io", "csinodes", "get create update patch delete"),
    grant("storage.k8s.io", "volumeattachments", "get"),
    grant("", "persistentvolumes", "get"),
    # At its start a kubelet clears what an earlier one published; it is content to hear that there is no such kind.
    grant("resource.k8s.io", "resourceslices", "deletecollection"),
    grant("", "nodes", "create"),
    grant("", "pods", "create delete"),
    grant("", "pods/status", "get patch update"),
    grant("", "pods/eviction", "create"),
    grant("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
    grant("coordination.k8s.io", "leases", "create"),
)
# Whose pods, whose account, whose lease it is, is checked by admission where the object decides.
BOUND = {"secrets": "secret", "configmaps": "config map", "persistentvolumeclaims": "claim"}
LEASE_NAMESPACE = "kube-node-lease"


def node_name(user_name: str, groups: Iterable[str]) -> str:
    """The node a user is, or ""."""
    return user_name.removeprefix(PREFIX) if user_name.startswith(PREFIX) and GROUP in groups else ""


class NodeRules:
    """The rule for nodes; `pods_of(node, namespace)` are the pods bound to a node in a namespace."""

    def __init__(self, pods_of: PodsOf) -> None:
        self._pods_of = pods_of

    def __call__(self, attributes: Attributes, /) -> Decision:
        """Judge one question of a node."""
        node = node_name(attributes.user.name, attributes.user.groups)
        if not node:
            return NO_OPINION
        if attributes.resource in BOUND and attributes.group == "":
            return self._bound(node, attributes)
        if attributes.resource == "serviceaccounts":
            return self._account(node, attributes)
        if any(grant.covers(attributes) for grant in GRANTS) or _own(node, attributes):
            return ALLOWED
        return NO_OPINION

    def _bound(self, node: str, attributes: Attributes) -> Decision:
        kind = BOUND[attributes.resource]
        if attributes.verb not in READ or not attributes.namespace or not attributes.name:
            return Decision(False, f"can only read namespaced object of this type: a node reads one {kind} by its name")
        pods = self._pods_of(node, attributes.namespace)
        if any(attributes.name in references(pod, attributes.resource) for pod in pods):
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _account(self, node: str, attributes: Attributes) -> Decision:
        pods = self._pods_of(node, attributes.namespace)
        mine = any((pod["spec"].get("serviceAccountName") or "default") == attributes.name for pod in pods)
        if attributes.subresource == "token" and attributes.verb == "create" and mine:
            return ALLOWED
        if not attributes.subresource and attributes.verb == "get" and mine:
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")


def _own(node: str, attributes: Attributes) -> bool:
    if (attributes.group, attributes.resource) == ("", "nodes"):
        return attributes.name == node and attributes.verb in ("update", "patch", "get", "delete")
    if (attributes.group, attributes.resource) == ("coordination.k8s.io", "leases"):
        return attributes.namespace == LEASE_NAMESPACE and attributes.name == node
    if (attributes.group, attributes.resource) == ("discovery.k8s.io", "endpointslices"):
        mine = attributes.name in ("", DNS_SLICE_PREFIX + node)
        return (
            attributes.namespace == "kube-system"
            and mine
            and attributes.verb in ("create", "update", "patch", "delete")
        )
    return False


def references(pod: Object, resource: str) -> set[str]:
    """The names of the secrets, configmaps or claims a pod uses: volumes, environment, image pulls."""
    spec = pod.get("spec") or {}
    if resource == "persistentvolumeclaims":
        return {_claim(pod, volume) for volume in spec.get("volumes") or []} - {""}
    found: set[str] = set()
    for volume in spec.get("volumes") or []:
        found |= _of_volume(volume, resource)
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            found |= _of_container(container, resource)
    if resource == "secrets":
        found |= {item.get("name", "") for item in spec.get("imagePullSecrets") or []}
    return found - {""}


def _claim(pod: Object, volume: Object) -> str:
    """The claim behind a volume, or "": a named one, or the one made for this pod."""
    if volume.get("ephemeral"):
        return f"{pod['metadata']['name']}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def _of_volume(volume: Object, resource: str) -> set[str]:
    found = set()
    source = volume.get("secret" if resource == "secrets" else "configMap") or {}
    found.add(source.get("secretName") or source.get("name") or "")
    for projected in (volume.get("projected") or {}).get("sources") or []:
        found.add((projected.get("secret" if resource == "secrets" else "configMap") or {}).get("name", ""))
    if resource == "secrets":
        for other in volume.values():
            if isinstance(other, dict) and isinstance(other.get("secretRef"), dict):
                found.add(other["secretRef"].get("name", ""))
    return found


def _of_container(container: Object, resource: str) -> set[str]:
    one, many = ("secretKeyRef", "secretRef") if resource == "secrets" else ("configMapKeyRef", "configMapRef")
    found = {((env.get("valueFrom") or {}).get(one) or {}).get("name", "") for env in container.get("env") or []}
    return found | {(source.get(many) or {}).get("name", "") for source in container.get("envFrom") or []}
