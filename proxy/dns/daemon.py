"""The DNS process: informers -> zone, sockets, and the slice that makes it part of the cluster DNS Service.

It runs apart from the agent: one busy Python thread beside it would cut its answers fiftyfold, and an agent's restart
must not stop names. It imports neither grpc nor netlink.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry

from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime import config as documents
from kube.runtime import metrics
from kube.runtime.clock import Clock
from proxy import config as proxy_config
from proxy import health
from proxy.dns import cache, exchange, files, hosts, nodelocal, peers, publish, resolvconf, rewrite
from proxy.dns.config import DNSConfiguration
from proxy.dns.feed import Feed
from proxy.dns.hosts import Hosts
from proxy.dns.metrics import DnsCollector
from proxy.dns.nodelocal import NodeLocal
from proxy.dns.peers import Peers
from proxy.dns.published import Published
from proxy.dns.resolver import Resolver
from proxy.dns.server import TcpServer, UdpServer
from proxy.dns.upstream import Upstream
from proxy.dns.zone import Zone
from proxy.health import HttpServer

log = logging.getLogger(__name__)


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
        reread: Callable[[], DNSConfiguration] | None = None,
    ) -> None:
        self._config = config
        self._reread = reread or (lambda: config)
        self._clock = clock
        self._registry = registry
        self._address = config.address or address
        self._zone = Zone(config.cluster_domain, ttl=config.ttl, pods=config.pods, serial=int(time.time()))
        self._feed = Feed(config, self._zone, informers, searches=_searches() if config.autopath else ())
        network = exchange.Network()
        self._upstream = _upstream(config, clock, network, without=self._address)
        self._resolver = Resolver(
            self._zone,
            self._upstream,
            hosts=_hosts(config),
            rewrites=[rewrite.rule(text) for text in config.rewrites],
            search=self._feed.search if config.autopath else None,
            say=config.log_queries,
        )
        family = "2" if ":" in self._address else "1"
        self._collector = DnsCollector(
            self._resolver.tally, self._upstream, network, server=f"dns://:{config.port}", family=family
        )
        slices = self._feed.slices.cache
        self._published = Published(config, client=client, clock=clock, address=self._address, slices=slices)
        self._peers = Peers(
            config,
            own=publish.slice_name(config),
            slices=slices.values,
            exchange=network,
            mark=lambda name: peers.mark_not_ready(client, config, name),
            clock=clock,
        )
        self._leaving = False

    async def run(self) -> None:
        """Sockets answer from the start (SERVFAIL for our zone until it is complete), the slice comes last."""
        self._registry.register(self._collector)
        async with asyncio.TaskGroup() as group:
            self._listen(group)
            group.create_task(self._upstream.run())
            if self._config.reload_seconds:
                group.create_task(self._follow_configuration())
            if self._config.files:
                group.create_task(files.follow(self._zone, self._config.files, clock=self._clock))
            with contextlib.ExitStack() as subscribed:
                try:
                    await self._feed.run(subscribed)
                    subscribed.callback(self._feed.slices.subscribe(self._published.slice_changed))
                    group.create_task(self._peers.run())
                    await self._published.run()
                finally:
                    await self._leave()

    def ready(self) -> str | None:
        """None once the zone is complete and the Service has this server as an endpoint."""
        reason = self._unready()
        if reason is not None:
            return reason
        return None if self._published.done else f"not yet an endpoint of Service {self._config.service}"

    async def reload(self) -> None:
        """Takes over other upstream servers, stub domains, hosts and rewrites; the rest waits for a restart."""
        config = self._reread()
        self._name_by_hand(config)
        servers = [server for server in resolvconf.configured(config.forward) if server != self._address]
        self._upstream.configure(servers, policy=config.forward_policy, stubs=config.stub_domains)

    def _name_by_hand(self, config: DNSConfiguration) -> None:
        self._resolver.configure(hosts=_hosts(config), rewrites=[rewrite.rule(text) for text in config.rewrites])

    async def _follow_configuration(self) -> None:
        """Reads the configuration again and again; one that cannot be used is complained of once."""
        used, complained = self._config, ""
        while True:
            await self._clock.sleep(self._config.reload_seconds)
            try:
                found = await asyncio.to_thread(self._reread)
                if found != used:
                    await self.reload()
                    log.info("took over a changed configuration")
                elif found.hosts_file:
                    self._name_by_hand(found)
                used, complained = found, ""
            except (documents.ConfigError, resolvconf.LoopError, OSError, ValueError) as error:
                if str(error) != complained:
                    log.warning("the changed configuration cannot be used, the old one stays: %s", error)
                complained = str(error)

    async def close(self) -> None:
        """Gives the metrics' place free for the next one."""
        with contextlib.suppress(KeyError):
            self._registry.unregister(self._collector)

    def _listen(self, group: asyncio.TaskGroup) -> None:
        def spawn(work: Awaitable[None]) -> None:
            group.create_task(_survive(work))

        if self._config.node_local:
            network = nodelocal.Kernel(source=self._address)
            local = NodeLocal(
                self._resolver, addresses=self._local_addresses, network=network, clock=self._clock, spawn=spawn
            )
            group.create_task(local.run())
        group.create_task(UdpServer(self._resolver, self._address, self._config.port).run(spawn))
        group.create_task(TcpServer(self._resolver, self._address, self._config.port).run())
        for server in self._http_servers():
            group.create_task(server.run())

    def _local_addresses(self) -> tuple[str, ...]:
        return () if self._leaving else self._feed.addresses()

    async def _leave(self) -> None:
        """Answers for a while longer, until the others know that this server leaves."""
        self._leaving = True
        if await self._published.withdraw() and self._published.others():
            await self._clock.sleep(self._config.lameduck_seconds)

    def _unready(self) -> str | None:
        if self._leaving:
            return "leaving"
        return None if self._zone.synced else "the zone is not complete yet"

    def _http_servers(self) -> Iterable[HttpServer]:
        def ready() -> health.Answer:
            reason = self._unready()
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


def _upstream(config: DNSConfiguration, clock: Clock, network: exchange.Network, *, without: str) -> Upstream:
    limits = cache.Limits(
        positive=config.cache_seconds,
        negative=config.negative_cache_seconds,
        least=min(cache.MIN_TTL, config.cache_seconds, config.negative_cache_seconds),
        stale=config.serve_stale_seconds,
        prefetch=config.prefetch,
    )
    return Upstream(
        [server for server in resolvconf.configured(config.forward) if server != without],
        now=clock.monotonic,
        policy=config.forward_policy,
        stubs=config.stub_domains,
        cache=cache.Cache(limits=limits),
        max_concurrent=config.max_concurrent,
        exchange=network,
    )


def _hosts(config: DNSConfiguration) -> Hosts:
    """Raises ValueError for a line that cannot be read, OSError for a missing file."""
    lines = list(config.hosts)
    if config.hosts_file:
        lines += Path(config.hosts_file).read_text().splitlines()
    return hosts.Hosts(lines, ttl=config.hosts_ttl)


def _searches() -> list[str]:
    path = resolvconf.RESOLV_CONF
    return resolvconf.searches(path.read_text()) if path.exists() else []
