"""Pods of this node are answered here, on the cluster DNS address itself, without connection tracking.

A route of type local brings packets to that address to this machine, and rules in a table of our own leave them out of
connection tracking, so that no proxy translates them. The rules end with this process, and seconds after it hangs; then
any proxy, upstream's too, sends pods to another node's server as if nothing had been here. Must not know the zone.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from kube.runtime.clock import Clock
from proxy.dns import netlink
from proxy.dns.resolver import Resolver
from proxy.dns.server import Spawn, TcpServer, UdpServer

log = logging.getLogger(__name__)

TABLE = "nodeagent-dns"
PORT = 53
LOOK_SECONDS, KEEP_SECONDS = 1.0, 3.0
RETRY_SECONDS = 30.0


class Network(Protocol):
    """What of this machine is changed. Both raise OSError or NetlinkError."""

    def take(self, addresses: Sequence[str]) -> None:
        """Makes packets to DNS on these addresses come here for some seconds; said again, for some seconds more."""

    def release(self) -> None:
        """Undoes it."""


class Kernel:
    """The real network; `source` is the node's own address."""

    def __init__(self, *, source: str) -> None:
        self._source = source
        self._table: netlink.Table | None = None
        self._addresses: tuple[str, ...] = ()

    def take(self, addresses: Sequence[str]) -> None:
        """Routes first, so that there is somebody to answer when the rules come."""
        if self._table is None:
            self._addresses = tuple(addresses)
            for address in addresses:
                netlink.set_local(address, source=self._source, present=True)
            self._table = netlink.Table(TABLE, addresses, port=PORT)
        self._table.keep(seconds=KEEP_SECONDS)

    def release(self) -> None:
        """Rules first, so that nobody is sent to where nobody answers."""
        if self._table is not None:
            self._table.close()
        self._table = None
        for address in self._addresses:
            with contextlib.suppress(OSError, netlink.NetlinkError):
                netlink.set_local(address, source=None, present=False)


class NodeLocal:
    """Follows the addresses of the cluster DNS Service."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        addresses: Callable[[], tuple[str, ...]],
        network: Network,
        clock: Clock,
        spawn: Spawn,
        port: int = PORT,
    ) -> None:
        self._resolver, self._addresses, self._network = resolver, addresses, network
        self._clock, self._spawn, self._port = clock, spawn, port
        self._complained = ""

    async def run(self) -> None:
        """Until cancelled; what cannot be done is said once, and tried again: pods are answered by way of the proxy."""
        while True:
            wanted = self._addresses()
            if wanted:
                try:
                    await self._serve(wanted)
                except* (OSError, netlink.NetlinkError) as errors:
                    self._complain(errors.exceptions[0])
                    await self._clock.sleep(RETRY_SECONDS)
            await self._clock.sleep(LOOK_SECONDS)

    async def _serve(self, wanted: tuple[str, ...]) -> None:
        """Answers on these addresses as long as they are the Service's."""
        async with asyncio.TaskGroup() as group:
            servers = []
            for address in wanted:
                udp = UdpServer(self._resolver, address, self._port, free=True)
                tcp = TcpServer(self._resolver, address, self._port, free=True)
                servers += [group.create_task(udp.run(self._spawn)), group.create_task(tcp.run())]
            await asyncio.sleep(0)
            try:
                self._network.take(wanted)
                log.info("answering on %s without connection tracking", ", ".join(wanted))
                while self._addresses() == wanted:
                    await self._clock.sleep(LOOK_SECONDS)
                    self._network.take(wanted)
            finally:
                self._network.release()
            for server in servers:
                server.cancel()

    def _complain(self, error: BaseException) -> None:
        if str(error) != self._complained:
            self._complained = str(error)
            log.warning("cannot answer on the cluster DNS address here, the proxy leads to it: %s", error)
