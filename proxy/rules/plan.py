"""From Services to a RuleSet, and from two RuleSets to what changed. PURE.

A RuleSet is flat: one entry per address, protocol and port that clients connect to, whether it is a cluster address, an
external one or a NodePort of one of the node's addresses. Backends keep their place in the list when others come and go
(a new one is appended, the last one fills a hole), so that a change touches few elements and moves nobody without need.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import NamedTuple

from kube.types import EndpointSlice, Service
from proxy.services import endpoints, tracker
from proxy.services.model import Endpoint, ServiceKey, ServicePort, ThisNode

CLUSTER, EXTERNAL, BALANCER, NODE_PORT = "cluster", "external", "balancer", "node-port"


class Frontend(NamedTuple):
    """Where a client connects: address, `tcp`/`udp`/`sctp`, port."""

    address: str
    protocol: str
    port: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


class Backend(NamedTuple):
    """Where the connection is sent."""

    address: str
    port: int


class Shared(NamedTuple):
    """What several frontends may want marked: a cluster address, or a pod here that may meet itself."""

    kind: str
    address: str


CLUSTER_ADDRESS, HAIRPIN = "cluster-address", "hairpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRules:
    """What happens at one frontend: balance over `backends`; without any, refuse, or `drop`.

    With `local_only` (externalTrafficPolicy Local) that is for pods and the node itself, and who comes from outside
    gets `local`, or silence when nobody is here. `sources` are the only blocks let in; None lets everybody in.
    `affinity` keeps a client with its backend for so many seconds. `kind` is how the Service got the address, `title`
    its port in upstream's words. `lingering` serve what they have but get nothing new (UDP only: their flows stay).
    `health_port` is where load balancers ask whether the Service has endpoints here; 0 is nowhere.
    """

    backends: tuple[Backend, ...] = ()
    drop: bool = False
    hairpins: frozenset[str] = frozenset()
    kind: str = CLUSTER
    title: str = ""
    local_only: bool = False
    local: tuple[Backend, ...] = ()
    affinity: int = 0
    sources: tuple[str, ...] | None = None
    lingering: frozenset[Backend] = frozenset()
    health_port: int = 0

    def shared(self, frontend: Frontend) -> Iterable[Shared]:
        """The addresses this entry wants marked."""
        if self.kind == CLUSTER:
            yield Shared(CLUSTER_ADDRESS, frontend.address)
        for address in self.hairpins:
            yield Shared(HAIRPIN, address)


Rules = Mapping[Frontend, PortRules]


@dataclass(slots=True)
class RuleSet:
    """Everything that is to be in the kernel, by Service; who owns each frontend; how often a mark is wanted.

    `ranges` are the blocks that cluster addresses are taken from: what is sent to one that no Service has is dropped.
    """

    services: dict[ServiceKey, Rules] = field(default_factory=dict)
    owners: dict[Frontend, ServiceKey] = field(default_factory=dict)
    shared: Counter[Shared] = field(default_factory=Counter)
    ranges: tuple[str, ...] = ()

    def ports(self) -> dict[Frontend, PortRules]:
        """All frontends of all Services."""
        return {frontend: rules for ports in self.services.values() for frontend, rules in ports.items()}

    def replace(self, key: ServiceKey, rules: Rules) -> None:
        """Puts the rules of one Service in place of what it had; empty rules remove it."""
        for frontend, old in self.services.pop(key, {}).items():
            if self.owners.get(frontend) == key:
                del self.owners[frontend]
            self._count(old.shared(frontend), -1)
        if rules:
            self.services[key] = rules
        for frontend, new in rules.items():
            self.owners[frontend] = key
            self._count(new.shared(frontend), 1)

    def _count(self, marks: Iterable[Shared], step: int) -> None:
        for mark in marks:
            self.shared[mark] += step
            if not self.shared[mark]:
                del self.shared[mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What turns the kernel's rules into the wanted ones: per frontend (before, after), and shared marks."""

    ports: Mapping[Frontend, tuple[PortRules | None, PortRules | None]] = field(default_factory=dict)
    add: frozenset[Shared] = frozenset()
    remove: frozenset[Shared] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ports or self.add or self.remove)


def plan(service: Service | None, slices: Iterable[EndpointSlice], *, node: ThisNode, before: Rules) -> Rules:
    """The rules of one Service on this node; `before` are those it has, for the places of its backends."""
    found = tuple(slices)
    rules: dict[Frontend, PortRules] = {}
    for port in tracker.ports(service):
        candidates = tracker.endpoints(found, port)
        for kind, frontend in _frontends(port, node):
            if frontend not in rules:
                rules[frontend] = _rules(port, frontend, kind, candidates, node=node, old=before.get(frontend))
    return rules


