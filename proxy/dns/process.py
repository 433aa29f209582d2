"""The DNS process from configuration to exit code."""

import asyncio
import sys
from pathlib import Path

from kube import kubeconfig
from kube.client.http import HttpTransport
from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime import config as documents
from kube.runtime import log, metrics, supervise
from kube.runtime.clock import SystemClock
from kube.runtime.component import Component
from proxy.dns import config as configuration
from proxy.dns.config import DNSConfiguration
from proxy.dns.daemon import Daemon
from proxy.dns.resolvconf import LoopError


def main(path: str, *, log_level: str) -> int:
    """Runs until SIGTERM. 1 with a sentence on standard error when the configuration cannot be used."""
    log.setup(log_level)
    try:
        config = configuration.read(Path(path))
        asyncio.run(serve(config))
    except (documents.ConfigError, kubeconfig.KubeconfigError, LoopError, OSError) as error:
        print(f"dns: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(config: DNSConfiguration) -> None:
    """Client, informers and the one component, supervised."""
    client = Client(HttpTransport(kubeconfig.load(Path(config.kubeconfig))), user_agent="nodeagent-dns")
    clock = SystemClock()
    informers = Informers(client, clock=clock)

    def build() -> Component:
        return Daemon(
            config,
            client=client,
            informers=informers,
            clock=clock,
            registry=metrics.registry(process=True),
            address=config.node_ip,
        )

    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(informers.run())
            await supervise.supervise({Daemon.name: build}, clock=clock)
            feeding.cancel()
    finally:
        await client.close()
