"""Elements of the nftables sets and maps that hold the Services, and which of them a change touches. PURE.

One edit is one element to add or delete. It can be rendered as text (bulk load) or encoded as netlink (one change).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from proxy.rules.plan import Backend, Changes, Frontend, PortRules, RuleSet

SERVICES = "services"
ENDPOINTS = "endpoints"
CLUSTER_ADDRESSES = "cluster-addresses"
HAIRPINS = "hairpins"
DROP_CHAIN = "silence"
PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element: `key` and, in a map, `data` or `chain` (the verdict "goto chain")."""

    table_version: int
    set: str
    key: tuple[str | int, ...]
    data: tuple[str | int, ...] = ()
    chain: str = ""

    def text(self) -> str:
        """As nft writes it between the braces of `elements`."""
        key = " . ".join(str(part) for part in self.key)
        if self.chain:
            return f"{key} : goto {self.chain}"
        return f"{key} : {' . '.join(str(part) for part in self.data)}" if self.data else key


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One step of a transaction."""

    element: Element
    delete: bool = False


def pick_chain(count: int) -> str:
    """The chain that picks one of `count` endpoints at random: one chain per count, not per Service."""
    return f"pick-{count}"


def of_port(frontend: Frontend, rules: PortRules) -> Iterator[Element]:
    """Every element of one frontend."""
    version, key = frontend.version, (frontend.address, frontend.protocol, frontend.port)
    chain = pick_chain(len(rules.backends)) if rules.backends else DROP_CHAIN if rules.drop else ""
    if chain:
        yield Element(table_version=version, set=SERVICES, key=key, chain=chain)
    for place, backend in enumerate(rules.backends):
        yield _endpoint(frontend, place, backend)


def of_rules(rules: RuleSet) -> Iterator[Element]:
    """Every element of a RuleSet."""
    ports = rules.ports()
    for frontend, port in ports.items():
        yield from of_port(frontend, port)
    yield from (_cluster_address(address) for address in {frontend.address for frontend in ports})
    yield from map(_hairpin, rules.hairpins)


def edits(changes: Changes, *, before: Iterable[Frontend]) -> tuple[Edit, ...]:
    """The edits of a change; `before` are the frontends present on the touched addresses, to know which ones end."""
    removed: list[Element] = []
    added: list[Element] = []
    for frontend, (old, new) in changes.ports.items():
        present = set(of_port(frontend, old)) if old else set()
        wanted = set(of_port(frontend, new)) if new else set()
        removed += sorted(present - wanted, key=repr)
        added += sorted(wanted - present, key=repr)
    gone, come = _addresses(changes, before=before)
    removed += [*map(_cluster_address, gone), *map(_hairpin, sorted(changes.remove_hairpins))]
    added += [*map(_cluster_address, come), *map(_hairpin, sorted(changes.add_hairpins))]
    return (*(Edit(element=e, delete=True) for e in removed), *(Edit(element=e) for e in added))


def _addresses(changes: Changes, *, before: Iterable[Frontend]) -> tuple[list[str], list[str]]:
    held = set(before)
    after = (held | {f for f, (_, new) in changes.ports.items() if new is not None}) - {
        f for f, (_, new) in changes.ports.items() if new is None
    }
    touched = {frontend.address for frontend in changes.ports}
    old = {frontend.address for frontend in held} & touched
    new = {frontend.address for frontend in after} & touched
    return sorted(old - new), sorted(new - old)


def _endpoint(frontend: Frontend, place: int, backend: Backend) -> Element:
    return Element(
        table_version=frontend.version,
        set=ENDPOINTS,
        key=(frontend.address, frontend.protocol, frontend.port, place),
        data=(backend.address, backend.port),
    )


def _cluster_address(address: str) -> Element:
    return Element(table_version=ip_address(address).version, set=CLUSTER_ADDRESSES, key=(address,))


def _hairpin(address: str) -> Element:
    return Element(table_version=ip_address(address).version, set=HAIRPINS, key=(address, address))
