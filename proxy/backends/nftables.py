"""The nftables backend: structure and bulk as text through `nft -f -`, single changes as netlink elements.

Owns the tables `nodeagent-proxy`. After a failed write the caller starts again with a full one.
"""

import asyncio
import contextlib
import errno
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from kube.runtime import nfelements, process
from proxy.backends import affinity, elements, expressions, packed, ruleset
from proxy.backends.elements import Edit, Element
from proxy.backends.monitor import Monitor, Notice
from proxy.backends.nftables_held import NftablesHeld
from proxy.backends.protocol import BackendError
from proxy.rules.plan import Changes, PortRules, RuleSet

NFT = "/usr/sbin/nft"
TIMEOUT_SECONDS = 60.0
BULK_EDITS = 200


class Nft(Protocol):
    """The ways into nf_tables. Each call is one transaction; failures raise BackendError."""

    async def load(self, text: str) -> None:
        """Runs a script as `nft -f -` does."""
        ...

    async def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        """Adds and deletes elements."""
        ...

    async def complete(self, seconds: Collection[int], *, table: str, chain: str) -> None:
        """Adds to a fresh table the rules of its `remember-N` chains, and the chain that says it is complete."""
        ...

    async def dump(self, version: int, *, table: str, name: str) -> list[Element]:
        """The elements of a set or map; none when there is no such thing."""
        ...

    async def exists(self, version: int, *, table: str, chain: str) -> bool:
        """Whether a chain is there."""
        ...

    async def damaged(self, table: str) -> str:
        """Returns what was done once somebody else changes a table of this name."""
        ...


class KernelNft:
    """The kernel's nf_tables in the network namespace of this process."""

    def __init__(self) -> None:
        self._socket: nfelements.Socket | None = None
        self._monitor = Monitor(self._concerns)
        self._table = ""

    async def load(self, text: str) -> None:
        try:
            with self._monitor.deaf():
                await process.run([NFT, "-f", "-"], stdin=text.encode(), timeout=TIMEOUT_SECONDS)
        except process.ProcessError as error:
            raise BackendError(f"nft refused the rules: {error.stderr.strip()[:500]}") from error

    async def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        try:
            # Below a millisecond for one change: a thread would cost more than the call.
            opened = self._open()
            if len(edits) > BULK_EDITS:
                await asyncio.to_thread(_commit, opened, edits, table)
            else:
                _commit(opened, edits, table)
        except (nfelements.ElementError, OSError) as error:
            self._close()
            raise BackendError(f"the kernel refused a change: {error}") from error

    async def complete(self, seconds: Collection[int], *, table: str, chain: str) -> None:
        steps = []
        for version in ruleset.FAMILIES:
            steps += [expressions.remember(version, table=table, seconds=timeout) for timeout in seconds]
            steps.append(expressions.mark(version, table=table, chain=chain))
        try:
            self._open().transact(steps)
        except (nfelements.ElementError, OSError) as error:
            self._close()
            raise BackendError(f"the kernel refused a rule: {error}") from error

    async def dump(self, version: int, *, table: str, name: str) -> list[Element]:
        try:
            held = await asyncio.to_thread(self._open().dump, version, table=table, name=name)
            return [packed.read(name, version, each) for each in held]
        except (nfelements.ElementError, OSError) as error:
            self._close()
            if error.errno == errno.ENOENT:
                return []
            raise BackendError(f"cannot read {name} of {table}: {error}") from error

    def _open(self) -> nfelements.Socket:
        if self._socket is None:
            self._socket = nfelements.Socket()
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    async def exists(self, version: int, *, table: str, chain: str) -> bool:
        try:
            return self._open().has_chain(version, table=table, chain=chain)
        except OSError as error:
            self._close()
            raise BackendError(f"cannot see whether table {table} is there: {error}") from error

    async def damaged(self, table: str) -> str:
        self._table = table
        try:
            return await self._monitor.wait()
        except OSError as error:
            self._monitor.close()
            raise BackendError(f"the kernel tells of no changes to table {table}: {error}") from error

    def close(self) -> None:
        """Releases the sockets."""
        self._close()
        self._monitor.close()

    def _concerns(self, notice: Notice) -> bool:
        own = self._socket.port if self._socket is not None else -1
        return notice.table == self._table and notice.sender != own


def _commit(opened: nfelements.Socket, edits: Sequence[Edit], table: str) -> None:
    opened.commit([packed.pack(edit) for edit in edits], table=table)


