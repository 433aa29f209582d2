"""Which changes in the kernel mean that overlay or pod ports must be compared with it again; and listening for them.

Owns the choice (`matters`, PURE) and the event socket. Must not know nodes.
"""

import asyncio
import enum
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_interface

from cni import attachment
from cni.netlink import addresses, interfaces, monitor, neighbours, routes, settings
from cni.netlink.monitor import Event, Monitor
from cni.netlink.wire import IPAddress, Network
from cni.overlay import kernel
from cni.overlay.plan import Entry, Forward, Route

LOOSE_SECONDS = 0.3


class Concern(enum.Enum):
    """What must be compared with the kernel."""

    OVERLAY = enum.auto()
    PODS = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What we have in the kernel: interfaces by index and by name, the entries last applied, the own pod ranges."""

    indexes: frozenset[int] = frozenset()
    names: frozenset[str] = kernel.NAMES
    bridge: str = ""
    ranges: tuple[Network, ...] = ()
    entries: Collection[Entry] = ()


def matters(event: Event, interest: Interest) -> Concern | None:
    """Whether an event may have taken something of ours away, or changed what it was planned from."""
    if event == monitor.LOST:
        return Concern.OVERLAY
    if event.kind in (interfaces.NEWLINK, interfaces.DELLINK):
        return _link_matters(event, interest)
    if event.kind in (addresses.NEWADDR, addresses.DELADDR):
        return _address_matters(event, interest)
    if event.kind == settings.NEWNETCONF:
        return Concern.PODS if settings.stops_forwarding(event.body) else None
    if event.kind in (routes.NEWROUTE, routes.DELROUTE):
        return Concern.OVERLAY if _route_matters(event, interest) else None
    if event.kind in (neighbours.NEWNEIGH, neighbours.DELNEIGH):
        return Concern.OVERLAY if _neighbour_matters(event, interest) else None
    return None


def loose(event: Event) -> tuple[str, bool] | None:
    """The name of a pod's host end, and whether it is there without being a bridge port that is up. PURE."""
    if event.kind not in (interfaces.NEWLINK, interfaces.DELLINK) or event.body[0] != socket.AF_UNSPEC:
        return None  # nor what a bridge says of its ports
    if not attachment.is_host_name(interfaces.link_identity(event.body)[1]):
        return None
    link = interfaces.parse_link(event.body)
    return link.name, event.kind == interfaces.NEWLINK and not (link.up and link.master)


def _link_matters(event: Event, interest: Interest) -> Concern | None:
    index, name = interfaces.link_identity(event.body)
    if name in interest.names or index in interest.indexes:
        return Concern.OVERLAY
    if name != interest.bridge:
        return None
    gone = event.kind == interfaces.DELLINK or not interfaces.parse_link(event.body).up
    return Concern.PODS if gone else None


def _address_matters(event: Event, interest: Interest) -> Concern | None:
    index, text = addresses.parse_address(event.body)
    if index in interest.indexes:
        return Concern.OVERLAY
    gateway = event.kind == addresses.DELADDR and any(ip_interface(text).ip in each for each in interest.ranges)
    return Concern.PODS if gateway else None


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
    """Calls `changed` with what an event concerns."""

    def __init__(self, *, interest: Callable[[], Interest], changed: Callable[[Concern], None]) -> None:
        self._interest = interest
        self._changed = changed
        self._loose: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Listens until cancelled."""
        loop, source = asyncio.get_running_loop(), Monitor()
        try:
            loop.add_reader(source.fileno(), self._read, source)
            await loop.create_future()
        finally:
            loop.remove_reader(source.fileno())
            source.close()
            if self._timer:
                self._timer.cancel()

    def _read(self, source: Monitor) -> None:
        interest = self._interest()
        for event in source.read():
            if concern := matters(event, interest):
                self._changed(concern)
            elif port := loose(event):
                (self._loose.add if port[1] else self._loose.discard)(port[0])
        if self._loose and self._timer is None:
            # Every pod's port is loose for a moment when it comes and when it goes.
            self._timer = asyncio.get_running_loop().call_later(LOOSE_SECONDS, self._still_loose)

    def _still_loose(self) -> None:
        self._timer = None
        if self._loose:
            self._loose.clear()
            self._changed(Concern.PODS)
