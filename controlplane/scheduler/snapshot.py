"""What is where: nodes, the pods on them, and sums that are kept up to date, one change at a time.

Owns the scheduler's picture of the cluster. Must not decide anything. Decisions read it between two events, so it
never changes under one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.projection import Node, Pod
from controlplane.scheduler import interpod, resources, volumes
from controlplane.scheduler.interpod import Neighbour, Terms
from controlplane.scheduler.resources import Amounts

HostPort = tuple[str, str, int]  # protocol, address, port


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod with everything decisions ask of it worked out once."""

    pod: Pod
    request: Amounts
    scored: tuple[int, int]
    ports: tuple[HostPort, ...]
    priority: int
    terms: Terms = interpod.NONE
    controller: str = ""  # UID of the owner that manages it

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.pod.metadata.uid

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"


def pod_info(pod: Pod) -> PodInfo:
    """Work a pod out."""
    spec = pod.spec
    ports = tuple(
        (port.protocol, port.host_ip or "0.0.0.0", port.host_port or (port.container_port if spec.host_network else 0))
        for container in (*spec.containers, *(c for c in spec.init_containers if c.restart_policy == "Always"))
        for port in container.ports
        if port.host_port or spec.host_network
    )
    return PodInfo(
        pod,
        resources.pod_request(spec),
        resources.scored_request(spec),
        ports,
        spec.priority or 0,
        interpod.terms(pod),
        next((ref.uid for ref in pod.metadata.owner_references if ref.controller), ""),
    )


@dataclass(slots=True)
class NodeInfo:
    """A node and the sums of what its pods take. node is None while only pods on it are known."""

    name: str
    node: Node | None = None
    allocatable: Amounts = field(default_factory=dict)
    requested: Amounts = field(default_factory=dict)
    scored_cpu: int = 0
    scored_memory: int = 0
    pods: dict[str, PodInfo] = field(default_factory=dict)
    ports: Counter[HostPort] = field(default_factory=Counter)

    def add(self, info: PodInfo) -> None:
        """Count a pod in."""
        self.pods[info.uid] = info
        for name, amount in info.request.items():
            self.requested[name] = self.requested.get(name, 0) + amount
        self.scored_cpu += info.scored[0]
        self.scored_memory += info.scored[1]
        self.ports.update(info.ports)

    def remove(self, uid: str) -> None:
        """Count a pod out; unknown ones are ignored."""
        info = self.pods.pop(uid, None)
        if info is None:
            return
        for name, amount in info.request.items():
            self.requested[name] -= amount
        self.scored_cpu -= info.scored[0]
        self.scored_memory -= info.scored[1]
        for port in info.ports:
            self.ports[port] -= 1
            if not self.ports[port]:
                del self.ports[port]

    def without(self, uids: Iterable[str]) -> "NodeInfo":
        """A copy without some pods: for asking what if."""
        copy = self.copy()
        for uid in uids:
            copy.remove(uid)
        return copy

    def plus(self, infos: Iterable[PodInfo]) -> "NodeInfo":
        """A copy with some more pods: for asking what if."""
        copy = self.copy()
        for info in infos:
            copy.add(info)
        return copy

    def copy(self) -> "NodeInfo":
        """One that can be changed without changing this."""
        return NodeInfo(
            self.name,
            self.node,
            self.allocatable,
            dict(self.requested),
            self.scored_cpu,
            self.scored_memory,
            dict(self.pods),
            Counter(self.ports),
        )


