"""The iptables backend: `iptables-restore --noflush`, writing only the chains that a change touches.

Owns the chains of `iptables_rules` and its jumps in the built-in chains, nothing else. Works with the host's own
iptables, whichever it stands on; on nf_tables it hears at once when somebody removes a rule.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kube.runtime import process
from proxy.backends import iptables_held, iptables_rules
from proxy.backends.iptables_held import IptablesHeld
from proxy.backends.iptables_rules import CANARY, FIXED, JUMPS, OWN_PREFIXES, SHARED, Chain, Part, PortKey, Rules
from proxy.backends.monitor import Monitor, Notice
from proxy.backends.protocol import BackendError
from proxy.rules.plan import Changes, Frontend, PortRules, RuleSet

FOLDER = "/usr/sbin"
PREFIXES = {4: "iptables", 6: "ip6tables"}
TABLES = ("mangle", "filter", "nat")
TIMEOUT_SECONDS = 60.0
LOCK_SECONDS = "5"


class Xtables(Protocol):
    """The programs of iptables. Each call is atomic for one table; failures raise BackendError."""

    async def save(self, version: int) -> str:
        """What `iptables-save -c` prints."""
        ...

    async def restore(self, version: int, text: str) -> None:
        """Runs a script as `iptables-restore --noflush` does."""
        ...

    async def removed(self) -> str:
        """Returns the name of a chain, or of a table, of which somebody else removed something."""
        ...


class HostXtables:
    """The host's programs; `kind` "" is its own choice, else "nft" or "legacy"."""

    def __init__(self, *, kind: str = "") -> None:
        self._kind = kind
        self._monitor = Monitor(lambda notice: self._concerns(notice))
        self._last = ""

    async def save(self, version: int) -> str:
        try:
            return (await process.run([self._program(version, "save"), "-c"], timeout=TIMEOUT_SECONDS)).decode()
        except process.ProcessError as error:
            raise BackendError(f"the rules cannot be read: {error.stderr.strip()[:500]}") from error

    async def restore(self, version: int, text: str) -> None:
        argv = [self._program(version, "restore"), "--noflush", "-w", LOCK_SECONDS]
        try:
            with self._monitor.deaf():
                await process.run(argv, stdin=text.encode(), timeout=TIMEOUT_SECONDS)
        except process.ProcessError as error:
            raise BackendError(f"iptables-restore refused the rules: {error.stderr.strip()[:500]}") from error

    async def removed(self) -> str:
        if self._kind == "legacy":
            raise BackendError("legacy iptables tells of no changes")
        try:
            await self._monitor.wait()
        except OSError as error:
            self._monitor.close()
            raise BackendError(f"the kernel tells of no changes: {error}") from error
        return self._last

    def close(self) -> None:
        """Releases the socket."""
        self._monitor.close()

    def _program(self, version: int, what: str) -> str:
        named = f"{FOLDER}/{PREFIXES[version]}-{self._kind}-{what}"
        # Old iptables knows one kind only and has no names for it.
        return named if self._kind and os.path.exists(named) else f"{FOLDER}/{PREFIXES[version]}-{what}"

    def _concerns(self, notice: Notice) -> bool:
        if notice.table not in TABLES or not notice.removed:
            return False
        self._last = notice.chain or notice.table
        return True


@dataclass(slots=True)
class _Family:
    """What was last written for one IP version."""

    parts: dict[PortKey, Part] = field(default_factory=dict)
    shared: Rules = field(default_factory=dict)


