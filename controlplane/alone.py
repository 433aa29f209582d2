"""The scheduler and the controllers without our API server: beside another one, named by a kubeconfig.

Owns their connection. Must not know store or API server. Nobody is elected: run each once in a cluster.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from controlplane import errors
from controlplane.config import Settings
from controlplane.part import BUILDS, Part
from kube import kubeconfig
from kube.client.http import HttpTransport
from kube.client.rest import Client
from kube.runtime import supervise
from kube.runtime.clock import Clock, SystemClock
from kube.runtime.component import Component


def run(settings: Settings, *, only: Sequence[str], path: Path) -> None:
    """Work until a signal ends it; ConfigurationError when it cannot start."""
    if str(path) == ".":
        raise errors.ConfigurationError("--kubeconfig: required without our API server")
    try:
        rest = kubeconfig.load(path)
    except kubeconfig.KubeconfigError as e:
        raise errors.ConfigurationError(str(e)) from e
    asyncio.run(work(settings, only=only, rest=rest, clock=SystemClock()))


async def work(settings: Settings, *, only: Sequence[str], rest: kubeconfig.RestConfig, clock: Clock) -> None:
    """Each part with a connection of its own, restarted alone."""
    clients = {name: Client(HttpTransport(rest), user_agent=f"nodeagent-{name}") for name in only}

    def factory(name: str) -> Callable[[], Component]:
        build = BUILDS[name](settings)
        return lambda: Part(name, build, client=clients[name], clock=clock, address=settings.advertise)

    try:
        await supervise.supervise({name: factory(name) for name in only}, clock=clock)
    finally:
        for client in clients.values():
            await client.close()
