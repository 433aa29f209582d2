"""nf_tables without a kernel: reads the text that we write, refuses what nft refuses, and follows packets through it.

It knows the subset of the language that the proxy's table uses; anything else is an error, never ignored.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.backends.elements import Edit
from proxy.backends.protocol import BackendError

Key = tuple[str, ...]


@dataclass
class Chain:
    """A chain: its hook (None for a regular one) and its rules as lists of words."""

    hook: str | None = None
    kind: str = ""
    rules: list[list[str]] = field(default_factory=list)


@dataclass
class Table:
    """A table: chains, and sets whose elements map to data ("" in a plain set)."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, dict[Key, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Where a new connection ends: an address and port, masqueraded or not; or `refused`, or `silence`."""

    verdict: str
    address: str = ""
    port: int = 0
    masqueraded: bool = False


class FakeNft:
    """`proxy.backends.nftables.Nft` in memory."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], Table] = {}
        self.scripts: list[str] = []
        self.edits: list[Edit] = []

    async def load(self, text: str) -> None:
        draft = dict(self.tables)
        tokens = _tokens(text)
        while tokens:
            _statement(tokens, draft)
        for table in draft.values():
            _check(table)
        self.tables = draft
        self.scripts.append(text)

    async def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        drafts = {
            name: Table(chains=t.chains, sets={k: dict(v) for k, v in t.sets.items()})
            for name, t in self.tables.items()
        }
        for edit in edits:
            element = edit.element
            found = drafts.get(("ip" if element.table_version == 4 else "ip6", table))
            if found is None or element.set not in found.sets:
                raise BackendError(f"no set {element.set} in {table}")
            key = tuple(str(part) for part in element.key)
            data = f"goto {element.chain}" if element.chain else " . ".join(str(part) for part in element.data)
            present = found.sets[element.set].get(key)
            if edit.delete:
                if present is None:
                    raise BackendError(f"element {key} is not in {element.set}")
                del found.sets[element.set][key]
            elif present not in (None, data):
                raise BackendError(f"element {key} is in {element.set} with other data")
            else:
                found.sets[element.set][key] = data
        for found in drafts.values():
            _check(found)
        self.tables = drafts
        self.edits.extend(edits)

    async def exists(self, family: str, table: str) -> bool:
        return (family, table) in self.tables

    def connect(self, *, source: str, to: str, protocol: str, port: int, from_node: bool = False) -> set[Outcome]:
        """Every way a new connection from a pod (or from the node itself) may end."""
        family = "ip6" if ":" in to else "ip"
        tables = [table for (name, _), table in self.tables.items() if name == family]
        results = set()
        for packet in _hook(tables, "nat", "output" if from_node else "prerouting", Packet(source, to, protocol, port)):
            if packet.verdict:
                results.add(Outcome(packet.verdict))
                continue
            for passed in _hook(tables, "filter", "output" if from_node else "forward", packet):
                if passed.verdict:
                    results.add(Outcome(passed.verdict))
                    continue
                for left in _hook(tables, "nat", "postrouting", passed):
                    results.add(Outcome("delivered", left.to, left.port, left.masqueraded))
        return results


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection on its way."""

    source: str
    to: str
    protocol: str
    port: int
    translated: bool = False
    masqueraded: bool = False
    verdict: str = ""


def _tokens(text: str) -> list[str]:
    return re.findall(r"\n|;|[{}]|[^\s{};,]+", re.sub(r"#.*", "", text))


def _statement(tokens: list[str], tables: dict[tuple[str, str], Table]) -> None:
    word = tokens.pop(0)
    if word in ("\n", ";"):
        return
    if word in ("add", "delete"):
        if tokens.pop(0) != "table":
            raise BackendError(f"the fake knows only `{word} table`")
        name = (tokens.pop(0), tokens.pop(0))
        if word == "add":
            tables.setdefault(name, Table())
        elif tables.pop(name, None) is None:
            raise BackendError(f"no such table {name}")
    elif word == "table":
        name = (tokens.pop(0), tokens.pop(0))
        tables[name] = _table(tokens)
    else:
        raise BackendError(f"syntax error, unexpected {word}")


def _table(tokens: list[str]) -> Table:
    table = Table()
    _expect(tokens, "{")
    while (word := tokens.pop(0)) != "}":
        if word in ("\n", ";"):
            continue
        if word in ("set", "map"):
            name = tokens.pop(0)
            table.sets[name] = _elements(tokens)
        elif word == "chain":
            name = tokens.pop(0)
            table.chains[name] = _chain(tokens)
        else:
            raise BackendError(f"syntax error in a table, unexpected {word}")
    return table


def _elements(tokens: list[str]) -> dict[Key, str]:
    found: dict[Key, str] = {}
    _expect(tokens, "{")
    while (word := tokens.pop(0)) != "}":
        if word == "elements":
            _expect(tokens, "=")
            _expect(tokens, "{")
            words: list[str] = []
            while (part := tokens.pop(0)) != "}":
                words.append(part)
            for key, data in _split(words):
                if key in found:
                    raise BackendError(f"element {key} twice")
                found[key] = data
    return found


def _split(words: list[str]) -> Iterator[tuple[Key, str]]:
    """`a . b : c . d  e . f : goto g` without the commas: a new element begins where no `.` or `:` joins."""
    joined: list[str] = []
    for place, word in enumerate(words):
        joins = word in (".", ":") or (place and words[place - 1] in (".", ":", "goto"))
        if joined and not joins:
            yield _element(joined)
            joined = []
        joined.append(word)
    if joined:
        yield _element(joined)


