"""What holds for nodes: a new one starts tainted, and a kubelet writes only what is its own.

Upstream's TaintNodesByCondition and NodeRestriction plug-ins.
"""

from typing import Any

from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.admission.pods import MIRROR
from controlplane.apiserver.noderules import LEASE_NAMESPACE, node_name
from controlplane.apiserver.rules import DNS_SLICE_PREFIX
from kube import status
from kube.scheme import ENDPOINT_SLICES, LEASES, NODES, PODS

Object = dict[str, Any]
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
RESTRICTED = "node-restriction.kubernetes.io/"
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os",
        "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/arch", "beta.kubernetes.io/os",
    }
)  # fmt: skip
KUBELET_PREFIXES = ("kubelet.kubernetes.io/", "node.kubernetes.io/")


class TaintNodesByCondition(Plugin):
    """A new node is not ready until a controller has seen that it is."""

    async def mutate(self, attributes: Attributes) -> None:
        """Add the taint."""
        if attributes.operation != "CREATE" or attributes.resource is not NODES:
            return
        spec = attributes.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY["key"] for taint in taints):
            spec["taints"] = [*taints, dict(NOT_READY)]


class NodeRestriction(Plugin):
    """Keeps `system:node:<name>` to its own node, lease and pods."""

    async def validate(self, attributes: Attributes) -> None:
        """Refuse what is another node's."""
        node = node_name(attributes.user.name, attributes.user.groups)
        if not node:
            return
        fault = ""
        if attributes.resource is NODES:
            fault = _node_fault(node, attributes)
        elif attributes.resource is PODS:
            fault = _pod_fault(node, attributes)
        elif attributes.resource is LEASES:
            if attributes.namespace != LEASE_NAMESPACE or attributes.name != node:
                fault = f"can only access node lease with the same name as the requesting node {node}"
        elif attributes.resource is ENDPOINT_SLICES and attributes.name != DNS_SLICE_PREFIX + node:
            fault = f'can only write the endpoint slice "{DNS_SLICE_PREFIX}{node}"'
        if fault:
            raise status.forbidden(fault, resource=attributes.resource, name=attributes.name)


def _node_fault(node: str, attributes: Attributes) -> str:
    if attributes.name != node:
        return f'node "{node}" is not allowed to modify node "{attributes.name}"'
    before = attributes.old or {}
    taints, had = ((obj.get("spec") or {}).get("taints") for obj in (attributes.obj, before))
    if attributes.operation == "UPDATE" and taints != had:
        return f'node "{node}" is not allowed to modify taints'
    changed = _changed_labels(attributes.obj, before)
    wrong = sorted(key for key in changed if not _label_allowed(key))
    if attributes.operation in ("CREATE", "UPDATE") and wrong:
        return f"is not allowed to modify labels: {', '.join(wrong)}"
    return ""


def _changed_labels(obj: Object, old: Object) -> set[str]:
    new, before = obj["metadata"].get("labels") or {}, (old.get("metadata") or {}).get("labels") or {}
    return {key for key in new.keys() | before.keys() if new.get(key) != before.get(key)}


def _label_allowed(key: str) -> bool:
    prefix, slash, _ = key.rpartition("/")
    if not slash or key in KUBELET_LABELS or key.startswith(KUBELET_PREFIXES):
        return True
    if (prefix + "/").endswith(RESTRICTED):
        return False
    return not (prefix in ("kubernetes.io", "k8s.io") or prefix.endswith((".kubernetes.io", ".k8s.io")))


def _pod_fault(node: str, attributes: Attributes) -> str:
    pod = attributes.old if attributes.old is not None else attributes.obj
    bound = (pod.get("spec") or {}).get("nodeName", "")
    if attributes.operation == "CREATE":
        if MIRROR not in (pod["metadata"].get("annotations") or {}):
            return f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
        if bound != node:
            return f'node "{node}" can only create pods with spec.nodeName set to itself'
        return ""
    if bound != node:
        verb = "delete" if attributes.operation == "DELETE" else "update status for"
        return f'node "{node}" can only {verb} pods with spec.nodeName set to itself'
    return ""
