"""Looking at the node's levels every 10 s, telling its conditions, and sending away one pod at a time.

What is first given back is disk taken by unused images. Must not decide: that is `plan`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import kube.runtime.log
from kube.client.events import EventRecorder
from kube.runtime.clock import Clock
from nodeagent.eviction import plan
from nodeagent.pods import plan as plans
from nodeagent.pods import pool, spec
from nodeagent.stats import collect, figures

log = logging.getLogger(__name__)

PERIOD: Final = 10.0
AFTER_EVICTION: Final = 1.0


class PressureWatch:
    """The node's pressures, and what is done about them."""

    def __init__(
        self,
        *,
        figures: collect.Collector,
        pool: pool.PodPool,
        thresholds: Sequence[plan.Threshold],
        transition: float,
        soft_grace: int,
        free_images: Callable[[], Awaitable[int]],
        tell: Callable[[frozenset[str]], None],
        events: EventRecorder,
        clock: Clock,
    ) -> None:
        self._figures = figures
        self._pool = pool
        self._thresholds = tuple(thresholds)
        self._transition = transition
        self._soft_grace = soft_grace
        self._free_images = free_images
        self._tell = tell
        self._events = events
        self._clock = clock
        self._since: dict[plan.Threshold, float] = {}
        self._last_met: dict[str, float] = {}
        self._leaving = ""

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            pause = PERIOD
            try:
                if await self.look():
                    pause = AFTER_EVICTION
            except Exception as e:
                kube.runtime.log.failure(log, "looking for pressure failed", e)
            await self._clock.sleep(pause)

    async def look(self) -> bool:
        """One look; True if a pod was sent away."""
        now = self._clock.monotonic()
        levels = levels_of(await asyncio.to_thread(self._figures.node))
        met = plan.below(self._thresholds, levels)
        self._since = {t: self._since.get(t, now) for t in met}
        self._last_met |= {plan.CONDITIONS[t.signal]: now for t in met}
        self._tell(plan.pressures(met, self._last_met, now=now, transition=self._transition))
        due = plan.due(met, self._since, now=now)
        if not due or self._is_leaving():
            return False
        disk = plan.CONDITIONS[due[0].signal] == plan.DISK
        if disk and await self._free_images():
            return False
        return self._evict(due, levels, await asyncio.to_thread(self._figures, disk=disk))

    def _is_leaving(self) -> bool:
        """Whether the pod sent away last still runs: what it will give back is not known yet."""
        worker = self._pool.worker(self._leaving)
        return worker is not None and bool(worker.seen.running)

    def _evict(self, due: list[plan.Threshold], levels: dict[str, plan.Level], found: figures.Figures) -> bool:
        used = {each.uid: usage(each) for each in found.pods}
        candidates = [
            plan.Candidate(pod=worker.pod, usage=used[worker.uid])
            for worker in self._pool.workers
            if worker.uid in used and worker.active and worker.end is None
        ]
        for threshold in due:
            verdict = plan.evict(threshold, levels[threshold.signal], candidates, soft_grace=self._soft_grace)
            worker = self._pool.worker(verdict.uid) if verdict is not None else None
            if verdict is None or worker is None:
                continue
            log.warning("pod %s is evicted: %s", spec.key(worker.pod), verdict.message)
            self._events.event(spec.reference(worker.pod), "Warning", "Evicted", verdict.message)
            worker.finish(plans.End(reason="Evicted", message=verdict.message, grace=verdict.grace))
            self._leaving = verdict.uid
            return True
        log.error("the node is low on %s and no pod may be evicted", due[0].signal)
        return False


def levels_of(node: figures.Node) -> dict[str, plan.Level]:
    """The signals; images and the node's own files are taken to share one file system."""
    disk = node.filesystem
    space = plan.Level(available=disk.available, capacity=disk.capacity)
    levels = {
        "memory.available": plan.Level(available=node.memory_available, capacity=node.memory_capacity),
        "nodefs.available": space,
        "imagefs.available": space,
    }
    if disk.inodes:
        inodes = plan.Level(available=disk.inodes_free, capacity=disk.inodes)
        levels |= {"nodefs.inodesFree": inodes, "imagefs.inodesFree": inodes}
    if node.most_processes:
        free = node.most_processes - node.usage.processes
        levels["pid.available"] = plan.Level(available=free, capacity=node.most_processes)
    return levels


def usage(of: figures.Pod) -> dict[str, int]:
    """What a pod uses, by the resources pods are ranked by."""
    disks = [of.ephemeral, *(container.logs for container in of.containers)]
    return {
        "memory": of.usage.working_set,
        "ephemeral-storage": sum(disk.used for disk in disks if disk is not None),
        "pids": of.usage.processes,
    }
