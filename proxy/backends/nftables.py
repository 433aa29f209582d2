"""The nftables backend: structure and bulk as text through `nft -f -`, single changes as netlink elements.

Owns the tables `nodeagent-proxy`. After a failed write the caller starts again with a full one.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kube.runtime import process
from proxy.backends import elements, nfnetlink, ruleset
from proxy.backends.elements import Edit
from proxy.backends.protocol import BackendError
from proxy.rules.plan import Changes, Frontend, RuleSet

NFT = "/usr/sbin/nft"
TIMEOUT_SECONDS = 60.0


class Nft(Protocol):
    """The two ways into nf_tables. Each call is one transaction; failures raise BackendError."""

    async def load(self, text: str) -> None:
        """Runs a script as `nft -f -` does."""
        ...

    async def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        """Adds and deletes elements."""
        ...

    async def exists(self, family: str, table: str) -> bool:
        """Whether a table is there."""
        ...


class KernelNft:
    """The kernel's nf_tables in the network namespace of this process."""

    def __init__(self) -> None:
        self._socket: nfnetlink.Socket | None = None

    async def load(self, text: str) -> None:
        try:
            await process.run([NFT, "-f", "-"], stdin=text.encode(), timeout=TIMEOUT_SECONDS)
        except process.ProcessError as error:
            raise BackendError(f"nft refused the rules: {error.stderr.strip()[:500]}") from error

    async def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        try:
            # Below a millisecond for one change: a thread would cost more than the call.
            if self._socket is None:
                self._socket = nfnetlink.Socket()
            self._socket.commit(edits, table=table)
        except (nfnetlink.NfnetlinkError, OSError) as error:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            raise BackendError(f"the kernel refused a change: {error}") from error

    async def exists(self, family: str, table: str) -> bool:
        try:
            await process.run([NFT, "list", "chain", family, table, "nat-prerouting"], timeout=TIMEOUT_SECONDS)
        except process.ProcessError:
            return False
        return True


class NftablesBackend:
    """`proxy.backends.protocol.Backend` over nf_tables."""

    def __init__(self, nft: Nft | None = None, *, cluster_cidrs: Sequence[str] = ()) -> None:
        self._nft = nft or KernelNft()
        self._cidrs = tuple(cluster_cidrs)
        self._frontends: dict[str, set[Frontend]] = {}
        self._chains = 0
        self._lock = asyncio.Lock()

    async def replace(self, rules: RuleSet) -> None:
        async with self._lock:
            await self._nft.load(ruleset.whole(rules, cluster_cidrs=self._cidrs))
            ports = rules.ports()
            self._chains = ruleset.pick_chains(rules)
            self._frontends = {}
            for frontend in ports:
                self._frontends.setdefault(frontend.address, set()).add(frontend)

    async def change(self, changes: Changes) -> None:
        async with self._lock:
            touched = {frontend.address for frontend in changes.ports}
            before = [f for address in touched for f in self._frontends.get(address, ())]
            if any(len(new.backends) > self._chains for _, new in changes.ports.values() if new):
                raise BackendError(f"a Service has more than {self._chains} endpoints: all rules are written anew")
            edits = elements.edits(changes, before=before)
            if edits:
                await self._nft.commit(edits, table=ruleset.TABLE)
            self._remember(changes)

    async def present(self) -> bool:
        found = [await self._nft.exists(family, ruleset.TABLE) for family in ruleset.FAMILIES.values()]
        return all(found)

    async def cleanup(self) -> None:
        async with self._lock:
            await self._nft.load(ruleset.removal())
            self._frontends, self._chains = {}, 0

    def _remember(self, changes: Changes) -> None:
        for frontend, (_, new) in changes.ports.items():
            held = self._frontends.setdefault(frontend.address, set())
            if new is None:
                held.discard(frontend)
            else:
                held.add(frontend)
            if not held:
                del self._frontends[frontend.address]
