"""The kubelet's two listeners, put together from their parts.

Owns which sockets are served with which application. Must not know handlers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from kube import serve
from kube.client.rest import Client
from kube.runtime.clock import Clock
from nodeagent.cri.runtime import Runtime
from nodeagent.probes import prober
from nodeagent.server import app, locate, reading, streaming
from nodeagent.server.access import Access
from nodeagent.stats.collect import Collector


class KubeletServer:
    """Port 10250 over TLS and port 10248 for health. Addresses are `ip:port`."""

    def __init__(
        self,
        *,
        address: str,
        health_address: str,
        tls: Callable[[], ssl.SSLContext],
        pods: locate.Pods,
        runtime: Runtime,
        client: Client,
        clock: Clock,
        registry: CollectorRegistry,
        node_name: str,
        health: app.Health,
        figures: Collector,
        configz: Callable[[], Mapping[str, Any]] = dict,
        probed: Callable[[], Mapping[prober.Tally, int]] = dict,
    ) -> None:
        locator = locate.Locator(pods=pods, runtime=runtime)
        self.listening = asyncio.Event()
        self.ports: tuple[int, ...] = ()
        """Of the API and of health, once `listening` is set."""
        self._address = address
        self._health_address = health_address
        self._tls = tls
        self._health_app = app.HealthApp(health)
        self._app = app.App(
            access=Access(client=client, clock=clock, node_name=node_name),
            locator=locator,
            reading=reading.Reading(
                locator=locator, runtime=runtime, clock=clock, figures=figures, configz=configz, probed=probed
            ),
            streaming=streaming.Streaming(runtime.execs),
            run=runtime.execs.run,
            registry=registry,
            health=health,
        )

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError naming the address when one is in use."""
        with serve.listen(self._address) as socket, serve.listen(self._health_address) as health_socket:
            server = serve.Server(self._app, sockets=[socket], tls=self._tls(), name="kubelet")
            health = serve.Server(self._health_app, sockets=[health_socket], tls=None, name="kubelet health")
            self.ports = (socket.getsockname()[1], health_socket.getsockname()[1])
            self.listening.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(server.run())
                group.create_task(health.run())