class NftablesBackend:
    """`proxy.backends.protocol.Backend` over nf_tables."""

    def __init__(self, nft: Nft | None = None, *, cluster_cidrs: Sequence[str] = (), tcp_liberal: bool = False) -> None:
        self._nft = nft or KernelNft()
        self._cidrs = tuple(cluster_cidrs)
        self._liberal = tcp_liberal
        self._counts: frozenset[int] = frozenset()
        self._timeouts: frozenset[int] = frozenset()
        self._suspect = False
        self._lock = asyncio.Lock()

    async def replace(self, rules: RuleSet) -> None:
        async with self._lock:
            if self._suspect or not await self._stands(rules):
                await self._load(rules)
                return
            # The structure is there: what differs is changed, and no packet finds the maps empty.
            wanted, held = set(elements.of_rules(rules)), await self._elements()
            present = {element for element in held if element.set != elements.AFFINITY}
            edits = [Edit(element=element, delete=True) for element in present - wanted]
            edits += [Edit(element=element) for element in wanted - present]
            if edits:
                await self._nft.commit(edits, table=ruleset.TABLE)
            ports = rules.ports()
            notes = [element for element in held if element.set == elements.AFFINITY]
            await self._forget(n for n in notes if not affinity.holds(n, ports.get(affinity.frontend(n))))

    async def change(self, changes: Changes) -> None:
        async with self._lock:
            self._check([new for _, new in changes.ports.values() if new])
            edits = elements.edits(changes)
            try:
                if edits:
                    await self._nft.commit(edits, table=ruleset.TABLE)
            except BackendError:
                self._suspect = True
                raise
            wanted = affinity.touched(changes)
            if wanted:
                await self._forget(affinity.stale(await self._notes(), wanted))

    async def held(self) -> NftablesHeld:
        async with self._lock:
            return NftablesHeld(await self._elements())

    async def present(self) -> bool:
        found = [
            await self._nft.exists(version, table=ruleset.TABLE, chain=ruleset.ENTRY) for version in ruleset.FAMILIES
        ]
        return all(found)

    async def damaged(self) -> str:
        done = await self._nft.damaged(ruleset.TABLE)
        self._suspect = True
        return done

    async def cleanup(self) -> None:
        async with self._lock:
            await self._nft.load(ruleset.removal())
            self._counts = self._timeouts = frozenset()

    def _check(self, wanted: Sequence[PortRules]) -> None:
        """Chains are made with the table: a number of endpoints or a timeout without one asks for a full write."""
        for rules in wanted:
            counts = {len(rules.backends), len(rules.local)} - {0}
            if not counts <= self._counts:
                raise BackendError(f"no chain for {max(counts)} endpoints ({rules.title}): all rules are written anew")
            if rules.affinity and rules.affinity not in self._timeouts:
                raise BackendError(f"no chain for an affinity of {rules.affinity} s ({rules.title}): all anew")

    async def _stands(self, rules: RuleSet) -> bool:
        """Whether tables of our making are there, with a chain for every number and timeout in use."""
        complete = self._completed(rules)
        for version in ruleset.FAMILIES:
            if not await self._nft.exists(version, table=ruleset.TABLE, chain=complete):
                return False
        if not self._counts:
            picks = await self._nft.dump(4, table=ruleset.TABLE, name=elements.PICKS)
            self._counts = frozenset(int(element.key[0]) for element in picks) - {0}
        ports = rules.ports().values()
        for seconds in affinity.timeouts(ports) - self._timeouts:
            chain = elements.remember_chain(seconds)
            if not await self._nft.exists(4, table=ruleset.TABLE, chain=chain):
                return False
            self._timeouts |= {seconds}
        used = {len(port.backends) for port in ports} | {len(port.local) for port in ports}
        return used - {0} <= self._counts

    def _completed(self, rules: RuleSet) -> str:
        return ruleset.completed(rules.ranges, cluster_cidrs=self._cidrs, tcp_liberal=self._liberal)

    async def _load(self, rules: RuleSet) -> None:
        """The tables anew, with what they noted of clients."""
        ports = rules.ports()
        notes = [note for note in await self._notes() if affinity.holds(note, ports.get(affinity.frontend(note)))]
        counts, timeouts = ruleset.counts(ports.values()), ruleset.timeouts(ports.values())
        # Where rules are in force, new ones take their place in one step. Where none are, they are filled in
        # afterwards: netlink is faster than text.
        replaced = await self._nft.exists(4, table=ruleset.TABLE, chain=ruleset.ENTRY)
        await self._nft.load(
            ruleset.whole(rules, cluster_cidrs=self._cidrs, tcp_liberal=self._liberal, filled=replaced)
        )
        if not replaced:
            await self._nft.commit([Edit(element=e) for e in elements.of_rules(rules)], table=ruleset.TABLE)
        await self._nft.complete(timeouts, table=ruleset.TABLE, chain=self._completed(rules))
        self._counts, self._timeouts, self._suspect = counts, timeouts, False
        if notes:
            await self._nft.commit([Edit(element=note) for note in notes], table=ruleset.TABLE)

    async def _elements(self) -> list[Element]:
        return [
            element
            for version in ruleset.FAMILIES
            for name in elements.KEYS
            if name != elements.PICKS
            for element in await self._nft.dump(version, table=ruleset.TABLE, name=name)
        ]

    async def _notes(self) -> list[Element]:
        return [
            note
            for version in ruleset.FAMILIES
            for note in await self._nft.dump(version, table=ruleset.TABLE, name=elements.AFFINITY)
        ]

    async def _forget(self, notes: Iterable[Element]) -> None:
        """Who was given an endpoint that is gone picks anew. After the change: so nobody is given it again."""
        for note in notes:
            with contextlib.suppress(BackendError):  # it ran out meanwhile
                await self._nft.commit([Edit(element=note, delete=True)], table=ruleset.TABLE)