def settle(applied: RuleSet, wanted: Mapping[ServiceKey, Rules]) -> tuple[dict[ServiceKey, Rules], list[Frontend]]:
    """Gives each frontend to one Service: to who has it and still wants it, else to the first by name.

    Returns what each Service gets, and the frontends that somebody else wanted too.
    """
    taken: dict[Frontend, ServiceKey] = {}
    for key, rules in wanted.items():
        taken |= {frontend: key for frontend in rules if applied.owners.get(frontend) == key}
    contested: list[Frontend] = []
    settled: dict[ServiceKey, Rules] = {}
    for key in sorted(wanted):
        for frontend in wanted[key]:
            owner = applied.owners.get(frontend)
            if owner is not None and owner not in wanted:
                taken[frontend] = owner
            if taken.setdefault(frontend, key) != key:
                contested.append(frontend)
        settled[key] = {frontend: rules for frontend, rules in wanted[key].items() if taken[frontend] == key}
    return settled, contested


def stable(before: tuple[Backend, ...], wanted: Collection[Backend]) -> tuple[Backend, ...]:
    """The wanted backends, each at its old place where that is possible."""
    kept: list[Backend | None] = [backend if backend in wanted else None for backend in before]
    newcomers = sorted(set(wanted) - set(before))
    for place, backend in enumerate(kept):
        if backend is None and newcomers:
            kept[place] = newcomers.pop(0)
    kept.extend(newcomers)
    while None in kept:
        last = kept.pop()
        if last is not None:
            kept[kept.index(None)] = last
    return tuple(backend for backend in kept if backend is not None)


def difference(applied: RuleSet, wanted: Mapping[ServiceKey, Rules]) -> Changes:
    """What to change for the Services in `wanted`; all the others stay. Cost follows the change."""
    before: dict[Frontend, PortRules] = {}
    after: dict[Frontend, PortRules] = {}
    marks: Counter[Shared] = Counter()
    for key, rules in wanted.items():
        before |= applied.services.get(key, {})
        after |= rules
    for frontend, old in before.items():
        marks.subtract(old.shared(frontend))
    for frontend, new in after.items():
        marks.update(new.shared(frontend))
    ports = {
        frontend: (before.get(frontend), after.get(frontend))
        for frontend in before.keys() | after.keys()
        if before.get(frontend) != after.get(frontend)
    }
    count = applied.shared
    return Changes(
        ports=ports,
        add=frozenset(mark for mark, n in marks.items() if n > 0 and not count[mark]),
        remove=frozenset(mark for mark, n in marks.items() if n < 0 and count[mark] and not count[mark] + n),
    )


def ready_here(service: Service | None, slices: Iterable[EndpointSlice], *, node: str) -> int:
    """How many ready endpoints a Service has on a node: what its health check tells. Those that end do not count."""
    found = tuple(slices)
    here = {
        e.address for p in tracker.ports(service) for e in tracker.endpoints(found, p) if e.ready and e.node == node
    }
    return len(here)


def without_local(rules: RuleSet, *, external: bool, version: int) -> int:
    """How many Service ports have endpoints, but none on this node, under a Local policy; of one IP version."""
    ports = [port for frontend, port in rules.ports().items() if frontend.version == version]
    if external:
        return len({port.title for port in ports if port.local_only and port.backends and not port.local})
    return len({port.title for port in ports if port.kind == CLUSTER and port.drop})


def _frontends(port: ServicePort, node: ThisNode) -> Iterable[tuple[str, Frontend]]:
    for kind, addresses in (
        (CLUSTER, port.cluster_addresses),
        (BALANCER, port.balancer_addresses),
        (EXTERNAL, port.external_addresses),
    ):
        for address in addresses:
            yield kind, Frontend(address, port.protocol, port.port)
    for address in node.node_port_addresses if port.node_port else ():
        yield NODE_PORT, Frontend(address, port.protocol, port.node_port)


def _rules(
    port: ServicePort,
    frontend: Frontend,
    kind: str,
    candidates: frozenset[Endpoint],
    *,
    node: ThisNode,
    old: PortRules | None,
) -> PortRules:
    internal, version = kind == CLUSTER, frontend.version
    choice = endpoints.choose(candidates, node=node, local_only=internal and port.internal_local, version=version)
    local_only = not internal and port.external_local
    here = endpoints.choose(candidates, node=node, local_only=True, version=version) if local_only else None
    used = choice.usable | (here.usable if here else frozenset())
    return PortRules(
        backends=stable(old.backends if old else (), _backends(choice.usable)),
        drop=choice.drop,
        hairpins=frozenset(e.address for e in used if e.node in ("", node.name)),
        kind=kind,
        title=port.title,
        local_only=local_only,
        local=stable(old.local if old else (), _backends(here.usable)) if here else (),
        affinity=port.affinity,
        sources=_of_version(port.sources, version) if kind == BALANCER else None,
        health_port=0 if internal else port.health_port,
        lingering=_backends(e for e in candidates - used if e.serving) if port.protocol == "udp" else frozenset(),
    )


def _backends(found: Iterable[Endpoint]) -> frozenset[Backend]:
    return frozenset(Backend(endpoint.address, endpoint.port) for endpoint in found)


def _of_version(blocks: tuple[str, ...] | None, version: int) -> tuple[str, ...] | None:
    return None if blocks is None else tuple(b for b in blocks if ip_network(b).version == version)
