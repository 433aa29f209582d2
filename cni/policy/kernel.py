"""The kernel's part: structure as text through `nft`, elements straight by netlink.

Owns how a PolicySet gets into nf_tables. Must not know policies. Every call is one transaction.
"""

import logging
from pathlib import Path
from typing import Protocol

from cni.policy import ruleset
from cni.policy.plan import VERDICTS, Change, Element, PolicySet
from kube.runtime import nfelements, process

log = logging.getLogger(__name__)

NFT = "/usr/sbin/nft"
TIMEOUT_SECONDS = 20.0
BRIDGE_SETTINGS = Path("/proc/sys/net/bridge")


class RulesError(Exception):
    """The kernel or its tool refused the rules; nothing of that write took effect. Next comes a full write."""


class Rules(Protocol):
    """Where policies are enforced."""

    async def replace(self, wanted: PolicySet) -> None:
        """Makes it hold exactly this, whatever it held. Raises RulesError."""
        ...

    async def change(self, change: Change) -> None:
        """Applies a difference to what the last write left. Raises RulesError."""
        ...


class KernelRules:
    """nf_tables of the network namespace in which the calling thread is."""

    def __init__(self) -> None:
        self._socket: nfelements.Socket | None = None

    async def replace(self, wanted: PolicySet) -> None:
        if not wanted.empty:
            see_bridged_packets()
        await self._load(ruleset.whole(wanted))

    async def change(self, change: Change) -> None:
        if change.structural:
            await self._load(ruleset.change(change))
            return
        edits = [*(edit(each, delete=True) for each in change.remove), *(edit(each) for each in change.add)]
        try:
            self._open().commit(edits, table=ruleset.TABLE)
        except (nfelements.ElementError, OSError) as error:
            self.close()
            raise RulesError(f"the kernel refused a change of policy rules: {error}") from error

    def close(self) -> None:
        """Releases the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _open(self) -> nfelements.Socket:
        if self._socket is None:
            self._socket = nfelements.Socket()
        return self._socket

    async def _load(self, text: str) -> None:
        try:
            await process.run([NFT, "-f", "-"], stdin=text.encode(), timeout=TIMEOUT_SECONDS)
        except process.ProcessError as error:
            raise RulesError(f"nft refused the policy rules: {error.stderr.strip()[:500]}") from error


def edit(element: Element, *, delete: bool = False) -> nfelements.Edit:
    """An element as the kernel wants it. PURE."""
    key = b"".join(nfelements.port(part) if isinstance(part, int) else nfelements.address(part) for part in element.key)
    return nfelements.Edit(
        version=element.version,
        set=element.set,
        key=key,
        verdict=VERDICTS.get(element.set, ""),
        chain=element.chain,
        delete=delete,
        wanted=element.text(),
    )


def see_bridged_packets() -> None:
    """Packets between two pods of one bridge must pass the hooks: turns that on where it was off."""
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        setting = BRIDGE_SETTINGS / name
        try:
            if setting.read_text().strip() != "1":
                setting.write_text("1")
                log.warning("net.bridge.%s was 0: set to 1, or pods of one node would meet no policy", name)
        except OSError as error:
            log.error("pods of one node meet no policy among themselves: %s (load br_netfilter): %s", setting, error)
