"""Packets followed through the rules of `fakes.nft`: the first one of a connection, through every hook, all ways."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from proxy.backends.protocol import BackendError

Key = tuple[str, ...]


@dataclass
class Chain:
    """A chain: its hook (None for a regular one) and its rules as lists of words."""

    hook: str | None = None
    kind: str = ""
    rules: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Note:
    """An element that ends by itself: its timeout, and when; milliseconds."""

    timeout: int
    ends: int


@dataclass
class Table:
    """A table: chains, and sets whose elements map to data ("" in a plain set)."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, dict[Key, str]] = field(default_factory=dict)
    notes: dict[Key, Note] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Where a new connection ends: an address and port, masqueraded or not; or `refused`, or `silence`."""

    verdict: str
    address: str = ""
    port: int = 0
    masqueraded: bool = False


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection on its way; `asked` is where its client sent it."""

    source: str
    to: str
    protocol: str
    port: int
    asked: tuple[str, int] = ("", 0)
    from_node: bool = False
    translated: bool = False
    masqueraded: bool = False
    priority: str = "none"
    verdict: str = ""
    note: tuple[Key, str, int] | None = None

    def outcome(self) -> Outcome:
        """What the client sees of it."""
        if self.verdict:
            return Outcome(self.verdict)
        return Outcome("delivered", self.to, self.port, self.masqueraded)


def through(tables: Sequence[Table], start: Packet, *, local: frozenset[str]) -> set[Packet]:
    """All ends of a packet; `local` are the node's addresses."""
    results = set()
    for packet in _hook(tables, "nat", "output" if start.from_node else "prerouting", start):
        if packet.verdict:
            results.add(packet)
            continue
        to_node = packet.to in local
        for passed in _hook(
            tables, "filter", "output" if start.from_node else "input" if to_node else "forward", packet
        ):
            if passed.verdict or (to_node and not start.from_node):
                results.add(passed)
                continue
            results |= _hook(tables, "nat", "postrouting", passed)
    return results


def _hook(tables: Sequence[Table], kind: str, hook: str, packet: Packet) -> set[Packet]:
    packets = {packet}
    for table in tables:
        for chain in table.chains.values():
            if (chain.kind, chain.hook) == (kind, hook):
                packets = {after for before in packets for after in _Walk(table).chain(chain, before)[0]}
    return packets


