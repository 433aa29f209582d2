"""From Services to a RuleSet, and from two RuleSets to what changed. PURE.

A RuleSet is flat: one entry per cluster address, protocol and port. Backends keep their place in the list when others
come and go (a new one is appended, the last one fills a hole), so that a change touches few elements and moves nobody
without need.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from kube.types import EndpointSlice, Service
from proxy.services import endpoints, tracker
from proxy.services.model import ServiceKey


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRules:
    """What happens at one frontend: balance over `backends`; without any, refuse, or `drop`."""

    backends: tuple[Backend, ...] = ()
    drop: bool = False
    hairpins: frozenset[str] = frozenset()
    """Addresses of backends that may be the client itself: pods on this node."""


Rules = Mapping[Frontend, PortRules]


@dataclass(slots=True)
class RuleSet:
    """Everything that is to be in the kernel, by Service, with how often each hairpin address is wanted."""

    services: dict[ServiceKey, Rules] = field(default_factory=dict)
    hairpins: Counter[str] = field(default_factory=Counter)

    def ports(self) -> dict[Frontend, PortRules]:
        """All frontends of all Services."""
        return {frontend: rules for ports in self.services.values() for frontend, rules in ports.items()}

    def replace(self, key: ServiceKey, rules: Rules) -> None:
        """Puts the rules of one Service in place of what it had; empty rules remove it."""
        gone = [address for old in self.services.pop(key, {}).values() for address in old.hairpins]
        self.hairpins.subtract(gone)
        if rules:
            self.services[key] = rules
        for new in rules.values():
            self.hairpins.update(new.hairpins)
        for address in gone:
            if not self.hairpins[address]:
                del self.hairpins[address]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What turns the kernel's rules into the wanted ones: per frontend (before, after), and hairpin addresses."""

    ports: Mapping[Frontend, tuple[PortRules | None, PortRules | None]] = field(default_factory=dict)
    add_hairpins: frozenset[str] = frozenset()
    remove_hairpins: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ports or self.add_hairpins or self.remove_hairpins)


def plan(service: Service | None, slices: Iterable[EndpointSlice], *, node: str, before: Rules) -> Rules:
    """The rules of one Service on this node; `before` are those it has, for the places of its backends."""
    found = tuple(slices)
    rules: dict[Frontend, PortRules] = {}
    for port in tracker.ports(service):
        candidates = tracker.endpoints(found, port)
        for address in port.addresses:
            frontend = Frontend(str(ip_address(address)), port.protocol, port.port)
            choice = endpoints.choose(candidates, node=node, local_only=port.local_only, version=frontend.version)
            old = before.get(frontend)
            rules[frontend] = PortRules(
                backends=stable(old.backends if old else (), {Backend(e.address, e.port) for e in choice.usable}),
                drop=choice.drop,
                hairpins=frozenset(e.address for e in choice.usable if e.node in ("", node)),
            )
    return rules


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
    hairpins: Counter[str] = Counter()
    for key, rules in wanted.items():
        before |= applied.services.get(key, {})
        after |= rules
    for old in before.values():
        hairpins.subtract(old.hairpins)
    for new in after.values():
        hairpins.update(new.hairpins)
    ports = {
        frontend: (before.get(frontend), after.get(frontend))
        for frontend in before.keys() | after.keys()
        if before.get(frontend) != after.get(frontend)
    }
    count = applied.hairpins
    return Changes(
        ports=ports,
        add_hairpins=frozenset(a for a, n in hairpins.items() if n > 0 and not count[a]),
        remove_hairpins=frozenset(a for a, n in hairpins.items() if n < 0 and count[a] and not count[a] + n),
    )
