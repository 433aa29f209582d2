"""What the work on pods needs from the rest of the agent, in one value that is passed down. It has no behaviour."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Protocol

from kube import types
from kube.client.events import EventRecorder
from kube.client.rest import Client
from kube.runtime.clock import Clock
from nodeagent import config
from nodeagent.cri import runtime
from nodeagent.devices import plugins
from nodeagent.images import keeper, mounts
from nodeagent.pods import files, userns
from nodeagent.pods import observe as observing
from nodeagent.probes import Probes
from nodeagent.resources import cgroups as layouts
from nodeagent.resources import tree
from nodeagent.status import write
from nodeagent.volumes import Volumes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunningContainer:
    """A running container as probes need it; `started_at` in Unix nanoseconds."""

    id: str
    started_at: int
    pod_ip: str


class NodeFacts(Protocol):
    """What the node offers, kept up to date by `nodeagent.node`."""

    host_ips: tuple[str, ...]
    memory_capacity: int

    @property
    def allocatable(self) -> dict[str, str]:
        """Resources for pods, as quantities."""
        ...

    @property
    def network_problem(self) -> str | None:
        """Why pods cannot have a network yet; None when they can."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The collaborators of a pod worker."""

    settings: config.Settings
    runtime: runtime.Runtime
    client: Client
    events: EventRecorder
    clock: Clock
    volumes: Volumes
    images: keeper.ImageKeeper
    image_volumes: mounts.ImageVolumes
    files: files.PodFiles
    users: userns.UserNamespaces
    devices: plugins.DevicePlugins
    cgroups: tree.Tree
    layout: layouts.Layout
    facts: NodeFacts
    observer: observing.Observer
    statuses: write.StatusWriter
    probes: Probes
    services: Callable[[], Iterable[types.Service]]
    others: Callable[[str], Iterable[types.Pod]] = lambda uid: ()
    """The pods that take up room here besides the one with this uid."""
