"""Which changes in the kernel mean that the overlay must be compared with it again; and listening for them.

Owns the choice (`matters`, PURE) and the event socket. Must not know nodes.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from cni.netlink import addresses, interfaces, monitor, neighbours, routes
from cni.netlink.monitor import Event, Monitor
from cni.netlink.wire import IPAddress
from cni.overlay import kernel
from cni.overlay.plan import Entry, Forward, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What we have in the kernel: interfaces by index and by name, and the entries last applied."""

    indexes: frozenset[int] = frozenset()
    names: frozenset[str] = kernel.NAMES
    bridge: str = ""
    entries: Collection[Entry] = ()


def matters(event: Event, interest: Interest) -> bool:
    """Whether an event may have taken something of ours away, or changed what it was planned from."""
    if event == monitor.LOST:
        return True
    if event.kind in (interfaces.NEWLINK, interfaces.DELLINK):
        index, name = interfaces.link_identity(event.body)
        removed = event.kind == interfaces.DELLINK and name == interest.bridge
        return removed or name in interest.names or index in interest.indexes
    if event.kind in (addresses.NEWADDR, addresses.DELADDR):
        return addresses.parse_address(event.body)[0] in interest.indexes
    if event.kind in (routes.NEWROUTE, routes.DELROUTE):
        return _route_matters(event, interest)
    if event.kind in (neighbours.NEWNEIGH, neighbours.DELNEIGH):
        return _neighbour_matters(event, interest)
    return False


def _route_matters(event: Event, interest: Interest) -> bool:
    state = routes.parse_route(event.body)
    if state is None:
        return False
    planned = any(isinstance(e, Route) and e.destination == state.destination for e in interest.entries)
    if event.kind == routes.DELROUTE:
        return planned
    return planned and state.protocol != kernel.PROTOCOL


def _neighbour_matters(event: Event, interest: Interest) -> bool:
    state = neighbours.parse_neighbour(event.body)
    if state.interface not in interest.indexes or state.address is None:
        return False
    planned = any(state.address == _address(entry) for entry in interest.entries)
    if event.kind == neighbours.DELNEIGH:
        return planned
    return planned and not state.permanent


def _address(entry: Entry) -> IPAddress | None:
    if isinstance(entry, Route):
        return None
    return entry.remote if isinstance(entry, Forward) else entry.address


class Watch:
    """Calls `changed` when an event matters."""

    def __init__(self, *, interest: Callable[[], Interest], changed: Callable[[], None]) -> None:
        self._interest = interest
        self._changed = changed

    async def run(self) -> None:
        """Listens until cancelled."""
        loop, source = asyncio.get_running_loop(), Monitor()
        try:
            loop.add_reader(source.fileno(), self._read, source)
            await loop.create_future()
        finally:
            loop.remove_reader(source.fileno())
            source.close()

    def _read(self, source: Monitor) -> None:
        interest = self._interest()
        if sum(matters(event, interest) for event in source.read()):
            self._changed()