class Snapshot:
    """The cluster as the scheduler sees it, its own decisions included before the API shows them."""

    def __init__(self) -> None:
        self.infos: dict[str, NodeInfo] = {}
        self.images: dict[str, dict[str, int]] = {}  # image name -> node name -> bytes
        self.namespaces: dict[str, Mapping[str, str]] = {}  # labels by namespace name
        self.storage = volumes.Storage()
        self.with_terms: dict[str, PodInfo] = {}  # placed pods that want something of other pods, by UID
        self.siblings: dict[str, Counter[str]] = {}  # controller UID -> node name -> pods
        self._where: dict[str, str] = {}  # pod UID -> node name
        self._assumed: set[str] = set()
        self._nominated: dict[str, dict[str, PodInfo]] = {}  # node name -> pods room is being made for, by UID
        self._nominations: dict[str, str] = {}  # pod UID -> node name
        self._start = 0

    @property
    def nodes(self) -> list[NodeInfo]:
        """Nodes that exist."""
        return [info for info in self.infos.values() if info.node is not None]

    def put_node(self, node: Node) -> None:
        """Add or update a node."""
        info = self._info(node.metadata.name)
        if info.node is None or info.node.status.images != node.status.images:
            self._drop_images(info)
            for image in node.status.images:
                for name in image.names:
                    self.images.setdefault(name, {})[info.name] = image.size_bytes
        info.node = node
        info.allocatable = resources.amounts(node.status.allocatable)

    def remove_node(self, name: str) -> None:
        """A node is gone; pods still bound to it keep counting, in case it comes back."""
        info = self.infos.get(name)
        if info is None:
            return
        self._drop_images(info)
        info.node, info.allocatable = None, {}
        self._tidy(name)

    def put_pod(self, pod: Pod) -> None:
        """A pod that the API shows bound to a node."""
        uid = pod.metadata.uid
        self._assumed.discard(uid)
        known = self.infos.get(self._where.get(uid, ""))
        if known and known.name == pod.spec.node_name and _same_needs(known.pods[uid].pod, pod):
            return
        self.remove_pod(uid)
        self._place(pod_info(pod), pod.spec.node_name)

    def remove_pod(self, uid: str) -> None:
        """A pod that takes nothing any more."""
        self._assumed.discard(uid)
        name = self._where.pop(uid, None)
        if name is None:
            return
        self._unlist(self.infos[name].pods[uid], name)
        self.infos[name].remove(uid)
        self._tidy(name)

    def assume(self, info: PodInfo, node: str) -> None:
        """Count a decision as done before the API has answered."""
        self._place(info, node)
        self._assumed.add(info.uid)

    def forget(self, uid: str) -> None:
        """Undo assume() after a failure; a pod the API has shown bound meanwhile stays."""
        if uid in self._assumed:
            self.remove_pod(uid)

    def nominate(self, info: PodInfo, node: str) -> None:
        """Remember that room is being made for a pod: pods of no higher priority must not take it."""
        if self._nominations.get(info.uid) != node:
            self.clear_nomination(info.uid)
        self._nominations[info.uid] = node
        self._nominated.setdefault(node, {})[info.uid] = info

    def clear_nomination(self, uid: str) -> None:
        """The pod is placed, gone, or hopes for nothing any more."""
        node = self._nominations.pop(uid, None)
        if node is not None:
            self._nominated[node].pop(uid)
            if not self._nominated[node]:
                del self._nominated[node]

    def nomination(self, uid: str) -> str:
        """The node on which room is being made for a pod, "" for none."""
        return self._nominations.get(uid, "")

    def awaited_on(self, node: str, *, by: PodInfo) -> list[PodInfo]:
        """Pods nominated to a node that take precedence over one, itself left out."""
        if not self._nominated:
            return []
        pods = self._nominated.get(node, {}).values()
        return [one for one in pods if one.priority >= by.priority and one.uid != by.uid]

    def placed(self, *, without: frozenset[str] = frozenset()) -> Iterator[tuple[Node, list[Pod]]]:
        """Nodes with the pods on them; without: UIDs to think away."""
        for on in self.infos.values():
            if on.node is not None:
                yield on.node, [each.pod for uid, each in on.pods.items() if uid not in without]

    def neighbours(self, *, only_with_terms: bool, without: frozenset[str] = frozenset()) -> Iterator[Neighbour]:
        """Placed pods with the labels of their nodes: all, or those that want something of other pods."""
        if only_with_terms:
            for uid, info in self.with_terms.items():
                if uid in without:
                    continue
                yield Neighbour(info.pod, info.terms, self._labels(self._where[info.uid]))
            return
        for node in self.infos.values():
            labels = self._labels(node.name)
            for uid, info in node.pods.items():
                if uid in without:
                    continue
                yield Neighbour(info.pod, info.terms, labels)

    def _labels(self, node: str) -> Mapping[str, str]:
        found = self.infos[node].node
        return found.metadata.labels if found else {}

    def holds(self, uid: str) -> bool:
        """Whether a pod already has a place, shown or assumed."""
        return uid in self._where

    def advance(self, steps: int, *, count: int) -> None:
        """Move on by the nodes just looked at, so that all get their turn."""
        self._start = (self._start + steps) % max(1, count)

    @property
    def start(self) -> int:
        """Index of the node to look at first."""
        return self._start

    def _place(self, info: PodInfo, node: str) -> None:
        self._info(node).add(info)
        self._where[info.uid] = node
        if info.terms is not interpod.NONE:
            self.with_terms[info.uid] = info
        if info.controller:
            self.siblings.setdefault(info.controller, Counter())[node] += 1

    def _unlist(self, info: PodInfo, node: str) -> None:
        self.with_terms.pop(info.uid, None)
        counts = self.siblings.get(info.controller)
        if counts is None:
            return
        counts[node] -= 1
        if not counts[node]:
            del counts[node]
        if not counts:
            del self.siblings[info.controller]

    def _info(self, name: str) -> NodeInfo:
        if name not in self.infos:
            self.infos[name] = NodeInfo(name)
        return self.infos[name]

    def _tidy(self, name: str) -> None:
        info = self.infos[name]
        if info.node is None and not info.pods:
            del self.infos[name]

    def _drop_images(self, info: NodeInfo) -> None:
        for image in info.node.status.images if info.node else ():
            for name in image.names:
                holders = self.images.get(name, {})
                holders.pop(info.name, None)
                if not holders:
                    self.images.pop(name, None)


def _same_needs(old: Pod, new: Pod) -> bool:
    """Status updates are most of what happens to pods, and change nothing here."""
    return (old.spec.containers, old.spec.resources, old.metadata.labels, old.metadata.deletion_timestamp) == (
        new.spec.containers,
        new.spec.resources,
        new.metadata.labels,
        new.metadata.deletion_timestamp,
    )
