"""iptables without a kernel: reads restore scripts, refuses what iptables refuses, and follows packets through them.

It knows the matches and targets that the proxy writes; anything else is an error, never ignored.
"""

import asyncio
import random
import shlex
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from fakes.nft_packets import Outcome, Packet
from proxy.backends.protocol import BackendError

Chain = tuple[str, str]
BUILT_IN = {
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
MARK = 0x4000
FINAL = ("DNAT", "DROP", "REJECT", "ACCEPT", "MASQUERADE")


class FakeXtables:
    """`proxy.backends.iptables.Xtables` in memory. `local` are the node's own addresses, `now` is in milliseconds."""

    def __init__(self, *, local: frozenset[str] = frozenset(), telling: bool = True) -> None:
        """Legacy iptables is not `telling`: nobody hears of changes to its tables."""
        self.local = local
        self._telling = telling
        self.now = 0
        self.chains = {version: _empty() for version in (4, 6)}
        self.scripts: list[str] = []
        self._recent: dict[tuple[str, str], int] = {}
        self._random = random.Random(1)
        self._removed: asyncio.Queue[str] = asyncio.Queue()

    async def save(self, version: int) -> str:
        text = []
        for table in BUILT_IN:
            mine = {name: rules for (t, name), rules in self.chains[version].items() if t == table}
            text += [f"*{table}", *(f":{name} - [0:0]" for name in mine)]
            text += [f"[0:0] -A {name} {rule}" for name, rules in mine.items() for rule in rules]
            text.append("COMMIT")
        return "\n".join(text) + "\n"

    async def restore(self, version: int, text: str) -> None:
        draft = {chain: list(rules) for chain, rules in self.chains[version].items()}
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                draft[table, line[1:].split()[0]] = []
            elif line == "COMMIT":
                _check(draft, table)
            else:
                _edit(draft, table, line)
        self.chains[version] = draft
        self.scripts.append(text)

    async def removed(self) -> str:
        if not self._telling:
            raise BackendError("legacy iptables tells of no changes")
        return await self._removed.get()

    def flush(self) -> None:
        """What `nft flush ruleset` does to it."""
        self.chains = {version: _empty() for version in (4, 6)}
        self._removed.put_nowait("nat")

    def connect(self, *, source: str, to: str, protocol: str, port: int, from_node: bool = False) -> set[Outcome]:
        """Every way new connections of one client may end; where it is noted, the first decides for all."""
        version = 6 if ":" in to else 4
        start = Packet(source, to, protocol, port, from_node=from_node, asked=(to, port))
        walk = _Walk(self.chains[version], recent=self._recent, now=self.now, local=self.local)
        ends = sorted(walk.through(start), key=repr)
        chosen = self._random.choice(ends)
        if chosen.note is not None:
            self._recent[chosen.note[1], source] = self.now
            ends = [chosen]
        return {end.outcome() for end in ends}


def _empty() -> dict[Chain, list[str]]:
    return {(table, name): [] for table, names in BUILT_IN.items() for name in names}


def _edit(draft: dict[Chain, list[str]], table: str, line: str) -> None:
    step, name, *rest = line.split(" ", 2)
    chain = (table, name)
    if chain not in draft:
        raise BackendError(f"no chain {name} in {table}")
    rule = rest[0] if rest else ""
    if step == "-A":
        draft[chain].append(rule)
    elif step == "-I":
        place, _, rule = rule.partition(" ")
        draft[chain].insert(int(place) - 1, rule)
    elif step == "-D":
        if rule not in draft[chain]:
            raise BackendError(f"bad rule in {name}: {rule}")
        draft[chain].remove(rule)
    elif step == "-X":
        if draft.pop(chain):
            raise BackendError(f"chain {name} is not empty")
    else:
        raise BackendError(f"unknown step {step}")


def _check(draft: dict[Chain, list[str]], table: str) -> None:
    """What iptables checks at COMMIT: every chain that is jumped to is there."""
    for (t, name), rules in draft.items():
        for rule in rules if t == table else ():
            target = shlex.split(rule)[shlex.split(rule).index("-j") + 1]
            if target not in (*FINAL, "MARK", "RETURN") and (t, target) not in draft:
                raise BackendError(f"rule in {name} jumps to {target}, which is not there")


class _Walk:
    """One packet through all hooks. Steps answer (packet, verdict); "" goes on, "RETURN" leaves the chain."""

    def __init__(
        self, chains: dict[Chain, list[str]], *, recent: dict[tuple[str, str], int], now: int, local: frozenset[str]
    ) -> None:
        self._chains = chains
        self._recent = recent
        self._now = now
        self._local = local
        self._marks: set[int] = set()

    def through(self, start: Packet) -> set[Packet]:
        results = set()
        for packet, marked, verdict in self._chain(
            ("nat", "OUTPUT" if start.from_node else "PREROUTING"), start, False
        ):
            if verdict in ("DROP", "REJECT"):
                results.add(_ended(packet, verdict))
                continue
            hooks = ["OUTPUT"] if start.from_node else []
            hooks.append("INPUT" if packet.to in self._local else "" if start.from_node else "FORWARD")
            results |= self._filtered(packet, marked, [hook for hook in hooks if hook])
        return results

    def _filtered(self, packet: Packet, marked: bool, hooks: list[str]) -> set[Packet]:
        for hook in hooks:
            ((packet, marked, verdict),) = self._chain(("filter", hook), packet, marked)
            if verdict in ("DROP", "REJECT"):
                return {_ended(packet, verdict)}
        if packet.to in self._local and not packet.from_node:
            return {packet}
        ((packet, marked, _),) = self._chain(("nat", "POSTROUTING"), packet, marked)
        return {packet}

    def _chain(self, chain: Chain, packet: Packet, marked: bool) -> set[tuple[Packet, bool, str]]:
        """All (packet, marked, verdict) at the end of a chain."""
        live = {(packet, marked)}
        ended: set[tuple[Packet, bool, str]] = set()
        for rule in self._chains[chain]:
            following: set[tuple[Packet, bool]] = set()
            for each, mark in live:
                for after, new_mark, verdict in self._rule(chain[0], shlex.split(rule), each, mark):
                    if verdict:
                        ended.add((after, new_mark, "" if verdict == "RETURN" else verdict))
                    else:
                        following.add((after, new_mark))
            live = following
        return ended | {(each, mark, "") for each, mark in live}

    def _rule(self, table: str, words: list[str], packet: Packet, marked: bool) -> Iterator[tuple[Packet, bool, str]]:
        place = words.index("-j")
        matched, maybe, packet = self._matches(words[:place], packet, marked)
        if not matched or maybe:
            yield packet, marked, ""
        if not matched:
            return
        target, options = words[place + 1], words[place + 2 :]
        if target == "MARK":
            yield packet, options[0] == "--or-mark", ""
        elif target == "DNAT":
            address, _, port = options[1].rpartition(":")
            yield replace(packet, to=address.strip("[]"), port=int(port), translated=True), marked, target
        elif target == "MASQUERADE":
            yield replace(packet, masqueraded=True), marked, target
        elif target in FINAL or target == "RETURN":
            yield packet, marked, target
        else:
            yield from self._chain((table, target), packet, marked)

    def _matches(self, words: list[str], packet: Packet, marked: bool) -> tuple[bool, bool, Packet]:
        """(matches, may also not match by chance, packet with what was noted)."""
        result, maybe, name, seconds = True, False, "", 0
        rest = list(words)
        while rest:
            word = rest.pop(0)
            negative = word == "!"
            if negative:
                word = rest.pop(0)
            elif rest and rest[0] == "!":
                negative, _ = True, rest.pop(0)
            value = "" if word in ("--rcheck", "--set", "--reap", "--rsource") else rest.pop(0)
            if word in ("-s", "-d"):
                found = ip_address(packet.source if word == "-s" else packet.to) in ip_network(value)
            elif word in ("-p", "--dport"):
                found = value in (packet.protocol, str(packet.port))
            elif word == "--ctstate":
                found = "NEW" in value
            elif word == "--mark":
                found = marked
            elif word in ("--src-type", "--dst-type"):
                found = packet.from_node if word == "--src-type" else packet.to in self._local
            elif word == "--probability":
                found, maybe = True, True
            elif word == "--name":
                found, name = True, value
            elif word == "--seconds":
                found, seconds = True, int(value)
            elif word == "--set":
                found, packet = True, replace(packet, note=((), name, 0))
            elif word in ("-m", "--comment", "--mode", "--rcheck", "--reap", "--rsource"):
                found = True
            else:
                raise BackendError(f"unknown match {word}")
            result = result and found != negative
        if seconds:
            seen = self._recent.get((name, packet.source))
            result = result and seen is not None and self._now - seen < seconds * 1000
        return result, maybe, packet


def _ended(packet: Packet, verdict: str) -> Packet:
    return replace(packet, verdict="silence" if verdict == "DROP" else "refused")
