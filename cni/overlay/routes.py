"""The kernel's routes to other nodes, ours alone: they carry our protocol number, so that nobody else's are touched."""

import errno
from typing import Protocol

from cni import netlink
from cni.overlay.plan import Change, Route

# Marks our routes in `ip route` as `proto 110`; below it are the numbers that iproute2 has names for.
PROTOCOL = 110


class Routes(Protocol):
    """What the overlay needs of the kernel. Blocking."""

    def observe(self) -> frozenset[Route]:
        """Our routes that are there now."""
        ...

    def apply(self, change: Change) -> None:
        """Adds and removes; raises netlink.NetlinkError naming the route."""
        ...


class KernelRoutes:
    """Routes by rtnetlink."""

    def observe(self) -> frozenset[Route]:
        with netlink.Socket() as host:
            replies = [*host.ask(netlink.dump_routes(4)), *host.ask(netlink.dump_routes(6))]
        states = filter(None, map(netlink.parse_route, replies))
        return frozenset(Route(s.destination, s.gateway) for s in states if s.protocol == PROTOCOL and s.gateway)

    def apply(self, change: Change) -> None:
        with netlink.Socket() as host:
            for route in change.remove:
                try:
                    host.apply([netlink.delete_route(route.destination, gateway=route.gateway, protocol=PROTOCOL)])
                except netlink.NetlinkError as error:
                    if error.errno not in (errno.ESRCH, errno.ENOENT):
                        raise
            if change.add:
                host.apply([netlink.new_route(r.destination, gateway=r.gateway, protocol=PROTOCOL) for r in change.add])
