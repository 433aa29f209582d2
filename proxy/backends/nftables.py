"""The nftables backend: structure and bulk as text through `nft -f -`, single changes as netlink elements.

Owns the tables `nodeagent-proxy`. After a failed write the caller starts again with a full one.
"""

import asyncio
import contextlib
import errno
from collections.abc import Collection, Sequence
from typing import Protocol

from kube.runtime import process
from proxy.backends import affinity, elements, expressions, nfnetlink, ruleset
from proxy.backends.elements import Edit, Element
from proxy.backends.monitor import Monitor, Notice
from proxy.backends.protocol import BackendError
from proxy.rules.plan import Changes, PortRules, RuleSet

NFT = "/usr/sbin/nft"
TIMEOUT_SECONDS = 60.0


class Nft(Protocol):
    """The ways into nf_tables. Each call is one transaction; failures raise BackendError."""

    async def load(self, text: str) -> None:
        """Runs a script as `nft -f -` does."""
        ...

    async def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        """Adds and deletes elements."""
        ...

    async def remember(self, seconds: Collection[int], *, table: str) -> None:
        """Gives the chains `remember-N` of both versions their rule."""
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
        self._socket: nfnetlink.Socket | None = None
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
            self._open().commit([nfnetlink.edit_step(edit, table=table) for edit in edits])
        except (nfnetlink.NfnetlinkError, OSError) as error:
            self._close()
            raise BackendError(f"the kernel refused a change: {error}") from error

    async def remember(self, seconds: Collection[int], *, table: str) -> None:
        rules = [expressions.remember(v, table=table, seconds=n) for v in ruleset.FAMILIES for n in seconds]
        try:
            self._open().commit(rules)
        except (nfnetlink.NfnetlinkError, OSError) as error:
            self._close()
            raise BackendError(f"the kernel refused session affinity: {error}") from error

    async def dump(self, version: int, *, table: str, name: str) -> list[Element]:
        try:
            return self._open().dump(version, table=table, name=name)
        except (nfnetlink.NfnetlinkError, OSError) as error:
            self._close()
            if error.errno == errno.ENOENT:
                return []
            raise BackendError(f"cannot read {name} of {table}: {error}") from error

    def _open(self) -> nfnetlink.Socket:
        if self._socket is None:
            self._socket = nfnetlink.Socket()
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


class NftablesBackend:
    """`proxy.backends.protocol.Backend` over nf_tables."""

    def __init__(self, nft: Nft | None = None, *, cluster_cidrs: Sequence[str] = ()) -> None:
        self._nft = nft or KernelNft()
        self._cidrs = tuple(cluster_cidrs)
        self._counts: frozenset[int] = frozenset()
        self._timeouts: frozenset[int] = frozenset()
        self._lock = asyncio.Lock()

    async def replace(self, rules: RuleSet) -> None:
        async with self._lock:
            notes = await self._notes()
            await self._nft.load(ruleset.whole(rules, cluster_cidrs=self._cidrs))
            ports = rules.ports()
            self._counts, self._timeouts = ruleset.counts(ports.values()), ruleset.timeouts(ports.values())
            await self._nft.remember(self._timeouts, table=ruleset.TABLE)
            kept = [Edit(element=note) for note in notes if affinity.holds(note, ports.get(affinity.frontend(note)))]
            if kept:
                await self._nft.commit(kept, table=ruleset.TABLE)

    async def change(self, changes: Changes) -> None:
        async with self._lock:
            self._check([new for _, new in changes.ports.values() if new])
            edits = elements.edits(changes)
            if edits:
                await self._nft.commit(edits, table=ruleset.TABLE)
            await self._forget_clients(changes)

    async def held(self) -> list[Element]:
        """Every element in the kernel, with counters; for people and comparisons."""
        return [
            element
            for version in ruleset.FAMILIES
            for name in elements.KEYS
            for element in await self._nft.dump(version, table=ruleset.TABLE, name=name)
        ]

    async def present(self) -> bool:
        found = [
            await self._nft.exists(version, table=ruleset.TABLE, chain=ruleset.ENTRY) for version in ruleset.FAMILIES
        ]
        return all(found)

    async def damaged(self) -> str:
        return await self._nft.damaged(ruleset.TABLE)

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

    async def _notes(self) -> list[Element]:
        return [
            note
            for version in ruleset.FAMILIES
            for note in await self._nft.dump(version, table=ruleset.TABLE, name=elements.AFFINITY)
        ]

    async def _forget_clients(self, changes: Changes) -> None:
        """Who was given an endpoint that is gone picks anew. After the change: so nobody is given it again."""
        wanted = affinity.touched(changes)
        for note in affinity.stale(await self._notes(), wanted) if wanted else ():
            with contextlib.suppress(BackendError):  # it ran out meanwhile
                await self._nft.commit([Edit(element=note, delete=True)], table=ruleset.TABLE)
