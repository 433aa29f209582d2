"""Our nft tables are ours alone, but others flush: the kernel says so, and they are put in again.

Owns listening and the look whether a table is really gone (our own replacement of a table deletes it as well, and adds
it in the same transaction). Must not know what is in a table.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from cni.netlink import connection, monitor
from cni.netlink.monitor import Event, Monitor
from cni.netlink.wire import DUMP, Message, attributes

log = logging.getLogger(__name__)

NETLINK_NETFILTER = 12
NFTABLES_GROUP = 7
# Subsystem nftables in the high byte; NFT_MSG_GETTABLE, NFT_MSG_DELTABLE in the low one.
LIST, DELETED = 0x0A01, 0x0A02
NFGENMSG_BYTES = 4
NAME = 1
SETTLE_SECONDS = 0.2
RETRY_SECONDS = 2.0


def deleted(event: Event) -> str | None:
    """The name of the table that an event reports as deleted. PURE."""
    return _name(event.body) if event.kind == DELETED else None


class TableWatch:
    """Calls what brings a table back when somebody else has deleted it."""

    def __init__(self, restore: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        self._restore = restore
        self._suspects: set[str] = set()
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
            name = deleted(event)
            found = set(self._restore) if event == monitor.LOST else {name} & set(self._restore)
            self._suspects |= {each for each in found if each}
        if self._suspects:
            self._woken.set()

    async def _look(self) -> None:
        suspects, self._suspects = self._suspects, set()
        try:
            there = await asyncio.to_thread(present)
            for name in sorted(suspects - there):
                await self._restore[name]()
        except Exception as error:
            names = ", ".join(sorted(suspects))
            log.warning("nft tables %s may be gone, next look in %d s: %s", names, RETRY_SECONDS, error)
            await asyncio.sleep(RETRY_SECONDS)
            self._suspects |= suspects
            self._woken.set()


def present() -> set[str]:
    """The names of all tables. By netlink: `nft` itself can crash while somebody flushes. Blocking."""
    request = Message(LIST, DUMP, bytes(NFGENMSG_BYTES), "list nft tables")
    with connection.Socket(protocol=NETLINK_NETFILTER) as host:
        return {_name(body) for body in host.ask(request)}


def _name(body: bytes) -> str:
    return attributes(body[NFGENMSG_BYTES:]).get(NAME, b"").rstrip(b"\0").decode(errors="replace")
