"""nf_tables without a kernel: reads the text that we write, refuses what nft refuses, and follows packets through it.

It knows the subset of the language that the proxy's table uses; anything else is an error, never ignored.
"""

import asyncio
import random
import re
from collections.abc import Collection, Iterator, Sequence

from fakes import nft_packets
from fakes.nft_packets import Chain, Key, Note, Outcome, Packet, Table
from proxy.backends import elements
from proxy.backends.elements import Edit, Element
from proxy.backends.protocol import BackendError


class FakeNft:
    """`proxy.backends.nftables.Nft` in memory. `local` are the node's own addresses, `now` is in milliseconds."""

    def __init__(self, *, local: frozenset[str] = frozenset()) -> None:
        self.local = local
        self.now = 0
        self._random = random.Random(1)
        self._flushed = asyncio.Event()
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
            name: Table(chains=t.chains, sets={k: dict(v) for k, v in t.sets.items()}, notes=dict(t.notes))
            for name, t in self.tables.items()
        }
        for edit in edits:
            element = edit.element
            found = drafts.get(("ip" if element.table_version == 4 else "ip6", table))
            if found is None or element.set not in found.sets:
                raise BackendError(f"no set {element.set} in {table}")
            key = tuple(str(part) for part in element.key)
            data = element.data_text()
            present = found.sets[element.set].get(key)
            if edit.delete:
                if present is None:
                    raise BackendError(f"element {key} is not in {element.set}")
                del found.sets[element.set][key]
                found.notes.pop(key, None)
            elif present not in (None, data):
                raise BackendError(f"element {key} is in {element.set} with other data")
            else:
                found.sets[element.set][key] = data
                if element.timeout:
                    found.notes[key] = Note(timeout=element.timeout, ends=self.now + element.expires)
        for found in drafts.values():
            _check(found)
        self.tables = drafts
        self.edits.extend(edits)

    async def complete(self, seconds: Collection[int], *, table: str, chain: str) -> None:
        for family in ("ip", "ip6"):
            chains = self.tables[family, table].chains
            for timeout in seconds:
                asked = f"{family} saddr . ct original {family} daddr . meta l4proto . ct original proto-dst"
                rule = f"update @affinity {{ {asked} timeout {timeout}s : {family} daddr . th dport }}"
                chains[elements.remember_chain(timeout)].rules.append(rule.split())
            chains[chain] = Chain()

    async def dump(self, version: int, *, table: str, name: str) -> list[Element]:
        found = self.tables.get(("ip" if version == 4 else "ip6", table))
        if found is None:
            return []
        self._expire(found)
        return [self._element(found, version, name, key, data) for key, data in found.sets[name].items()]

    def _element(self, table: Table, version: int, name: str, key: Key, data: str) -> Element:
        note = table.notes.get(key) if name == elements.AFFINITY else None
        verdict, _, chain = data.partition(" ")
        jumps = verdict in ("goto", "jump")
        return Element(
            table_version=version,
            set=name,
            key=tuple(map(_number, key)),
            data=() if jumps or not data else tuple(map(_number, data.split(" . "))),
            chain=chain if jumps else "",
            timeout=note.timeout if note else 0,
            expires=note.ends - self.now if note else 0,
        )

    async def exists(self, version: int, *, table: str, chain: str) -> bool:
        found = self.tables.get(("ip" if version == 4 else "ip6", table))
        return found is not None and chain in found.chains

    async def damaged(self, table: str) -> str:
        await self._flushed.wait()
        self._flushed.clear()
        return "table removed"

    def flush(self) -> None:
        """What `nft flush ruleset` does."""
        self.tables.clear()
        self._flushed.set()

    def connect(self, *, source: str, to: str, protocol: str, port: int, from_node: bool = False) -> set[Outcome]:
        """Every way new connections of one client may end, be it a pod, a stranger or the node itself.

        Where a rule notes the client, the first connection decides for all that follow.
        """
        family = "ip6" if ":" in to else "ip"
        tables = [table for (name, _), table in self.tables.items() if name == family]
        for table in tables:
            self._expire(table)
        start = Packet(source, to, protocol, port, from_node=from_node, asked=(to, port))
        ends = sorted(nft_packets.through(tables, start, local=self.local), key=repr)
        noted = self._random.choice(ends)
        if noted.note is not None:
            for table in tables:
                key, data, timeout = noted.note
                table.sets.setdefault(elements.AFFINITY, {})[key] = data
                table.notes[key] = Note(timeout=timeout * 1000, ends=self.now + timeout * 1000)
            ends = [noted]
        return {end.outcome() for end in ends}

    def _expire(self, table: Table) -> None:
        for key in [key for key, note in table.notes.items() if note.ends <= self.now]:
            del table.notes[key]
            table.sets[elements.AFFINITY].pop(key, None)


def _number(text: str) -> str | int:
    before, _, count = text.partition(":")
    if before == f"{elements.COUNT_CLASS:x}":
        return int(count, 16)
    return int(text) if text.isdigit() else text


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
        joins = word in (".", ":") or (place and words[place - 1] in (".", ":", "goto", "jump"))
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
    for held in table.sets.values():
        for data in held.values():
            if data.startswith(("goto ", "jump ")) and data.split()[1] not in table.chains:
                raise BackendError(f"no such chain {data}")