def _element(words: list[str]) -> tuple[Key, str]:
    place = words.index(":") if ":" in words else len(words)
    return tuple(word for word in words[:place] if word != "."), " ".join(words[place + 1 :])


def _chain(tokens: list[str]) -> Chain:
    chain = Chain()
    _expect(tokens, "{")
    rule: list[str] = []
    depth = 0
    while True:
        word = tokens.pop(0)
        if word == "}" and depth == 0:
            return chain
        depth += (word == "{") - (word == "}")
        if word in ("\n", ";") and depth == 0:
            _rule(chain, rule)
            rule = []
        else:
            rule.append(word)


def _rule(chain: Chain, words: list[str]) -> None:
    if words[:1] == ["type"]:
        chain.kind, chain.hook = words[1], words[words.index("hook") + 1]
    elif words and words[0] != "policy":
        chain.rules.append(words)


def _expect(tokens: list[str], word: str) -> None:
    while tokens and tokens[0] == "\n" and word != "\n":
        tokens.pop(0)
    if tokens.pop(0) != word:
        raise BackendError(f"syntax error, expected {word}")


def _check(table: Table) -> None:
    """What nft checks at the end of a transaction: every chain and set that is named is there."""
    for chain in table.chains.values():
        for rule in chain.rules:
            for place, word in enumerate(rule):
                if word.startswith("@") and word[1:] not in table.sets:
                    raise BackendError(f"no such set {word}")
                if word in ("jump", "goto") and rule[place + 1] not in table.chains:
                    raise BackendError(f"no such chain {rule[place + 1]}")
    for elements in table.sets.values():
        for data in elements.values():
            if data.startswith("goto ") and data.split()[1] not in table.chains:
                raise BackendError(f"no such chain {data}")


def _hook(tables: Sequence[Table], kind: str, hook: str, packet: Packet) -> set[Packet]:
    packets = {packet}
    for table in tables:
        for chain in table.chains.values():
            if (chain.kind, chain.hook) == (kind, hook):
                packets = {after for before in packets for after in _walk(table, chain, before)}
    return packets


def _walk(table: Table, chain: Chain, packet: Packet) -> set[Packet]:
    for rule in chain.rules:
        ended = _run(table, rule, packet)
        if ended is not None:
            return ended
    return {packet}


def _run(table: Table, rule: list[str], packet: Packet) -> set[Packet] | None:
    """The packets after a rule that ended the walk; None when the next rule follows."""
    words = list(rule)
    values: list[str] = []
    while words:
        word = words.pop(0)
        if word == "ct":
            matched, words = _ct(words, packet, table)
            if not matched:
                return None
        elif word == "meta" and words[:2] == ["l4proto", "{"]:
            end = words.index("}")
            if packet.protocol not in words[2:end]:
                return None
            words = words[end + 1 :]
        elif word in ("ip", "ip6", "meta", "th"):
            values.append(_value(words.pop(0), packet))
            if words[:1] == ["!="]:
                raise BackendError("the fake does not compare address ranges")
        elif word.startswith("@"):
            if tuple(values) not in table.sets[word[1:]]:
                return None
            values = []
        elif word == "vmap":
            verdict = table.sets[words.pop(0)[1:]].get(tuple(values))
            return None if verdict is None else _walk(table, table.chains[verdict.split()[1]], packet)
        elif word in ("jump", "goto"):
            after = _walk(table, table.chains[words.pop(0)], packet)
            return None if word == "jump" and after == {packet} else after
        elif word == "dnat":
            return _dnat(table, words, packet)
        elif word in ("drop", "reject", "masquerade"):
            return {_final(word, packet)}
        elif word != ".":
            raise BackendError(f"syntax error, unexpected {word}")
    return None


def _ct(words: list[str], packet: Packet, table: Table) -> tuple[bool, list[str]]:
    what, value = words[0], words[1]
    if (what, value) == ("state", "new"):
        return True, words[2:]
    if (what, value) == ("state", "invalid"):
        return False, words[2:]
    if (what, value) == ("status", "dnat"):
        return packet.translated, words[2:]
    raise BackendError(f"syntax error, unexpected ct {what} {value}")


def _value(name: str, packet: Packet) -> str:
    known: Mapping[str, str] = {
        "daddr": packet.to,
        "saddr": packet.source,
        "l4proto": packet.protocol,
        "dport": str(packet.port),
    }
    return known[name]


def _dnat(table: Table, words: list[str], packet: Packet) -> set[Packet]:
    """`dnat ip to K . K . numgen random mod N map @set`: one packet for each N."""
    place = words.index("mod")
    count, target = int(words[place + 1]), words[words.index("map") + 1][1:]
    ends = set()
    for number in range(count):
        data = table.sets[target].get((packet.to, packet.protocol, str(packet.port), str(number)))
        if data is None:
            ends.add(packet)  # as the kernel: no element, no translation
            continue
        address, port = data.split(" . ")
        ends.add(Packet(packet.source, address, packet.protocol, int(port), translated=True))
    return ends


def _final(word: str, packet: Packet) -> Packet:
    if word == "masquerade":
        return Packet(packet.source, packet.to, packet.protocol, packet.port, packet.translated, masqueraded=True)
    verdict = "silence" if word == "drop" else "refused"
    return Packet(packet.source, packet.to, packet.protocol, packet.port, packet.translated, verdict=verdict)
