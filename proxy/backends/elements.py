"""Elements of the nftables sets and maps that hold the Services, and which of them a change touches. PURE.

One edit is one element to add or delete. It can be rendered as text (bulk load) or encoded as netlink (one change).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from proxy.rules.plan import CLUSTER, CLUSTER_ADDRESS, Changes, Frontend, PortRules, RuleSet, Shared

SERVICES = "services"
PICKS, PICKS_LOCAL = "picks", "picks-local"
ENDPOINTS = "endpoints"
OUTSIDE = "outside"
LOCAL_ENDPOINTS = "local-endpoints"
EXTERNAL = "external"
STICKY = "sticky"
AFFINITY = "affinity"
RESTRICTED = "restricted"
ALLOWED = "allowed"
REFUSED = "refused"
CLUSTER_ADDRESSES = "cluster-addresses"
HAIRPINS = "hairpins"
DROP_CHAIN = "silence"
MASQUERADE_ALL = "masquerade-all"
MASQUERADE_OWN = "masquerade-own"

ADDRESS, PROTOCOL, PORT, INDEX, BLOCK, COUNT = "address", "protocol", "port", "index", "block", "count"
COUNT_CLASS = 0x4E41
"""A count travels from map to map in the packet's priority, as a traffic class that is nobody's."""
_FRONTEND = (ADDRESS, PROTOCOL, PORT)
KEYS: dict[str, tuple[str, ...]] = {
    SERVICES: _FRONTEND,
    OUTSIDE: _FRONTEND,
    EXTERNAL: _FRONTEND,
    STICKY: _FRONTEND,
    RESTRICTED: _FRONTEND,
    REFUSED: _FRONTEND,
    ENDPOINTS: (*_FRONTEND, INDEX),
    LOCAL_ENDPOINTS: (*_FRONTEND, INDEX),
    ALLOWED: (*_FRONTEND, BLOCK),
    AFFINITY: (ADDRESS, *_FRONTEND),
    CLUSTER_ADDRESSES: (ADDRESS,),
    HAIRPINS: (ADDRESS, ADDRESS),
    PICKS: (COUNT,),
}
"""What the fields of a set's key are."""
DATA: dict[str, tuple[str, ...]] = {SERVICES: (COUNT,), OUTSIDE: (COUNT,)}
"""What a map's data is; elsewhere an endpoint."""
ENDPOINT = (ADDRESS, PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element: `key` and, in a map, `data` or `chain` (the verdict `goto chain`, in `sticky` `jump chain`).

    `timeout` and `expires` (what is left of it) are in milliseconds, 0 without. `connections` is what the kernel has
    counted at it, when it was read there.
    """

    table_version: int
    set: str
    key: tuple[str | int, ...]
    data: tuple[str | int, ...] = ()
    chain: str = ""
    timeout: int = 0
    expires: int = 0
    connections: int = field(default=0, compare=False)

    @property
    def verdict(self) -> str:
        """How the chain is entered. After `jump` the next rule follows: a connection is noted and goes on."""
        return "jump" if self.set == STICKY else "goto"

    def text(self) -> str:
        """As nft writes it between the braces of `elements`."""
        key = " . ".join(str(part) for part in self.key)
        return f"{key} : {self.data_text()}" if self.chain or self.data else key

    def __str__(self) -> str:
        return f"{self.set}: {self.text()}"

    def data_text(self) -> str:
        """What the key leads to, as nft writes it."""
        if self.chain:
            return f"{self.verdict} {self.chain}"
        if DATA.get(self.set) == (COUNT,):
            return count_text(int(self.data[0]))
        return " . ".join(str(part) for part in self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One step of a transaction."""

    element: Element
    delete: bool = False


def count_text(count: int) -> str:
    """A count as nft writes it: a traffic class."""
    return f"{COUNT_CLASS:x}:{count:x}"


def pick_chain(count: int) -> str:
    """The chain that picks one of `count` endpoints at random: one chain per count, not per Service."""
    return f"pick-{count}"


def pick_local_chain(count: int) -> str:
    """The same among the endpoints of this node."""
    return f"pick-local-{count}"


def remember_chain(seconds: int) -> str:
    """The chain that notes which endpoint a client got: one per timeout."""
    return f"remember-{seconds}"


def of_port(frontend: Frontend, rules: PortRules) -> Iterator[Element]:
    """Every element of one frontend."""
    if rules.backends or rules.drop:
        yield _of(frontend, SERVICES, data=(len(rules.backends),))
    for place, backend in enumerate(rules.backends):
        yield _of(frontend, ENDPOINTS, place, data=backend)
    if rules.kind != CLUSTER:
        yield from _of_external(frontend, rules)
    if rules.affinity:
        yield _of(frontend, STICKY, chain=remember_chain(rules.affinity))
    if rules.sources is not None:
        yield _of(frontend, RESTRICTED)
        for block in rules.sources:
            yield _of(frontend, ALLOWED, block)


def of_rules(rules: RuleSet) -> Iterator[Element]:
    """Every element of a RuleSet."""
    for frontend, port in rules.ports().items():
        yield from of_port(frontend, port)
    yield from map(_of_mark, rules.shared)


def edits(changes: Changes) -> tuple[Edit, ...]:
    """The edits of a change: first what goes, then what comes."""
    removed: list[Element] = []
    added: list[Element] = []
    for frontend, (old, new) in changes.ports.items():
        present = set(of_port(frontend, old)) if old else set()
        wanted = set(of_port(frontend, new)) if new else set()
        removed += sorted(present - wanted, key=repr)
        added += sorted(wanted - present, key=repr)
    removed += map(_of_mark, sorted(changes.remove))
    added += map(_of_mark, sorted(changes.add))
    return (*(Edit(element=e, delete=True) for e in removed), *(Edit(element=e) for e in added))


def bounds(block: str) -> tuple[bytes, bytes]:
    """First and last address of a block."""
    network = ip_network(block)
    return network.network_address.packed, network.broadcast_address.packed


def block(first: bytes, last: bytes) -> str:
    """The block from its first to its last address; the smallest around them where they are none."""
    low, high = (int.from_bytes(address, "big") for address in (first, last))
    return str(ip_network((first, len(first) * 8 - (low ^ high).bit_length()), strict=False))


def _of_external(frontend: Frontend, rules: PortRules) -> Iterator[Element]:
    """An address that is not the cluster's own: answers must come back through this node, refusals be made here."""
    if not rules.backends:
        yield _of(frontend, REFUSED)
        return
    yield _of(frontend, EXTERNAL, chain=MASQUERADE_OWN if rules.local_only else MASQUERADE_ALL)
    if rules.local_only:
        yield _of(frontend, OUTSIDE, data=(len(rules.local),))
        for place, backend in enumerate(rules.local):
            yield _of(frontend, LOCAL_ENDPOINTS, place, data=backend)


def _of(frontend: Frontend, name: str, *more: str | int, chain: str = "", data: Sequence[str | int] = ()) -> Element:
    return Element(table_version=frontend.version, set=name, key=(*frontend, *more), chain=chain, data=tuple(data))


def _of_mark(mark: Shared) -> Element:
    version = ip_address(mark.address).version
    if mark.kind == CLUSTER_ADDRESS:
        return Element(table_version=version, set=CLUSTER_ADDRESSES, key=(mark.address,))
    return Element(table_version=version, set=HAIRPINS, key=(mark.address, mark.address))