class IptablesBackend:
    """`proxy.backends.protocol.Backend` over iptables."""

    def __init__(
        self, xtables: Xtables | None = None, *, cluster_cidrs: Sequence[str] = (), tcp_liberal: bool = False
    ) -> None:
        self._liberal = tcp_liberal
        self._xtables = xtables or HostXtables()
        self._cidrs = {
            version: [cidr for cidr in cluster_cidrs if (6 if ":" in cidr else 4) == version] for version in PREFIXES
        }
        self._ports: dict[tuple[int, PortKey], dict[Frontend, PortRules]] = {}
        self._families = {version: _Family() for version in PREFIXES}
        self._comments = True
        self._written: dict[tuple[int, str], int] = {}
        self._lock = asyncio.Lock()

    async def replace(self, rules: RuleSet) -> None:
        async with self._lock:
            self._ports, self._comments = iptables_rules.grouped(rules), iptables_rules.few(rules)
            for version in PREFIXES:
                wanted = {key: self._part(v, key) for (v, key) in self._ports if v == version}
                shared = iptables_rules.shared(wanted.values())
                fixed, own = iptables_rules.fixed(tcp_liberal=self._liberal), iptables_rules.chains_of(wanted.values())
                chains = fixed | shared | own
                held = held_chains(await self._xtables.save(version))
                gone = [chain for chain in held if chain[1].startswith(OWN_PREFIXES) and chain not in chains]
                text = script(chains, gone=gone, jumps=missing_jumps(held))
                await self._xtables.restore(version, text)
                self._count(version, chains)
                self._families[version] = _Family(parts=wanted, shared=shared)

    async def change(self, changes: Changes) -> None:
        async with self._lock:
            touched = self._remember(changes)
            for version, family in self._families.items():
                keys = {key for v, key in touched if v == version}
                if keys:
                    await self._change(version, family, keys)

    async def present(self) -> bool:
        for version in PREFIXES:
            held = held_chains(await self._xtables.save(version))
            if CANARY not in held or missing_jumps(held):
                return False
        return True

    async def damaged(self) -> str:
        while True:
            name = await self._xtables.removed()
            # In a built-in chain it may have been anybody's rule, and ours are all there.
            if name.startswith("KUBE-") or not await self.present():
                return f"in {name}"

    async def held(self) -> IptablesHeld:
        saved = {version: await self._xtables.save(version) for version in PREFIXES}
        return IptablesHeld(saved, cidrs=self._cidrs, tcp_liberal=self._liberal)

    async def cleanup(self) -> None:
        async with self._lock:
            for version in PREFIXES:
                await self._xtables.restore(version, removal(held_chains(await self._xtables.save(version))))
            self._ports = {}
            self._families = {version: _Family() for version in PREFIXES}

    def total(self, version: int, table: str) -> int:
        """How many rules of ours a table of an IP version has."""
        family = self._families[version]
        own = iptables_rules.chains_of(family.parts.values())
        return _rules_in(table, iptables_rules.fixed(tcp_liberal=self._liberal) | family.shared | own)

    def written(self, version: int, table: str) -> int:
        """How many of them were in the last write."""
        return self._written.get((version, table), 0)

    def _count(self, version: int, chains: Rules) -> None:
        self._written |= {(version, table): _rules_in(table, chains) for table in TABLES}

    def _remember(self, changes: Changes) -> set[tuple[int, PortKey]]:
        """The Service ports whose frontends changed."""
        touched = set()
        for frontend, (old, new) in changes.ports.items():
            for port in (old, new):
                if port is not None:
                    touched.add(iptables_rules.key(frontend, port))
            if old is not None:
                self._ports.get(iptables_rules.key(frontend, old), {}).pop(frontend, None)
            if new is not None:
                self._ports.setdefault(iptables_rules.key(frontend, new), {})[frontend] = new
        for key in touched:
            if not self._ports.get(key):
                self._ports.pop(key, None)
        return touched

    def _part(self, version: int, key: PortKey) -> Part:
        ports = self._ports.get((version, key))
        if not ports:
            return Part()
        return iptables_rules.part(*key, ports, cidrs=self._cidrs[version], comments=self._comments)

    async def _change(self, version: int, family: _Family, keys: Iterable[PortKey]) -> None:
        before = {key: family.parts.get(key, Part()) for key in keys}
        after = {key: self._part(version, key) for key in before}
        old, new = iptables_rules.chains_of(before.values()), iptables_rules.chains_of(after.values())
        chains = {chain: rules for chain, rules in new.items() if old.get(chain) != rules}
        parts = {key: part for key, part in (family.parts | after).items() if part != Part()}
        if any(before[key].lines != after[key].lines for key in before):
            shared = iptables_rules.shared(parts.values())
            chains |= {chain: rules for chain, rules in shared.items() if family.shared.get(chain) != rules}
        else:
            shared = family.shared
        gone = [chain for chain in old if chain not in new]
        if chains or gone:
            await self._xtables.restore(version, script(chains, gone=gone))
            self._count(version, chains)
        self._families[version] = _Family(parts=parts, shared=shared)


def _rules_in(table: str, chains: Rules) -> int:
    return sum(len(rules) for chain, rules in chains.items() if chain[0] == table)


def held_chains(saved: str) -> Rules:
    """The chains that `iptables-save` printed, with their rules. PURE."""
    return {chain: tuple(rule.text for rule in rules) for chain, rules in iptables_held.read(saved).items()}


def missing_jumps(held: Mapping[Chain, Sequence[str]]) -> Rules:
    """The jumps that are not in the built-in chains. PURE."""
    missing = {chain: tuple(r for r in rules if r not in held.get(chain, ())) for chain, rules in JUMPS.items()}
    return {chain: rules for chain, rules in missing.items() if rules}


def script(chains: Mapping[Chain, Sequence[str]], *, gone: Sequence[Chain] = (), jumps: Rules | None = None) -> str:
    """Text for `iptables-restore --noflush`: these chains with these rules only, those no more, those jumps. PURE."""
    text = []
    for table in TABLES:
        ours = {name: rules for (t, name), rules in chains.items() if t == table}
        ending = [name for t, name in gone if t == table]
        entries = {name: rules for (t, name), rules in (jumps or {}).items() if t == table}
        if not ours and not ending and not entries:
            continue
        text += [f"*{table}", *(f":{name} - [0:0]" for name in (*ours, *ending))]
        text += [f"-A {name} {rule}" for name, rules in ours.items() for rule in rules]
        text += [f"-I {name} {n} {rule}" for name, rules in entries.items() for n, rule in enumerate(rules, 1)]
        text += [*(f"-X {name}" for name in ending), "COMMIT"]
    return "\n".join(text) + "\n"


def removal(held: Mapping[Chain, Sequence[str]]) -> str:
    """Text that removes all that is ours and is there, and whatever leads to it: upstream's jumps have conditions of
    their own. PURE.
    """
    text = []
    for table in TABLES:
        ours = [(t, name) for t, name in held if t == table and _ours((t, name))]
        jumps = [
            f"-D {name} {rule}"
            for (t, name), rules in held.items()
            for rule in rules
            if t == table and not _ours((t, name)) and _ours((t, _target(rule)))
        ]
        if ours:
            text += [f"*{table}", *(f":{name} - [0:0]" for _, name in ours), *jumps]
            text += [*(f"-X {name}" for _, name in ours), "COMMIT"]
    return "\n".join(text) + "\n"


def _target(rule: str) -> str:
    """The chain a rule leads to, or ""."""
    words = rule.split()
    return words[-1] if words[-2:-1] in (["-j"], ["-g"]) else ""


def _ours(chain: Chain) -> bool:
    return chain in FIXED or chain in SHARED or chain[1].startswith(OWN_PREFIXES)
