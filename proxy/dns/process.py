"""The DNS process from configuration to exit code."""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from kube import kubeconfig
from kube.client.failover import FailoverTransport
from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime import config as documents
from kube.runtime import log, metrics, route, supervise
from kube.runtime.clock import SystemClock
from kube.runtime.component import Component
from proxy.dns import config as configuration
from proxy.dns import export
from proxy.dns.config import DNSConfiguration
from proxy.dns.daemon import Daemon
from proxy.dns.feed import Feed
from proxy.dns.resolvconf import LoopError
from proxy.dns.zone import Zone

PRINT_SECONDS = 30.0


def main(path: str, *, log_level: str, show: str | None = None) -> int:
    """Runs until SIGTERM, or prints the zone in the format `show`.

    1 with a sentence on standard error when the configuration cannot be used.
    """
    log.setup(log_level)
    try:
        config = configuration.read(Path(path))
        asyncio.run(serve(config, path=Path(path)) if show is None else _print(config, show))
    except (documents.ConfigError, kubeconfig.KubeconfigError, LoopError, OSError, ValueError) as error:
        print(f"dns: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(config: DNSConfiguration, *, path: Path) -> None:
    """Client, informers and the one component, supervised."""
    client = Client(FailoverTransport(kubeconfig.load(Path(config.kubeconfig))), user_agent="nodeagent-dns")
    clock = SystemClock()
    informers = Informers(client, clock=clock)

    def build() -> Component:
        return Daemon(
            config,
            client=client,
            informers=informers,
            clock=clock,
            registry=metrics.registry(process=True),
            address=config.node_ip or route.towards(client.transport.server),
            reread=lambda: configuration.read(path),
        )

    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(informers.run())
            await supervise.supervise({Daemon.name: build}, clock=clock)
            feeding.cancel()
    finally:
        await client.close()


async def _print(config: DNSConfiguration, show: str) -> None:
    """Reads the objects once and writes their names to standard output. Raises TimeoutError."""
    client = Client(FailoverTransport(kubeconfig.load(Path(config.kubeconfig))), user_agent="nodeagent-dns")
    informers = Informers(client, clock=SystemClock())
    found = Zone(config.cluster_domain, ttl=config.ttl, pods=config.pods, serial=int(time.time()))
    feed = Feed(config, found, informers, searches=())
    try:
        async with asyncio.timeout(PRINT_SECONDS), asyncio.TaskGroup() as group:
            feeding = group.create_task(informers.run())
            with contextlib.ExitStack() as subscribed:
                await feed.run(subscribed)
            feeding.cancel()
    except TimeoutError:
        raise OSError(f"the API server did not answer in {PRINT_SECONDS:.0f} s") from None
    finally:
        await client.close()
    sys.stdout.write(export.FORMATS[show](found))
