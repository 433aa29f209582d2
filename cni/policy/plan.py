"""Which chains, sets and elements make the kernel judge as the policies say. PURE.

A pod that is isolated in a direction is an element of that direction's map and leads to a chain. A chain holds what the
policies of its pods allow together; pods with the same policies share one. Who is on the other side is looked up in a
set, so a packet costs the same with any number of pods, and a change of one pod is a change of elements.

Chains and sets are named after what they hold and never change: a changed policy brings new ones and takes old ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from cni.policy import rules
from cni.policy.model import Pod
from cni.policy.rules import EGRESS, INGRESS, BlockSet, PeerSet, Policy, PortMatch, Rule

SELF = "self"
VERDICTS = {INGRESS: "goto", EGRESS: "jump"}
PREFIX = {INGRESS: "in", EGRESS: "out"}


@dataclass(frozen=True, slots=True)
class NamedSet:
    """All pods' ports of one name and protocol: address . port."""

    name: str
    protocol: str
    port: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One rule of a chain: what it lets through. `side` and `named` are names of sets; "" or () asks nothing."""

    side: str = ""
    protocol: str = ""
    ports: tuple[tuple[int, int], ...] = ()
    named: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What one or more policies allow together in a direction; everything else is dropped."""

    name: str
    direction: str
    matches: tuple[Match, ...]
    peers: tuple[PeerSet, ...] = ()
    blocks: tuple[BlockSet, ...] = ()
    named: tuple[NamedSet, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """An element of a set, or of the map of a direction: then with the `chain` it leads to. `version` is 4 or 6."""

    version: int
    set: str
    key: tuple[str | int, ...]
    chain: str = ""

    def text(self) -> str:
        """As nft writes it between the braces of `elements`."""
        key = " . ".join(map(str, self.key))
        return f"{key} : {VERDICTS[self.set]} {self.chain}" if self.chain else key


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Chains and the sets they ask, by name."""

    chains: Mapping[str, Chain] = field(default_factory=dict)
    peers: Mapping[str, PeerSet] = field(default_factory=dict)
    blocks: Mapping[str, BlockSet] = field(default_factory=dict)
    named: Mapping[str, NamedSet] = field(default_factory=dict)

    @property
    def sets(self) -> frozenset[str]:
        """The names of all sets."""
        return frozenset((*self.peers, *self.blocks, *self.named))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """All that the kernel is to hold; without a chain there is nothing to judge, and no table."""

    structure: Structure = field(default_factory=Structure)
    elements: frozenset[Element] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether no pod of this node is isolated."""
        return not self.structure.chains


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From one PolicySet to the next. Elements of sets that come are in `add`, of sets that go not in `remove`."""

    before: Structure
    after: Structure
    add: tuple[Element, ...] = ()
    remove: tuple[Element, ...] = ()

    @property
    def structural(self) -> bool:
        """Whether chains or sets come or go; else it is elements only."""
        return self.before.chains.keys() != self.after.chains.keys()

    def __bool__(self) -> bool:
        return self.structural or bool(self.add or self.remove)


def chain(direction: str, policies: Iterable[Policy]) -> Chain | None:
    """What the policies that select a pod allow in a direction; None when none of them is about it."""
    about = [found for each in policies if (found := each.rules(direction)) is not None]
    if not about:
        return None
    allowed = list(dict.fromkeys(rule for found in about for rule in found))
    matches = list(dict.fromkeys(match for rule in allowed for match in _matches(rule)))
    if Match() in matches:
        return Chain(name=rules.name(PREFIX[direction], "anything"), direction=direction, matches=(Match(),))
    matches.sort(key=repr)
    used = {name for match in matches for name in (match.side, match.named)}
    named = {each.name: each for rule in allowed for port in rule.ports if (each := _named_set(port)) is not None}
    return Chain(
        name=rules.name(PREFIX[direction], *map(repr, matches)),
        direction=direction,
        matches=tuple(matches),
        peers=tuple(r.peers for r in allowed if r.peers is not None and r.peers.name in used),
        blocks=tuple(r.blocks for r in allowed if r.blocks is not None and r.blocks.name in used),
        named=tuple(named.values()),
    )


def structure(chains: Iterable[Chain]) -> Structure:
    """The chains with all the sets they ask."""
    held = {each.name: each for each in chains}
    return Structure(
        chains=held,
        peers={each.name: each for one in held.values() for each in one.peers},
        blocks={each.name: each for one in held.values() for each in one.blocks},
        named={each.name: each for one in held.values() for each in one.named},
    )


def memberships(
    pod: Pod,
    addresses: Iterable[str],
    namespace_labels: Mapping[str, str] | None,
    *,
    peers: Iterable[PeerSet],
    named: Iterable[NamedSet],
) -> frozenset[Element]:
    """The elements of a pod in sets: as somebody's peer, and as an owner of named ports."""
    keys: list[tuple[str, tuple[int, ...]]] = [(each.name, ()) for each in peers if each.matches(pod, namespace_labels)]
    if pod.ports:
        keys += [
            (each.name, (port.port,))
            for each in named
            for port in pod.ports
            if (port.protocol, port.name) == (each.protocol, each.port)
        ]
    return frozenset(
        Element(version=_version(address), set=name, key=(address, *more))
        for address in addresses
        for name, more in keys
    )


def isolation(addresses: Iterable[str], chains: Iterable[Chain]) -> frozenset[Element]:
    """The elements that lead a pod's packets to its chains; what it sends to itself always passes."""
    held = tuple(chains)
    found = set()
    for address in addresses if held else ():
        version = _version(address)
        found.add(Element(version=version, set=SELF, key=(address, address)))
        found |= {Element(version=version, set=each.direction, key=(address,), chain=each.name) for each in held}
    return frozenset(found)


def _matches(rule: Rule) -> Iterable[Match]:
    sides = [each.name for each in (rule.peers, rule.blocks) if each is not None] or [""]
    for side in sides:
        if not rule.ports:
            yield Match(side=side)
        for protocol, ports in groupby(sorted(rule.ports, key=repr), key=lambda port: port.protocol):
            yield from _port_matches(side, protocol, list(ports))


def _port_matches(side: str, protocol: str, ports: list[PortMatch]) -> Iterable[Match]:
    if any(not port.first and not port.name for port in ports):
        yield Match(side=side, protocol=protocol)
        return
    numbers = _joined(sorted((port.first, port.last) for port in ports if not port.name))
    if numbers:
        yield Match(side=side, protocol=protocol, ports=numbers)
    for port in ports:
        if (found := _named_set(port)) is not None:
            yield Match(side=side, protocol=protocol, named=found.name)


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Disjoint ranges: nft takes no overlaps."""
    found: list[tuple[int, int]] = []
    for first, last in ranges:
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _named_set(port: PortMatch) -> NamedSet | None:
    if not port.name:
        return None
    return NamedSet(rules.name("ports", port.protocol, port.name), port.protocol, port.name)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
