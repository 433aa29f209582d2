"""Which routes lead to the pods of the other nodes, and what must change in the kernel. PURE.

Peers on the same link get a plain route by their node address.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from cni.netlink import IPAddress, Network
from kube.types import Node


@dataclass(frozen=True, slots=True, order=False)
class Route:
    """Packets to `destination` go to the node at `gateway`."""

    destination: Network
    gateway: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What turns the observed routes into the desired ones; additions also replace."""

    add: tuple[Route, ...] = ()
    remove: tuple[Route, ...] = ()


def pod_cidrs(node: Node) -> tuple[str, ...]:
    """A node's pod ranges: `spec.podCIDRs`, else `spec.podCIDR`."""
    return tuple(node.spec.pod_cidrs) or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())


def routes_to(node: Node) -> frozenset[Route]:
    """The routes to one peer; empty until it has both a range and an address of the same IP version."""
    addresses = [ip_address(a.address) for a in node.status.addresses if a.type == "InternalIP"]
    by_version = {address.version: address for address in reversed(addresses)}
    networks = map(ip_network, pod_cidrs(node))
    return frozenset(
        Route(network, by_version[network.version]) for network in networks if network.version in by_version
    )


def desired(nodes: Iterable[Node], *, own: str) -> Mapping[str, frozenset[Route]]:
    """The routes by node name, for every node but our own."""
    return {node.metadata.name: routes_to(node) for node in nodes if node.metadata.name != own}


def change(wanted: Iterable[Route], observed: Iterable[Route]) -> Change:
    """Routes to add and to remove. A destination that only moves to another gateway is replaced, never removed."""
    goal, present = frozenset(wanted), frozenset(observed)
    kept = {route.destination for route in goal}
    return Change(
        add=tuple(sorted(goal - present, key=str)),
        remove=tuple(sorted((r for r in present - goal if r.destination not in kept), key=str)),
    )
