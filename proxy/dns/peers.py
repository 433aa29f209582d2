"""DNS servers look after each other: one that does not answer is taken out of the cluster DNS Service.

Each server asks its next two neighbours (by name, in a circle of those that count as ready) once a second; the same
object says who they are, so no list is kept. After three silences a slice is marked as not ready, whatever the reason:
process, machine or network. Its owner marks it ready again when it is well. Must not know the zone.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from kube import scheme, status
from kube.client.errors import ClientError
from kube.client.rest import Client
from kube.runtime.clock import Clock
from proxy.dns import wire
from proxy.dns.config import DNSConfiguration
from proxy.dns.exchange import Exchange
from proxy.dns.publish import MANAGER
from proxy.dns.views import EndpointSlice
from proxy.dns.wire import Query

log = logging.getLogger(__name__)

PERIOD_SECONDS, PROBE_SECONDS, WRITE_SECONDS = 1.0, 0.8, 5.0
SILENCES = 3
NEIGHBOURS = 2
FAILURES = (OSError, TimeoutError, wire.FormatError, EOFError)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A server to look after: its slice's name, and where it listens."""

    slice: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to ask now, and which slices to mark as not ready."""

    ask: tuple[Neighbour, ...]
    mark: tuple[str, ...]


def plan(slices: Iterable[EndpointSlice], *, own: str, service: str, silences: Mapping[str, int]) -> Plan:
    """The neighbours behind `own` in the circle of servers that count as ready. PURE."""
    found = sorted(_neighbours(slices, own=own, service=service), key=lambda each: (each.slice < own, each.slice))
    mark = tuple(each.slice for each in found if silences.get(each.slice, 0) >= SILENCES)
    alive = [each for each in found if each.slice not in mark]
    return Plan(tuple(alive[:NEIGHBOURS]), mark)


def _neighbours(slices: Iterable[EndpointSlice], *, own: str, service: str) -> Iterable[Neighbour]:
    for each in slices:
        labels = each.metadata.labels
        if labels.managed_by != MANAGER or labels.service_name != service or each.metadata.name == own:
            continue
        port = next((port.port for port in each.ports if port.name == "dns"), None)
        endpoint = each.endpoints[0] if len(each.endpoints) == 1 else None
        if endpoint and endpoint.conditions.ready is not False and endpoint.addresses and port:
            yield Neighbour(each.metadata.name, endpoint.addresses[0], port)


class Peers:
    """The circle as seen from one server."""

    def __init__(
        self,
        config: DNSConfiguration,
        *,
        own: str,
        slices: Callable[[], Iterable[EndpointSlice]],
        exchange: Exchange,
        mark: Callable[[str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._config, self._own, self._slices = config, own, slices
        self._exchange, self._mark, self._clock = exchange, mark, clock
        self._silences: dict[str, int] = {}
        self._said: set[str] = set()

    async def run(self) -> None:
        """Looks around once a second until cancelled."""
        while True:
            await self._clock.sleep(PERIOD_SECONDS)
            now = plan(self._slices(), own=self._own, service=self._config.service, silences=self._silences)
            for name in now.mark:
                await self._take_out(name)
            counts = await asyncio.gather(*(self._after(each) for each in now.ask))
            self._silences = {each.slice: count for each, count in zip(now.ask, counts, strict=True)}

    async def _after(self, neighbour: Neighbour) -> int:
        """How often in a row a neighbour was silent, this time included."""
        name = wire.encode_name(f"dns-version.{self._config.cluster_domain}")
        end = wire.TXT.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")
        query = Query(secrets.randbelow(65536), 0, name + end, name, wire.TXT, wire.IN)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._exchange.ask((neighbour.address, neighbour.port), query)
        except FAILURES:
            return self._silences.get(neighbour.slice, 0) + 1
        self._said.discard(neighbour.slice)
        return 0

    async def _take_out(self, name: str) -> None:
        level = logging.DEBUG if name in self._said else logging.WARNING
        self._said.add(name)
        log.log(level, "DNS server %s does not answer: it is taken out of Service %s", name, self._config.service)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._mark(name)
        except (status.ApiError, ClientError, TimeoutError) as error:
            log.log(level, "could not mark EndpointSlice %s as not ready, it is tried again: %s", name, error)


async def mark_not_ready(client: Client, config: DNSConfiguration, name: str) -> None:
    """Marks a slice's endpoint as not ready. Raises ApiError or ClientError; a changed slice is a conflict."""
    found = await client.get(scheme.ENDPOINT_SLICES, name, namespace=config.namespace)
    for endpoint in found.get("endpoints") or ():
        endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False}
    await client.update(scheme.ENDPOINT_SLICES, found)
