"""The service proxy as a component: informers -> syncer -> backend, and its two small HTTP servers."""

import asyncio
import logging
from pathlib import Path

from kube import scheme
from kube.runtime import duration, metrics
from kube.runtime.component import Deps
from kube.types import EndpointSlice, Service
from proxy import config as configuration
from proxy import health
from proxy.backends import conntrack
from proxy.backends.nftables import NftablesBackend
from proxy.backends.protocol import Backend
from proxy.config import KubeProxyConfiguration
from proxy.health import Answer, HttpServer
from proxy.metrics import Metrics
from proxy.rules.plan import Changes
from proxy.syncer import Syncer

log = logging.getLogger(__name__)

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
# Without it a pod that reaches a pod of its own node through a cluster address gets an answer from a stranger.
BRIDGE_SYSCTLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")


class Daemon:
    """`kube.runtime.component.Component` of this package."""

    name = "proxy"

    def __init__(self, config: KubeProxyConfiguration, deps: Deps, *, backend: Backend | None = None) -> None:
        self._config = config
        self._deps = deps
        self._complained = False
        self._syncer = Syncer(
            backend or NftablesBackend(cluster_cidrs=config.cluster_cidrs),
            services=deps.informers.get(scheme.SERVICES, Service),
            slices=deps.informers.get(scheme.ENDPOINT_SLICES, EndpointSlice),
            node=config.hostname_override or deps.node_name,
            clock=deps.clock,
            metrics=Metrics(deps.registry),
            forget_flows=self._forget_flows,
        )

    async def run(self) -> None:
        """Kernel settings, then rules and HTTP side by side."""
        await asyncio.to_thread(prepare_kernel)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._syncer.run())
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

    async def _forget_flows(self, changes: Changes) -> None:
        wanted = conntrack.affected(changes)
        if not wanted:
            return
        try:
            await asyncio.to_thread(conntrack.reconcile, wanted)
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.warning("old UDP entries stay in the connection table until they time out: %s", error)
            self._complained = True

    def _server(self, address: str, name: str, routes: dict[str, health.Route]) -> HttpServer:
        return HttpServer(*configuration.split_address(address, name=name), routes)

    def _health_routes(self) -> dict[str, health.Route]:
        return {"/healthz": self._healthz, "/livez": self._healthz}

    def _metrics_routes(self) -> dict[str, health.Route]:
        return {
            "/healthz": lambda: health.text("ok"),
            "/metrics": lambda: (200, metrics.CONTENT_TYPE, metrics.exposition(self._deps.registry)),
            "/proxyMode": lambda: health.text("nftables"),
        }

    def _healthz(self) -> Answer:
        """503 when a write has been waiting for longer than twice the sync period, or none was done yet."""
        now, queued = self._deps.clock.monotonic(), self._syncer.queued_at
        late = queued is not None and now - queued > 2 * duration.parse_duration(self._config.sync_period)
        healthy = self._syncer.synced and not late
        body = {
            "lastUpdated": self._syncer.last_sync.strftime(TIME_FORMAT) if self._syncer.last_sync else "",
            "currentTime": self._deps.clock.now().strftime(TIME_FORMAT),
            "nodeEligible": True,
        }
        return health.document(body, status=200 if healthy else 503)


def prepare_kernel(root: Path = Path("/proc/sys/net")) -> None:
    """Turns on what Services need of the kernel; says what is missing where it cannot."""
    for name in BRIDGE_SYSCTLS:
        setting = root / "bridge" / name
        try:
            if setting.read_text().strip() != "1":
                setting.write_text("1")
        except OSError as error:
            log.warning("net.bridge.%s cannot be set, load the module br_netfilter: %s", name, error.strerror)
    try:
        (root / "ipv4/ip_forward").write_text("1")
    except OSError as error:
        log.warning("net.ipv4.ip_forward cannot be set: pods cannot be reached through this node: %s", error.strerror)
