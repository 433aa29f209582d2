"""NetworkPolicy objects as rules that can be compared with pods and packets. PURE.

Follows the API's defaults: without `policyTypes` a policy is about ingress, and about egress when it has egress rules;
a rule without peers means anyone, without ports any traffic. Must not know nftables.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cni.policy.model import Pod
from kube import labels
from kube.labels import Selector
from kube.types import IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort

INGRESS, EGRESS = "ingress", "egress"
LAST_PORT = 65535

Range = tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]


class PolicyError(Exception):
    """A policy that cannot be read; the message names it and the field."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Pods by labels, in one namespace, or in the namespaces that a selector chooses."""

    namespace: str
    namespaces: Selector | None
    pods: Selector

    def matches(self, pod: Pod, namespace_labels: Mapping[str, str] | None) -> bool:
        """Whether a pod is meant; `namespace_labels` None is a namespace that is not known (yet)."""
        if self.namespaces is None:
            inside = pod.namespace == self.namespace
        else:
            inside = namespace_labels is not None and self.namespaces.matches(namespace_labels)
        return inside and self.pods.matches(pod.labels)


@dataclass(frozen=True, slots=True)
class PeerSet:
    """The pods of one rule; equal sets have equal names."""

    name: str
    peers: tuple[Peer, ...]

    def matches(self, pod: Pod, namespace_labels: Mapping[str, str] | None) -> bool:
        """Whether a pod belongs to it."""
        return any(peer.matches(pod, namespace_labels) for peer in self.peers)


@dataclass(frozen=True, slots=True)
class BlockSet:
    """The address blocks of one rule without their exceptions, as disjoint ranges."""

    name: str
    ranges: tuple[Range, ...]

    def matches(self, address: str) -> bool:
        """Whether an address is inside."""
        wanted = ip_address(address)
        return any(low.version == wanted.version and low <= wanted <= high for low, high in self.ranges)  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class PortMatch:
    """A protocol (lower case), with a range of ports, or a port's name, or neither: all of the protocol."""

    protocol: str
    first: int = 0
    last: int = 0
    name: str = ""

    def matches(self, protocol: str, port: int, owner: Pod | None) -> bool:
        """Whether it means a port of `owner`, the pod that the connection goes to (None: no pod)."""
        if protocol != self.protocol:
            return False
        if self.name:
            named = owner.ports if owner else ()
            return any((p.name, p.protocol, p.port) == (self.name, protocol, port) for p in named)
        return not self.first or self.first <= port <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `ingress` or `egress`; without peers and blocks it means anyone, unless `nobody`."""

    peers: PeerSet | None = None
    blocks: BlockSet | None = None
    ports: tuple[PortMatch, ...] = ()

    @property
    def anyone(self) -> bool:
        """Whether it does not ask who is on the other side."""
        return self.peers is None and self.blocks is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A NetworkPolicy. A direction's rules are None when the policy is not about it, () when it allows nothing."""

    namespace: str
    name: str
    pods: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None

    @property
    def key(self) -> str:
        """As informers key it."""
        return f"{self.namespace}/{self.name}"

    def rules(self, direction: str) -> tuple[Rule, ...] | None:
        """The rules of a direction."""
        return self.ingress if direction == INGRESS else self.egress

    def selects(self, pod: Pod) -> bool:
        """Whether it is about a pod."""
        return pod.namespace == self.namespace and self.pods.matches(pod.labels)


def policy(found: NetworkPolicy) -> Policy:
    """The rules of an object. Raises PolicyError."""
    spec, meta = found.spec, found.metadata
    types = spec.policy_types or (("Ingress", "Egress") if spec.egress else ("Ingress",))
    try:
        return Policy(
            namespace=meta.namespace,
            name=meta.name,
            pods=labels.from_object(spec.pod_selector),
            ingress=tuple(_rule(r.from_, r.ports, meta.namespace) for r in spec.ingress)
            if "Ingress" in types
            else None,
            egress=tuple(_rule(r.to, r.ports, meta.namespace) for r in spec.egress) if "Egress" in types else None,
        )
    except (labels.SelectorError, ValueError) as error:
        raise PolicyError(f"networkpolicy {meta.namespace}/{meta.name} cannot be read: {error}") from error


def _rule(peers: Iterable[NetworkPolicyPeer], ports: Iterable[NetworkPolicyPort], namespace: str) -> Rule:
    chosen = tuple(_peer(peer, namespace) for peer in peers if peer.ip_block is None)
    blocks = [peer.ip_block for peer in peers if peer.ip_block is not None]
    return Rule(
        peers=PeerSet(name("peers", *map(_identity, chosen)), chosen) if chosen else None,
        blocks=_block_set(blocks) if blocks else None,
        ports=tuple(map(_port, ports)),
    )


def _peer(peer: NetworkPolicyPeer, namespace: str) -> Peer:
    chosen = labels.EVERYTHING if peer.pod_selector is None else labels.from_object(peer.pod_selector)
    if peer.namespace_selector is None:
        return Peer(namespace, None, chosen)
    return Peer("", labels.from_object(peer.namespace_selector), chosen)


def _identity(peer: Peer) -> str:
    where = f"namespaces {peer.namespaces}" if peer.namespaces is not None else f"namespace {peer.namespace}"
    return f"{where}; pods {peer.pods}"


def _port(port: NetworkPolicyPort) -> PortMatch:
    protocol = port.protocol.lower()
    if isinstance(port.port, str):
        return PortMatch(protocol, name=port.port)
    return PortMatch(protocol, port.port or 0, port.end_port or port.port or 0)


def _block_set(blocks: Iterable[IPBlock]) -> BlockSet:
    ranges = merged(part for block in blocks for part in _without(block))
    return BlockSet(name("blocks", *(f"{low}-{high}" for low, high in ranges)), ranges)


def _without(block: IPBlock) -> list[Range]:
    """A block's addresses that are not in one of its exceptions."""
    whole = ip_network(block.cidr, strict=False)
    left: list[Range] = []
    make = type(whole.network_address)
    start, end = int(whole.network_address), int(whole.broadcast_address)
    for hole in sorted((ip_network(each, strict=False) for each in block.except_), key=lambda n: int(n[0])):
        if hole.version != whole.version:
            continue
        if int(hole[0]) > start:
            left.append((make(start), make(min(int(hole[0]) - 1, end))))  # type: ignore[arg-type]
        start = max(start, int(hole[-1]) + 1)
    if start <= end:
        left.append((make(start), make(end)))  # type: ignore[arg-type]
    return left


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same addresses as disjoint ranges in order, as an interval set wants them."""
    found: list[Range] = []
    for low, high in sorted(ranges, key=lambda r: (r[0].version, int(r[0]))):
        last = found[-1] if found else None
        if last is not None and last[0].version == low.version and int(low) <= int(last[1]) + 1:
            found[-1] = (last[0], max(last[1], high))  # type: ignore[assignment]
        else:
            found.append((low, high))  # type: ignore[arg-type]
    return tuple(found)


def name(kind: str, *parts: str) -> str:
    """A name that follows from content: what is equal is shared, what differs never meets."""
    return f"{kind}-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}"
