"""Our nft tables are ours alone, but others flush: the kernel says so, and they are put in again.

Owns listening and the look whether something is really gone (our own replacement of a table deletes it as well, and
adds it in the same transaction). Must not know what a table is for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cni.netlink import connection, monitor
from cni.netlink.monitor import Event, Monitor
from cni.netlink.wire import DUMP, Message, attributes, text

log = logging.getLogger(__name__)

NETLINK_NETFILTER = 12
NFTABLES_GROUP = 7
FAMILIES = {2: "ip", 10: "ip6"}
# Subsystem nftables in the high byte, NFT_MSG_* in the low one.
GET_CHAIN, GET_RULE = 0x0A04, 0x0A07
NEW_CHAIN, DELETED_TABLE, DELETED_CHAIN, NEW_RULE, DELETED_RULE = 0x0A03, 0x0A02, 0x0A05, 0x0A06, 0x0A08
REMOVALS = frozenset({DELETED_TABLE, DELETED_CHAIN, DELETED_RULE})
NFGENMSG_BYTES = 4
# Which attribute of a message has the name of the chain; that of the table is always the first.
TABLE_NAME = 1
CHAIN_NAME = {NEW_CHAIN: 3, DELETED_CHAIN: 3, NEW_RULE: 2, DELETED_RULE: 2}
SETTLE_SECONDS = 0.2
RETRY_SECONDS = 2.0

Table = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something came or went: in which family, table and chain ("" for a table itself)."""

    family: str
    table: str
    chain: str
    removed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Tables of one name: the families in which they are to be there now, and what brings them back."""

    families: Callable[[], Collection[str]]
    restore: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """A table of others where something of ours stands: the chains that concern us, and what looks after it."""

    table: Table
    chains: frozenset[str]
    look: Callable[[], Awaitable[None]]


def parse(event: Event) -> Notice | None:
    """What an event is about; None for sets and elements. PURE."""
    if event.kind not in REMOVALS and event.kind not in CHAIN_NAME:
        return None
    found = attributes(event.body[NFGENMSG_BYTES:])
    chain = _text(found.get(CHAIN_NAME[event.kind], b"")) if event.kind in CHAIN_NAME else ""
    family = FAMILIES.get(event.body[0], "")
    return Notice(family, _text(found.get(TABLE_NAME, b"")), chain, event.kind in REMOVALS)


def damaged(kept: Mapping[str, Collection[str]], found: Mapping[Table, bool]) -> frozenset[str]:
    """The names of which a table is missing or not whole, in a family in which it is to be there. PURE."""
    return frozenset(
        name for name, families in kept.items() if not all(found.get((family, name)) for family in families)
    )


class TableWatch:
    """Calls what brings a table back when somebody else has deleted or emptied it."""

    def __init__(self, kept: Mapping[str, Kept], visited: Sequence[Visited] = ()) -> None:
        self._kept = kept
        self._visited = visited
        self._suspects: set[str] = set()
        self._visits: set[int] = set()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Listens until cancelled."""
        loop = asyncio.get_running_loop()
        source = Monitor(protocol=NETLINK_NETFILTER, groups=(NFTABLES_GROUP,))
        try:
            loop.add_reader(source.fileno(), self._read, source)
            while True:
                await self._woken.wait()
                await asyncio.sleep(SETTLE_SECONDS)
                self._woken.clear()
                await self._look()
        finally:
            loop.remove_reader(source.fileno())
            source.close()

    def _read(self, source: Monitor) -> None:
        for event in source.read():
            if event == monitor.LOST:
                self._suspects |= self._kept.keys()
                self._visits |= set(range(len(self._visited)))
            elif notice := parse(event):
                self._note(notice)
        if self._suspects or self._visits:
            self._woken.set()

    def _note(self, notice: Notice) -> None:
        if notice.removed and notice.table in self._kept:
            self._suspects.add(notice.table)
        for number, each in enumerate(self._visited):
            if (notice.family, notice.table) == each.table and notice.chain in each.chains:
                self._visits.add(number)

    async def _look(self) -> None:
        suspects, self._suspects = self._suspects, set()
        visits, self._visits = self._visits, set()
        try:
            if suspects:
                found = await asyncio.to_thread(present, suspects)
                for name in sorted(damaged({name: self._kept[name].families() for name in suspects}, found)):
                    await self._kept[name].restore()
            for number in sorted(visits):
                await self._visited[number].look()
        except Exception as error:
            names = ", ".join(sorted(suspects) or sorted(self._visited[number].table[1] for number in visits))
            log.warning("nft tables %s may be damaged, next look in %d s: %s", names, RETRY_SECONDS, error)
            await asyncio.sleep(RETRY_SECONDS)
            self._suspects |= suspects
            self._visits |= visits
            self._woken.set()


def present(names: Collection[str]) -> Mapping[Table, bool]:
    """The tables of these names that have chains, and whether none of the chains is empty (ours never are).

    By netlink: `nft` itself can crash while somebody flushes. Blocking.
    """
    with connection.Socket(protocol=NETLINK_NETFILTER) as host:
        chains = {_place(body, NEW_CHAIN) for body in host.ask(_dump(GET_CHAIN))}
        filled = {_place(body, NEW_RULE) for name in names for body in host.ask(_dump(GET_RULE, table=name))}
    found: dict[Table, bool] = {}
    for family, table, chain in chains:
        if table in names:
            found[family, table] = found.get((family, table), True) and (family, table, chain) in filled
    return found


def _dump(kind: int, *, table: str = "") -> Message:
    return Message(kind, DUMP, bytes(NFGENMSG_BYTES) + (text(TABLE_NAME, table) if table else b""), "list nft tables")


def _place(body: bytes, kind: int) -> tuple[str, str, str]:
    found = attributes(body[NFGENMSG_BYTES:])
    family = FAMILIES.get(body[0], "")
    return family, _text(found.get(TABLE_NAME, b"")), _text(found.get(CHAIN_NAME[kind], b""))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
