"""The service proxy as a component: informers -> syncer -> backend, and its small HTTP servers."""

import asyncio
import contextlib
import logging
import os
import time

import msgspec

from kube import scheme
from kube.runtime import duration, metrics
from kube.runtime.component import Deps
from kube.types import EndpointSlice, Node, Service, ServiceCIDR
from proxy import config as configuration
from proxy import health, host
from proxy.backends import detect, flows
from proxy.backends.detect import Choice
from proxy.backends.iptables import IptablesBackend
from proxy.backends.protocol import Backend, BackendError
from proxy.balancer import balancer
from proxy.balancer.config import LoadBalancerConfiguration
from proxy.config import KubeProxyConfiguration
from proxy.health import HttpServer, Response
from proxy.health_checks import HealthChecks
from proxy.metrics import Metrics
from proxy.rules import plan
from proxy.rules.plan import Changes
from proxy.services import tracker
from proxy.services.model import ServiceKey, ThisNode
from proxy.syncer import Syncer

log = logging.getLogger(__name__)

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
ADDRESS_CHECK_SECONDS = 30.0
RANGES_SECONDS = 2.0


class Daemon:
    """`kube.runtime.component.Component` of this package."""

    name = "proxy"

    def __init__(
        self,
        config: KubeProxyConfiguration,
        deps: Deps,
        *,
        choice: Choice,
        backend: Backend,
        balancing: LoadBalancerConfiguration | None = None,
    ) -> None:
        self._config = config
        self._choice = choice
        self._deps = deps
        self._complained = False
        self._node_name = config.hostname_override or deps.node_name
        self._metrics = Metrics(deps.registry, backend=choice.mode)
        self._services = deps.informers.get(scheme.SERVICES, Service)
        self._slices = deps.informers.get(scheme.ENDPOINT_SLICES, EndpointSlice)
        self._ranges = deps.informers.get(scheme.SERVICE_CIDRS, ServiceCIDR)
        self._nodes = deps.informers.get(scheme.NODES, Node, field_selector=f"metadata.name={self._node_name}")
        self._checks = HealthChecks(healthy=self._healthy, complain=self._complain)
        self._syncer = Syncer(
            backend,
            services=self._services,
            slices=self._slices,
            node=self._this_node(),
            clock=deps.clock,
            metrics=self._metrics,
            forget_flows=self._forget_flows,
        )

        if isinstance(backend, IptablesBackend):
            self._metrics.watch_chains(backend.total, backend.written)
        self._balancer = (
            balancer.build(balancing, deps, slices=self._syncer.slices_of, leaving=lambda: host.leaving(self._node))
            if balancing is not None
            else None
        )

    async def run(self) -> None:
        """Kernel settings and our own node; then rules and HTTP side by side."""
        await asyncio.to_thread(
            host.prepare_kernel, cores=os.cpu_count() or 1, conntrack=self._config.conntrack, loopback=self._loopback
        )
        await self._nodes.wait_synced()
        with contextlib.suppress(TimeoutError):  # a server before 1.33 has none, or we may not read them
            await asyncio.wait_for(self._ranges.wait_synced(), RANGES_SECONDS)
        self._ranges.subscribe(self._range_changed)
        self._nodes.subscribe(self._node_changed)
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._syncer.run())
            group.create_task(self._checks.run())
            group.create_task(self._follow_addresses())
            group.create_task(self._remove_others())
            if self._balancer is not None:
                group.create_task(self._balancer.run())
            group.create_task(
                self._server(self._config.health_address, "healthzBindAddress", self._health_routes()).run()
            )
            group.create_task(
                self._server(self._config.metrics_address, "metricsBindAddress", self._metrics_routes()).run()
            )

    def ready(self) -> str | None:
        """None once every Service has been in the kernel once."""
        return None if self._syncer.synced else "Services have not been written to the kernel yet"

    async def reload(self) -> None:
        """Writes all rules anew."""
        self._syncer.request_full()

    async def close(self) -> None:
        """The rules stay: a restart interrupts no connection."""
        if self._balancer is not None:
            await self._balancer.close()

    @property
    def _node(self) -> Node | None:
        return self._nodes.cache.get(self._node_name)

    def _this_node(self) -> ThisNode:
        blocks = self._config.node_port_addresses or host.default_blocks(self._choice.mode)
        addresses: tuple[str, ...] = ()
        try:
            addresses = host.machine_addresses() if blocks not in ((), (configuration.PRIMARY,)) else ()
        except OSError as error:
            log.warning("this machine's addresses cannot be read, NodePorts are not served: %s", error)
        return host.this_node(
            self._node_name,
            self._node,
            blocks=blocks,
            addresses=addresses,
            ip=self._deps.node_ip,
            loopback=self._loopback,
        )

    @property
    def _loopback(self) -> bool:
        return self._choice.mode == detect.IPTABLES and self._config.iptables.localhost_node_ports

    def _range_changed(self, old: ServiceCIDR | None, new: ServiceCIDR | None) -> None:
        self._syncer.limit(host.ranges(self._ranges.cache.values()))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        self._syncer.place(self._this_node())

    async def _follow_addresses(self) -> None:
        """NodePorts on blocks of addresses: an interface that came or went is seen within half a minute."""
        while True:
            await self._deps.clock.sleep(ADDRESS_CHECK_SECONDS)
            self._syncer.place(self._this_node())

    async def _remove_others(self) -> None:
        """Rules of other modes end once ours are there, so that nobody is without."""
        await self._syncer.wait_synced()
        try:
            await detect.remove_others(self._choice)
        except BackendError as error:
            self._metrics.cleanup_failed()
            log.warning("rules of another mode may be left, `nodeagent proxy cleanup` removes them: %s", error)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is not None and (tracker.health_check(old) or tracker.health_check(new)):
            self._check(ServiceKey(changed.metadata.namespace, changed.metadata.name))

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        changed = new or old
        key = tracker.service_of(changed) if changed is not None else None
        if key is not None and tracker.health_check(self._services.cache.get("/".join(key))):
            self._check(key)

    def _check(self, key: ServiceKey) -> None:
        service = self._services.cache.get("/".join(key))
        wanted = tracker.health_check(service)
        ready = plan.ready_here(service, self._syncer.slices_of(key), node=self._node_name) if wanted else 0
        self._checks.replace(key, wanted or 0, ready)

    def _complain(self, key: ServiceKey, message: str) -> None:
        log.warning("%s/%s: %s", *key, message)
        reference = {"apiVersion": "v1", "kind": "Service", "namespace": key.namespace, "name": key.name}
        self._deps.events.event(reference, "Warning", "FailedToStartServiceHealthcheck", message)

    async def _forget_flows(self, changes: Changes) -> None:
        wanted = flows.affected(changes)
        if not wanted:
            return
        begin = time.monotonic()
        try:
            deleted = await asyncio.to_thread(flows.reconcile, wanted)
            self._metrics.flows_forgotten(deleted, seconds=time.monotonic() - begin)
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.warning("old UDP entries stay in the connection table until they time out: %s", error)
            self._complained = True

    def _server(self, address: str, name: str, routes: dict[str, health.Route]) -> HttpServer:
        return HttpServer(*configuration.split_address(address, name=name), routes)

    def _health_routes(self) -> dict[str, health.Route]:
        return {"/healthz": self._healthz, "/livez": self._livez}

    def _metrics_routes(self) -> dict[str, health.Route]:
        return {
            "/healthz": lambda: health.text("ok"),
            "/metrics": lambda: Response(200, metrics.CONTENT_TYPE, metrics.exposition(self._deps.registry)),
            "/proxyMode": lambda: health.text(self._choice.mode),
            "/configz": lambda: health.document({"kubeproxy.config.k8s.io": msgspec.to_builtins(self._config)}),
        }

    def _healthy(self) -> bool:
        """Not when a write has been waiting for longer than twice the sync period, or none was done yet."""
        now, queued = self._deps.clock.monotonic(), self._syncer.queued_at
        late = queued is not None and now - queued > 2 * duration.parse_duration(self._config.sync_period)
        return self._syncer.synced and not late

    def _healthz(self) -> Response:
        """For load balancers: also 503 while the node is being deleted."""
        answer = self._health(eligible=not host.leaving(self._node))
        self._metrics.healthz.labels(str(answer.status)).inc()
        return answer

    def _livez(self) -> Response:
        """For whoever restarts us: whatever becomes of the node."""
        answer = self._health(eligible=True)
        self._metrics.livez.labels(str(answer.status)).inc()
        return answer

    def _health(self, *, eligible: bool) -> Response:
        body = {
            "lastUpdated": self._syncer.last_sync.strftime(TIME_FORMAT) if self._syncer.last_sync else "",
            "currentTime": self._deps.clock.now().strftime(TIME_FORMAT),
            "nodeEligible": eligible,
        }
        return health.document(body, status=200 if self._healthy() and eligible else 503)
