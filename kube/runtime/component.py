"""The shape of a component and what it is built from.

Owns the two types that composition needs; must not know any concrete component, nor import a client library at runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from kube.client.events import EventRecorder
    from kube.client.informer import Informers
    from kube.client.rest import Client
    from kube.runtime.clock import Clock


class Component(Protocol):
    """A part that is started, watched and restarted on its own."""

    name: str

    async def run(self) -> None:
        """Work until cancelled; its body reads as the component's table of contents."""

    def ready(self) -> str | None:
        """None when ready, else the reason why not, in words for an administrator."""

    async def reload(self) -> None:
        """Take over changed configuration where that is safe."""

    async def close(self) -> None:
        """Release what outlives `run`; called once after it ended, also after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What a package's `build(config, deps)` is handed; shared by the components of one process."""

    client: Client
    informers: Informers
    events: EventRecorder
    clock: Clock
    registry: CollectorRegistry
    node_name: str
    node_ip: str
