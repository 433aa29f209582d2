"""The DNS process: informers -> zone, sockets, and the slice that makes it part of the cluster DNS Service.

It runs apart from the agent: one busy Python thread beside it would cut its answers fiftyfold, and an agent's restart
must not stop names. It imports neither grpc nor netlink.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Iterable

from prometheus_client import CollectorRegistry

from kube import scheme, status
from kube.client.errors import ClientError
from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime import metrics
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from kube.types import EndpointSlice, Namespace, Service
from proxy import config as proxy_config
from proxy import health
from proxy.dns import metrics as dns_metrics
from proxy.dns import names, publish, upstream
from proxy.dns.config import DNSConfiguration
from proxy.dns.server import Resolver, TcpServer, UdpServer
from proxy.dns.zone import Zone
from proxy.health import HttpServer
from proxy.services.model import SERVICE_NAME_LABEL

log = logging.getLogger(__name__)

REPUBLISH_SECONDS = 60.0
PUBLISH_TIMEOUT_SECONDS = 10.0
WITHDRAW_SECONDS = 3.0


class Daemon:
    """`kube.runtime.component.Component` of the DNS process."""

    name = "dns"

    def __init__(
        self,
        config: DNSConfiguration,
        *,
        client: Client,
        informers: Informers,
        clock: Clock,
        registry: CollectorRegistry,
        address: str,
    ) -> None:
        self._config = config
        self._client = client
        self._clock = clock
        self._registry = registry
        self._address = config.address or address
        self._services = informers.get(scheme.SERVICES, Service)
        self._slices = informers.get(scheme.ENDPOINT_SLICES, EndpointSlice)
        self._namespaces = informers.get(scheme.NAMESPACES, Namespace)
        self._by_service = self._slices.add_index(_service_of)
        self._zone = Zone(config.cluster_domain, ttl=config.ttl, pods=config.pods, serial=int(time.time()))
        servers = [s for s in upstream.configured(config.forward) if s != self._address]
        self._upstream = upstream.Upstream(servers, now=clock.monotonic)
        self._resolver = Resolver(self._zone, self._upstream, count=dns_metrics.counter(registry))
        registry.register(dns_metrics.CacheCollector(self._upstream.cache))
        self._published = False

    async def run(self) -> None:
        """Sockets answer from the start (SERVFAIL for our zone until it is complete), the slice comes last."""
        config = self._config
        async with asyncio.TaskGroup() as group:

            def spawn(work: Awaitable[None]) -> None:
                group.create_task(_survive(work))

            group.create_task(UdpServer(self._resolver, self._address, config.port).run(spawn))
            group.create_task(TcpServer(self._resolver, self._address, config.port).run())
            for server in self._http_servers():
                group.create_task(server.run())
            with contextlib.ExitStack() as subscribed:
                await self._fill(subscribed)
                await self._keep_published()

    def ready(self) -> str | None:
        """None once the zone is complete and the Service has this server as an endpoint."""
        if not self._zone.synced:
            return "the zone is not complete yet"
        return None if self._published else f"not yet an endpoint of Service {self._config.service}"

    async def reload(self) -> None:
        """Nothing is taken over: upstream servers are read at the start."""

    async def close(self) -> None:
        """Tells the Service that this server leaves; when the API does not answer in time, it just goes."""
        try:
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await publish.publish(self._client, self._config, address=self._address, ready=False)
        except (status.ApiError, ClientError, TimeoutError) as error:
            log.warning("could not withdraw from Service %s: %s", self._config.service, error)

    async def _fill(self, subscribed: contextlib.ExitStack) -> None:
        for informer in (self._services, self._slices, self._namespaces):
            await informer.wait_synced()
        subscribed.callback(self._namespaces.subscribe(self._namespace_changed))
        subscribed.callback(self._services.subscribe(self._service_changed))
        subscribed.callback(self._slices.subscribe(self._slice_changed))
        self._zone.synced = True

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        changed = new or old
        if changed is not None:
            self._zone.put_namespace(changed.metadata.name, present=new is not None)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is not None:
            self._rebuild(f"{changed.metadata.namespace}/{changed.metadata.name}")

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for key in {key for each in (old, new) if each is not None for key in _service_of(each)}:
            self._rebuild(key)

    def _rebuild(self, key: str) -> None:
        service = self._services.cache.get(key)
        found = names.records(service, self._by_service.get(key), zone=self._zone.zone) if service else ()
        self._zone.put(key, found)
        if service is not None and key == f"{self._config.namespace}/{self._config.service}":
            self._zone.put("ns", names.name_server(service, zone=self._zone.zone))

    async def _keep_published(self) -> None:
        """Writes the slice until it is there, and looks again each minute whether it still is."""
        backoff = Backoff(0.2, 10.0)
        while True:
            try:
                async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                    if not self._is_published():
                        await publish.publish(self._client, self._config, address=self._address, ready=True)
                self._published = True
                backoff.reset("publish")
                wait = REPUBLISH_SECONDS
            except (status.ApiError, ClientError, TimeoutError) as error:
                wait = backoff.next("publish")
                log.warning(
                    "not an endpoint of Service %s yet, next try in %.1f s: %s", self._config.service, wait, error
                )
            await self._clock.sleep(wait)

    def _is_published(self) -> bool:
        found = self._slices.cache.get(f"{self._config.namespace}/{publish.slice_name(self._config)}")
        if found is None or len(found.endpoints) != 1:
            return False
        endpoint = found.endpoints[0]
        ports = {port.port for port in found.ports}
        return (
            tuple(endpoint.addresses) == (self._address,)
            and endpoint.conditions.ready is True
            and ports == {self._config.port}
        )

    def _http_servers(self) -> Iterable[HttpServer]:
        def ready() -> health.Answer:
            reason = None if self._zone.synced else "the zone is not complete yet"
            return health.text(reason or "OK", status=503 if reason else 200)

        def scrape() -> health.Answer:
            return 200, metrics.CONTENT_TYPE, metrics.exposition(self._registry)

        served: list[tuple[str, str, dict[str, health.Route]]] = [
            (self._config.health_address, "healthAddress", {"/health": lambda: health.text("OK")}),
            (self._config.ready_address, "readyAddress", {"/ready": ready}),
            (self._config.metrics_address, "metricsAddress", {"/metrics": scrape}),
        ]
        for address, name, routes in served:
            yield HttpServer(*proxy_config.split_address(address, name=name), routes)


async def _survive(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        log.exception("one query failed; the server goes on")


def _service_of(found: EndpointSlice) -> Iterable[str]:
    name = found.metadata.labels.get(SERVICE_NAME_LABEL)
    return (f"{found.metadata.namespace}/{name}",) if name else ()
