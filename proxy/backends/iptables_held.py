"""Our iptables chains read back: `proxy.backends.held.Held` over what `iptables-save -c` printed. PURE."""

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from proxy.backends import iptables_rules
from proxy.backends.held import DROPPED, REFUSED, Way
from proxy.backends.iptables_rules import FIXED, JUMPS, NODEPORTS, OWN_PREFIXES, SERVICES, SHARED, Chain
from proxy.rules.plan import Backend, Frontend, RuleSet

COUNTED = re.compile(r"^(?:\[(\d+):\d+\] )?-A (\S+) (.*)$")
UNSAID = ("-m", "--mask", "--comment")
ALONE = ("--rcheck", "--set", "--reap", "--rsource", "--random-fully")
MARKS = {"--or-mark": "{0}/{0}", "--xor-mark": "{0}/0x0"}
WIDTHS = {4: "/32", 6: "/128"}
ENDS = {"REJECT": REFUSED, "DROP": DROPPED}


class Rule(NamedTuple):
    """A rule as it was printed, and how many packets met it."""

    text: str
    packets: int = 0


Held = Mapping[Chain, Sequence[Rule]]


def read(saved: str) -> dict[Chain, list[Rule]]:
    """The chains that `iptables-save`, with or without counters, printed."""
    found: dict[Chain, list[Rule]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            found[table, line[1:].split()[0]] = []
        elif rule := COUNTED.match(line):
            found.setdefault((table, rule[2]), []).append(Rule(rule[3], int(rule[1] or 0)))
    return found


def normal(rule: str) -> tuple[str, ...]:
    """A rule without what iptables adds, leaves out or writes in another way; the order of its matches is none."""
    words, found = shlex.split(rule), []
    while words:
        word = words.pop(0)
        sign = "! " if word == "!" else ""
        word = words.pop(0) if sign else word
        if word in ALONE or not words:
            if word != "--rsource":
                found.append(sign + word)
            continue
        value = words.pop(0)
        if word in UNSAID:
            continue
        if word in ("-s", "-d") and "/" not in value:
            value += WIDTHS[6 if ":" in value else 4]
        elif word == "--probability":
            value = f"{float(value):.6f}"
        elif word == "--ctstate":
            value = ",".join(sorted(value.split(",")))
        elif word in MARKS:
            word, value = "--set-xmark", MARKS[word].format(value)
        elif word == "--reject-with":
            continue
        found.append(f"{sign}{word} {value}")
    return tuple(sorted(found))


class IptablesHeld:
    """Chains of both IP versions, as they were printed."""

    def __init__(
        self, saved: Mapping[int, str], *, cidrs: Mapping[int, Sequence[str]], tcp_liberal: bool = False
    ) -> None:
        self._chains: dict[int, Held] = {version: read(text) for version, text in saved.items()}
        self._cidrs = cidrs
        self._liberal = tcp_liberal

    @cached_property
    def ways(self) -> Sequence[Way]:
        return [way for version, chains in self._chains.items() for way in _ways(version, chains)]

    def ends(self, frontend: Frontend) -> str:
        chains = self._chains[frontend.version]
        for name in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"):
            for rule in chains.get(("filter", name), ()):
                found = _options(rule)
                if _asked(found, found.get("-d", "").partition("/")[0]) == frontend:
                    return ENDS.get(found.get("-j", ""), "")
        return ""

    def difference(self, rules: RuleSet) -> list[str]:
        lines: list[str] = []
        for version, wanted in iptables_rules.whole(rules, cidrs=self._cidrs, tcp_liberal=self._liberal).items():
            held = self._chains.get(version, {})
            chains = wanted.keys() | {chain for chain in held if _ours(chain)}
            for chain in sorted(chains):
                lines += _chain_lines(version, chain, wanted.get(chain, ()), held.get(chain))
            for chain, jumps in JUMPS.items():
                present = {normal(rule.text) for rule in held.get(chain, ())}
                lines += [f"+ ipv{version} {' '.join(chain)}: {j}" for j in jumps if normal(j) not in present]
        return lines

    def command(self, frontend: Frontend) -> str:
        program = "iptables-save" if frontend.version == 4 else "ip6tables-save"
        return f"{program} -c -t nat | grep -e '--dport {frontend.port} '"


def _chain_lines(version: int, chain: Chain, wanted: Sequence[str], held: Sequence[Rule] | None) -> Iterator[str]:
    where = f"ipv{version} {' '.join(chain)}"
    if held is None and not wanted:
        yield f"+ {where}"
    meant = {normal(rule): rule for rule in wanted}
    present = {normal(rule.text): rule.text for rule in held or ()}
    yield from (f"+ {where}: {rule}" for key, rule in meant.items() if key not in present)
    yield from (f"- {where}: {rule}" for key, rule in present.items() if key not in meant)


def _ours(chain: Chain) -> bool:
    return chain in FIXED or chain in SHARED or chain[1].startswith(OWN_PREFIXES)


def _ways(version: int, chains: Held) -> Iterator[Way]:
    entries = [_options(rule) for rule in chains.get(SERVICES, ())]
    nodes = [each["-d"].partition("/")[0] for each in entries if each.get("-j") == NODEPORTS[1] and "-d" in each]
    for each in entries:
        frontend = _asked(each, each.get("-d", "").partition("/")[0])
        if frontend is not None:
            yield from _leads(frontend, each["-j"], chains)
    for each in map(_options, chains.get(NODEPORTS, ())):
        for address in nodes:
            frontend = _asked(each, address)
            if frontend is not None:
                yield from _leads(frontend, each["-j"], chains)


def _leads(frontend: Frontend, chain: str, chains: Held, *, outside: bool = False) -> Iterator[Way]:
    """The ways of a frontend from a chain on; behind KUBE-EXT a KUBE-SVL chain is for strangers."""
    seen: set[str] = set()
    for rule in chains.get(("nat", chain), ()):
        found = _options(rule)
        target = found.get("-j", "")
        if target == "DNAT":
            address, _, port = found["--to-destination"].rpartition(":")
            yield Way(frontend, Backend(address.strip("[]"), int(port)), rule.packets, outside)
        elif target.startswith(OWN_PREFIXES) and target not in seen:
            seen.add(target)
            strangers = chain.startswith("KUBE-EXT-") and target.startswith("KUBE-SVL-")
            yield from _leads(frontend, target, chains, outside=outside or strangers)


def _options(rule: Rule) -> dict[str, str]:
    """The options of a rule that have a value; a negated one is none."""
    found = {}
    words = shlex.split(rule.text)
    for place, (word, value) in enumerate(itertools.pairwise(words)):
        if word.startswith("-") and not value.startswith("-") and words[place - 1 : place] != ["!"]:
            found[word] = value
    return found


def _asked(options: Mapping[str, str], address: str) -> Frontend | None:
    if not address or "--dport" not in options or "-j" not in options:
        return None
    return Frontend(address, options["-p"], int(options["--dport"]))
