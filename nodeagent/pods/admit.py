"""Whether this node takes a pod that was bound to it: room, labels, system, sysctls. PURE, in upstream's words."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from kube import quantity, types
from nodeagent.pods import plan, sandbox, security, spec
from nodeagent.resources import qos

SYSTEM: Final = "linux"
NAMES: Final = {"cpu": "OutOfcpu", "memory": "OutOfmemory", "ephemeral-storage": "OutOfephemeral-storage"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the decision depends on."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]
    unsafe_sysctls: tuple[str, ...] = ()
    under: frozenset[str] = frozenset()
    groups_policy: bool = False
    """Whether the runtime can leave out the groups an image has: one that cannot would give a pod too many."""
    going_down: bool = False
    user_namespaces: bool = False


def reject(pod: types.Pod, *, others: Iterable[types.Pod], node: Node) -> plan.End | None:
    """Why the pod cannot run here, None if it can. `others` are the pods that run here already."""
    if node.going_down:
        return plan.End(reason="NodeShutdown", message="Pod was rejected as the node is shutting down.")
    if pressing := pressure(pod, node):
        return plan.End(reason="Evicted", message=f"Pod was rejected: The node had condition: [{pressing}]. ")
    if unfit := wrong_system(pod):
        return unfit
    if security.of_pod(pod).supplemental_groups_policy == "Strict" and not node.groups_policy:
        why = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return rejected("SupplementalGroupsPolicyNotSupported", why)
    if not selected(pod, node):
        return rejected("NodeAffinity", "Predicate NodeAffinity failed")
    forbidden = sandbox.forbidden_sysctls(pod, allowed=node.unsafe_sysctls)
    if forbidden:
        return plan.End(reason="SysctlForbidden", message=forbidden[0])
    if unsupported := impossible(pod, user_namespaces=node.user_namespaces):
        return rejected("UnexpectedAdmissionError", unsupported)
    present = [other for other in others if other.metadata.uid != pod.metadata.uid]
    if any(clash(mine, theirs) for other in present for theirs in host_ports(other) for mine in host_ports(pod)):
        return rejected("NodePorts", "Predicate NodePorts failed")
    most = quantity.parse(node.allocatable.get("pods", "0")).value()
    if len(present) + 1 > most:
        return out_of("pods", asked=1, used=len(present), capacity=most)
    return no_room(pod, qos.total(present), node)


def pressure(pod: types.Pod, node: Node) -> str:
    """The node's condition that keeps the pod away, "" for none; only a few matter more than the node."""
    critical = spec.is_static(pod) or (pod.spec.priority or 0) >= qos.NODE_CRITICAL
    if not node.under or critical:
        return ""
    if node.under == {"MemoryPressure"}:
        tolerates = any(
            t.key == "node.kubernetes.io/memory-pressure" and t.effect in ("", "NoSchedule")
            for t in pod.spec.tolerations
        )
        return "MemoryPressure" if qos.qos_class(pod) == qos.BEST_EFFORT and not tolerates else ""
    return " ".join(sorted(node.under))


def wrong_system(pod: types.Pod) -> plan.End | None:
    """A pod for another operating system, by its label or its own field."""
    if pod.metadata.labels.get("kubernetes.io/os", SYSTEM) != SYSTEM:
        why = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return rejected("PodOSSelectorNodeLabelDoesNotMatch", why)
    if pod.spec.os is not None and pod.spec.os.name != SYSTEM:
        return rejected("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def impossible(pod: types.Pod, *, user_namespaces: bool) -> str:
    """What this agent cannot do at all, "" for nothing: better said than half done."""
    if pod.spec.host_users is False and not user_namespaces:
        return "spec.hostUsers: user namespaces are not supported by this node's runtime"
    return ""


def host_ports(pod: types.Pod) -> list[types.ContainerPort]:
    """The ports of the node it wants."""
    return [port for c in (*pod.spec.init_containers, *pod.spec.containers) for port in c.ports if port.host_port]


def clash(one: types.ContainerPort, other: types.ContainerPort) -> bool:
    """Whether two pods want the same port on the same address; no address means every one."""
    everywhere = ("", "0.0.0.0", "::")
    same = (one.host_port, one.protocol) == (other.host_port, other.protocol)
    return same and (one.host_ip == other.host_ip or one.host_ip in everywhere or other.host_ip in everywhere)


def no_room(pod: types.Pod, used: qos.Amounts, node: Node) -> plan.End | None:
    """The first resource there is too little of."""
    for name, wanted in qos.pod_requests(pod).items():
        amount = wanted.milli() if name == "cpu" else wanted.value()
        if amount == 0 or (extended(name) and name not in node.allocatable):
            continue
        limit = quantity.parse(node.allocatable.get(name, "0"))
        have = limit.milli() if name == "cpu" else limit.value()
        taken = used.get(name)
        gone = 0 if taken is None else taken.milli() if name == "cpu" else taken.value()
        if amount + gone > have:
            return out_of(name, asked=amount, used=gone, capacity=have)
    return None


def extended(name: str) -> bool:
    """Whether a resource is somebody else's invention; one this node does not count is the cluster's to give out."""
    return "/" in name and "kubernetes.io/" not in name


def out_of(name: str, *, asked: int, used: int, capacity: int) -> plan.End:
    """Too little of a resource, as upstream says it (cpu in thousandths)."""
    text = f"Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
    return rejected(NAMES.get(name, f"OutOf{name}"), text)


def rejected(reason: str, text: str) -> plan.End:
    """A pod that fails before it started."""
    return plan.End(reason=reason, message=f"Pod was rejected: {text}")


def selected(pod: types.Pod, node: Node) -> bool:
    """Whether nodeSelector and the required node affinity hold for this node."""
    if any(node.labels.get(name) != value for name, value in pod.spec.node_selector.items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if required is None:
        return True
    return any(term_matches(term, node) for term in required.node_selector_terms)


def term_matches(term: types.NodeSelectorTerm, node: Node) -> bool:
    """Whether all of a term's requirements hold; an empty term matches nothing."""
    fields = {"metadata.name": node.name}
    wanted = [*((r, node.labels) for r in term.match_expressions), *((r, fields) for r in term.match_fields)]
    return bool(wanted) and all(requirement_holds(r, values) for r, values in wanted)


def requirement_holds(requirement: types.NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    """One requirement of a node selector."""
    have, wanted = values.get(requirement.key), requirement.values
    match requirement.operator:
        case "In":
            return have is not None and have in wanted
        case "NotIn":
            return have not in wanted
        case "Exists":
            return have is not None
        case "DoesNotExist":
            return have is None
        case "Gt":
            return compared(have, wanted, greater=True)
        case "Lt":
            return compared(have, wanted, greater=False)
    return False


def compared(have: str | None, wanted: tuple[str, ...], *, greater: bool) -> bool:
    """Gt and Lt, which compare whole numbers."""
    try:
        left, right = int(have or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return left > right if greater else left < right