class _Walk:
    """One packet in one table. Every step answers (packets, whether the walk is over)."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def chain(self, chain: Chain, packet: Packet) -> tuple[set[Packet], bool]:
        for rule in chain.rules:
            packets, over = self._rule(rule, packet)
            if over:
                return packets, True
            (packet,) = packets
        return {packet}, False

    def _rule(self, rule: list[str], packet: Packet) -> tuple[set[Packet], bool]:
        words = list(rule)
        values: list[str] = []
        while words:
            word = words.pop(0)
            if word == "ct" and words[0] in ("state", "status"):
                if not self._connection(words.pop(0), words.pop(0), packet):
                    return {packet}, False
            elif word == "fib":
                if words[:3] != ["saddr", "type", "local"]:
                    raise BackendError(f"the fake does not know fib {words}")
                words = words[3:]
                if not packet.from_node:
                    return {packet}, False
            elif word == "meta" and words[:2] == ["priority", "set"]:
                words = words[2:]
                changed = self._prioritized(words, packet)
                if changed is None:
                    return {packet}, False
                packet = changed
            elif word in ("ip", "ip6", "meta", "th", "ct"):
                values.append(self._value(word, words, packet))
                if words[:1] != ["."] and not self._matches(words, values):
                    return {packet}, False
            elif word in ("vmap", "jump", "goto"):
                verdict = self._table.sets[words.pop(0)[1:]].get(tuple(values)) if word == "vmap" else None
                if word != "vmap":
                    verdict = f"{word} {words.pop(0)}"
                return self._enter(verdict, packet)
            elif word == "dnat":
                return self._translate(words, packet)
            elif word == "update":
                return {self._noted(words, packet)}, False
            elif word in ("drop", "reject", "masquerade"):
                return {_final(word, packet)}, True
            elif word != ".":
                raise BackendError(f"syntax error, unexpected {word}")
        return {packet}, False

    def _matches(self, words: list[str], values: list[str]) -> bool:
        """Compares what was collected with a set, a list or a value, where one follows; eats it, and the values."""
        if not words or words[0] in ("vmap", "map"):
            return True
        negative = words[0] == "!="
        if negative:
            words.pop(0)
        if words[0].startswith("@"):
            found = _within(tuple(values), self._table.sets[words.pop(0)[1:]])
        elif words[0] == "{":
            end = words.index("}")
            found = _within(tuple(values), {(each,): "" for each in words[1:end]})
            del words[: end + 1]
        else:
            found = values == [words.pop(0)]
        values.clear()
        return found != negative

    def _enter(self, verdict: str | None, packet: Packet) -> tuple[set[Packet], bool]:
        if verdict is None:
            return {packet}, False
        word, name = verdict.split()
        packets, over = self.chain(self._table.chains[name], packet)
        return packets, over or word == "goto"

    def _connection(self, what: str, value: str, packet: Packet) -> bool:
        known = {("state", "new"): True, ("state", "invalid"): False, ("status", "dnat"): packet.translated}
        if (what, value) not in known:
            raise BackendError(f"syntax error, unexpected ct {what} {value}")
        return known[what, value]

    def _value(self, kind: str, words: list[str], packet: Packet) -> str:
        name = words.pop(0)
        if kind == "ct":
            name = f"{name} {words.pop(0)}"
            if words[:1] == ["daddr"]:
                name = f"original {words.pop(0)}"
        known: Mapping[str, str] = {
            "daddr": packet.to,
            "saddr": packet.source,
            "l4proto": packet.protocol,
            "dport": str(packet.port),
            "priority": packet.priority,
            "original daddr": packet.asked[0],
            "original proto-dst": str(packet.asked[1]),
        }
        return known[name]

    def _key(self, words: list[str], packet: Packet) -> tuple[str, ...]:
        """The fields of a concatenation at the head of `words`."""
        values = []
        while words and words[0] in ("ip", "ip6", "meta", "th", "ct", "."):
            word = words.pop(0)
            if word != ".":
                values.append(self._value(word, words, packet))
        return tuple(values)

    def _translate(self, words: list[str], packet: Packet) -> tuple[set[Packet], bool]:
        """`dnat ip to K [. numgen random mod N] map @set`: one packet for each N; no element, no translation."""
        words = words[2:]
        key = self._key(words, packet)
        count = int(words[3]) if words[0] == "numgen" else 0
        held = self._table.sets[words[words.index("map") + 1][1:]]
        ends = set()
        for number in range(max(1, count)):
            data = held.get((*key, str(number)) if count else key)
            if data is None:
                if not count:
                    return {packet}, False
                ends.add(packet)
                continue
            address, port = data.split(" . ")
            ends.add(replace(packet, to=address, port=int(port), translated=True))
        return ends, True

    def _prioritized(self, words: list[str], packet: Packet) -> Packet | None:
        """`meta priority set none`, or `set K map @set`; None without an element."""
        if words[0] == "none":
            words.pop(0)
            return replace(packet, priority="none")
        key = self._key(words, packet)
        words.pop(0)
        data = self._table.sets[words.pop(0)[1:]].get(key)
        return None if data is None else replace(packet, priority=data)

    def _noted(self, words: list[str], packet: Packet) -> Packet:
        """`update @set { key timeout Ns : data }`."""
        words = words[2:]
        key = self._key(words, packet)
        timeout = int(words[1].rstrip("s"))
        words = words[3:]
        return replace(packet, note=(key, " . ".join(self._key(words, packet)), timeout))


def _within(values: Key, held: Mapping[Key, str]) -> bool:
    """Whether an element covers the values, the last field as a block where it is one."""
    if values in held:
        return True
    return any(
        "/" in key[-1] and key[:-1] == values[:-1] and ip_address(values[-1]) in ip_network(key[-1]) for key in held
    )


def _final(word: str, packet: Packet) -> Packet:
    if word == "masquerade":
        return replace(packet, masqueraded=True)
    return replace(packet, verdict="silence" if word == "drop" else "refused")
