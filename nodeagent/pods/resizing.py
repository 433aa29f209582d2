"""One pod's resize while it lasts: wishes granted or put off, and granted ones brought into force.

Owns the order of the writes to cgroups and runtime. Must not decide what fits: that is `resize`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from kube import types
from nodeagent import errors
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.pods import container as configs
from nodeagent.pods import observed, resize, spec
from nodeagent.pods.kit import Kit
from nodeagent.resources import cgroups, qos

log = logging.getLogger(__name__)

Tell = Callable[[str, str, str], None]
"""(type, reason, message) of an event about the pod."""


class Resizing:
    """What was granted to a pod, and what of it is in force."""

    def __init__(self, pod: types.Pod) -> None:
        self.granted: resize.Resources = resize.granted(pod)
        self.force: dict[str, types.ResourceRequirements] = {}
        self.pending: resize.Pending | None = None
        self.error = ""
        self.under_way = False
        self._fresh: dict[str, types.ResourceRequirements] = {}

    def effective(self, pod: types.Pod) -> types.Pod:
        """The pod with what was granted instead of what is wanted."""
        return resize.with_resources(pod, self.granted)

    def started(self, container: spec.AnyContainer | None) -> None:
        """A container has been started with what it is granted now."""
        if isinstance(container, types.Container):
            self._fresh[container.name] = container.resources

    def consider(
        self, wish: types.Pod, *, others: Iterable[types.Pod], allocatable: dict[str, str], tell: Tell
    ) -> types.Pod:
        """Grants the wish if there is room; returns the pod as it is granted."""
        present = self.effective(wish)
        if present is wish:
            self.pending = None
            return wish
        pending = resize.judge(wish, present, others=qos.total(others), allocatable=allocatable)
        if pending is not None:
            if self.pending is None or self.pending.reason != pending.reason:
                tell("Warning", f"Resize{pending.reason}", f"Pod resize {pending.reason}: {pending.message}")
            self.pending = pending
            return present
        self.pending, self.granted, self.under_way = None, resize.wanted(wish), True
        tell("Normal", "ResizeStarted", "Pod resize started")
        return wish

    def restarts(self, pod: types.Pod, seen: observed.Observed) -> frozenset[str]:
        """Containers that get what they are granted by a restart; also learns what runs with what."""
        for container in seen.running:
            if container.id not in self.force and (it := spec.find(pod, container.name)) is not None:
                known = self._fresh.pop(container.name, None)
                known = known or resize.in_force(pod, container.name, container.id)
                self.force[container.id] = known or it.resources
        alive = {c.id for c in seen.containers}
        self.force = {id_: amounts for id_, amounts in self.force.items() if id_ in alive}
        return frozenset(c.name for c in resize.changes(pod, seen, self.force) if c.restart)

    def conditions(self) -> tuple[tuple[str, str, str], ...]:
        """The resize's conditions as (type, reason, message)."""
        found = []
        if self.pending is not None:
            found.append(("PodResizePending", self.pending.reason, self.pending.message))
        if self.under_way:
            found.append(("PodResizeInProgress", "Error" if self.error else "", self.error))
        return tuple(found)

    async def apply(self, kit: Kit, pod: types.Pod, seen: observed.Observed, *, cgroup: cgroups.PodCgroup) -> None:
        """Brings what was granted into force where no restart is needed; what fails is kept and tried again."""
        todo = resize.changes(pod, seen, self.force)
        if not todo and not self.under_way:
            return
        self.under_way = True
        try:
            # A pod's cgroup must be widened before its containers', and narrowed after.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(kit.cgroups.update, cgroup)
            for change in [change for change in todo if not change.restart]:
                it = next(c for c in resize.containers(pod) if c.name == change.name)
                await kit.runtime.containers.update(change.id, limits(kit, pod, it))
                self.force[change.id] = it.resources
            await asyncio.to_thread(kit.cgroups.update, cgroup)
        except errors.RuntimeUnavailable:
            raise
        except errors.RuntimeFault as e:
            self.error = e.message
        except OSError as e:
            self.error = f"cgroup {cgroup.path}: {e}"
        else:
            self.error = ""

    def settle(self, pod: types.Pod, seen: observed.Observed, *, tell: Tell) -> None:
        """Says so when everything granted is in force."""
        if self.under_way and not self.error and not resize.changes(pod, seen, self.force):
            self.under_way = False
            tell("Normal", "ResizeCompleted", "Pod resize completed")


def limits(kit: Kit, pod: types.Pod, it: types.Container) -> cri.LinuxContainerResources:
    """What the runtime is told of a container that goes on running."""
    return configs.limits(
        pod, it, memory_capacity=kit.facts.memory_capacity, cfs_quota=kit.settings.kubelet.cpu_cfs_quota
    )
