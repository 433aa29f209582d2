"""A part of the control plane as a client of an API server, in this process or elsewhere.

Owns its caches, its events and their life beside the component. Must not know what the component does.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable

from controlplane import errors
from controlplane.config import Settings
from kube import pki
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime import metrics
from kube.runtime.clock import Clock
from kube.runtime.component import Component, Deps

Build = Callable[[Deps], Component]


def scheduler(settings: Settings) -> Build:
    """How the scheduler is built."""
    from controlplane import scheduler

    return scheduler.build


def controllers(settings: Settings) -> Build:
    """How the controllers are built. ConfigurationError when the cluster's CA cannot be read; without its key nothing
    is signed.
    """
    from controlplane import controllers

    try:
        authority = pki.load_ca(settings.pki) if (settings.pki / "ca.key").exists() else None
        root_ca = (settings.pki / "ca.crt").read_text()
    except (OSError, pki.PkiError) as e:
        raise errors.ConfigurationError(f"pkiDir: {e}") from e
    return functools.partial(
        controllers.build,
        root_ca_pem=root_ca,
        cluster_cidr=str(settings.cluster),
        node_cidr_mask_size=settings.mask,
        node_grace=settings.grace,
        authority=authority,
    )


BUILDS = {"scheduler": scheduler, "controllers": controllers}
USERS = {"scheduler": "system:kube-scheduler", "controllers": "system:kube-controller-manager"}
"""Who each part is to the API."""
# The name a scheduler signs its events with is that of its profile.
EVENT_SOURCES = {"scheduler": "default-scheduler", "controllers": "kube-controller-manager"}


class Part:
    """A client of the API: its caches and events, and the component that uses them."""

    def __init__(self, name: str, build: Build, *, client: Client, clock: Clock, address: str) -> None:
        self.name = name
        self._informers = Informers(client, clock=clock)
        self._events = EventRecorder(client, component=EVENT_SOURCES[name], host="", clock=clock)
        self._component = build(
            Deps(
                client=client,
                informers=self._informers,
                events=self._events,
                clock=clock,
                # A part that is restarted registers its figures anew: each start has a registry of its own.
                registry=metrics.registry(),
                node_name="",
                node_ip=address,
            )
        )

    async def run(self) -> None:
        """The component beside its caches and its events."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._informers.run()), group.create_task(self._events.run())]
            await self._component.run()
            for task in tasks:
                task.cancel()

    def ready(self) -> str | None:
        """As the component says."""
        return self._component.ready()

    async def reload(self) -> None:
        """Handed on."""
        await self._component.reload()

    async def close(self) -> None:
        """Handed on."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._component.close()
