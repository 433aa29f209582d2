"""All pods of this node: one worker each, fed by the sources, the runtime and the probes; orphans ended.

It starts and wakes workers; what a pod needs is its worker's business.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import kube.runtime.log
from kube import types
from nodeagent import errors
from nodeagent.pods import admit, plan, spec, terminate
from nodeagent.pods.kit import Kit
from nodeagent.pods.worker import PodWorker
from nodeagent.resources import cgroups
from nodeagent.sources.api import Source

log = logging.getLogger(__name__)

HOUSEKEEPING: Final = 2.0
TIDY_ROUNDS: Final = 30
"""Orphaned folders and cgroups are looked for in one of so many rounds of housekeeping."""


class PodPool:
    """The pods this node has or had. Call everything on the loop; nothing here blocks."""

    def __init__(self, kit: Kit, *, sources: Sequence[Source], node: Callable[[], admit.Node]) -> None:
        self._kit = kit
        self._sources = sources
        self._node = node
        self._workers: dict[str, PodWorker] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._known_to_runtime: set[str] | None = None

    @property
    def workers(self) -> list[PodWorker]:
        """Every worker, also of pods that are ending."""
        return list(self._workers.values())

    def worker(self, uid: str) -> PodWorker | None:
        """The worker of one pod."""
        return self._workers.get(uid)

    def wake(self, uid: str) -> None:
        """Has one pod looked at: what runs of it has changed."""
        if (worker := self._workers.get(uid)) is not None:
            worker.look_again()

    def others(self, uid: str) -> list[types.Pod]:
        """The pods that take up room here, without this one."""
        return [w.pod for w in self._workers.values() if w.active and w.uid != uid]

    def network_ready(self) -> None:
        """The runtime's readiness has changed: pods that wait for it need not wait longer."""
        for worker in self._workers.values():
            worker.retry()

    async def run(self) -> None:
        """Runs workers until cancelled. Pods go on running when it ends."""
        await self._learn()
        undo: list[Callable[[], None]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                undo = [source.subscribe(self._changed) for source in self._sources]
                tasks.create_task(self._keep_house())
        finally:
            self._tasks = None
            self._workers.clear()
            for cancel in undo:
                cancel()

    async def _learn(self) -> None:
        """Which pods the runtime has before anything is done; they are not asked for room again."""
        while self._known_to_runtime is None:
            try:
                self._known_to_runtime = set(await self._kit.observer.everything())
            except errors.RuntimeFault as e:
                log.debug("waiting for the runtime: %s", e)
                await self._kit.clock.sleep(0.5)

    def _changed(self, old: types.Pod | None, new: types.Pod | None) -> None:
        replaced = old is not None and (new is None or new.metadata.uid != old.metadata.uid)
        if old is not None and replaced and (worker := self._workers.get(old.metadata.uid)) is not None:
            worker.gone()
        if new is None:
            return
        worker = self._workers.get(new.metadata.uid)
        if worker is not None:
            worker.update(new)
        else:
            self._add(new, end=self._rejection(new))

    def _rejection(self, pod: types.Pod) -> plan.End | None:
        known = self._known_to_runtime or set()
        if pod.metadata.uid in known or pod.metadata.deletion_timestamp or pod.status.phase in spec.TERMINAL:
            return None
        found = admit.reject(pod, others=self.others(pod.metadata.uid), node=self._node())
        if found is not None:
            log.info("pod %s is not admitted: %s: %s", spec.key(pod), found.reason, found.message)
            self._kit.events.event(spec.reference(pod), "Warning", found.reason, found.message)
        return found

    def _add(self, pod: types.Pod, *, end: plan.End | None = None, gone: bool = False) -> None:
        if self._tasks is None:
            return
        # A pod the runtime did not have when this agent began has nothing there that it did not make itself.
        known = self._known_to_runtime
        fresh = not gone and known is not None and pod.metadata.uid not in known
        worker = PodWorker(pod, self._kit, end=end, gone=gone, fresh=fresh)
        self._workers[worker.uid] = worker
        self._tasks.create_task(self._live(worker), name=f"pod {spec.key(pod)}")

    async def _live(self, worker: PodWorker) -> None:
        async with asyncio.TaskGroup() as tasks:
            await worker.run(tasks)
        del self._workers[worker.uid]
        for other in self._workers.values():
            if other.wants_room:
                other.wake()

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            if all(source.synced for source in self._sources):
                try:
                    await self._end_orphans()
                    if rounds % TIDY_ROUNDS == 0:
                        await self._remove_leftovers()
                    rounds += 1
                except errors.RuntimeFault as e:
                    log.debug("housekeeping waits for the runtime: %s", e)
                except Exception as e:
                    kube.runtime.log.failure(log, "housekeeping failed", e)
            await self._kit.clock.sleep(HOUSEKEEPING)

    async def _end_orphans(self) -> None:
        """Pods the runtime has and no source wants: only now that all sources have spoken."""
        for uid in await self._kit.observer.everything():
            if uid not in self._workers:
                pod = terminate.orphan(uid, await self._kit.observer.pod(uid))
                log.info("pod %s (uid %s) is wanted by nobody; ending it", spec.key(pod), uid)
                self._add(pod, gone=True)

    async def _remove_leftovers(self) -> None:
        """Folders and cgroups of pods that neither a source nor the runtime has."""
        alive = self._workers.keys() | (await self._kit.observer.everything()).keys()
        for uid in self._kit.volumes.leftovers(alive):
            await self._kit.devices.release(uid)
            await self._kit.image_volumes.release(self._kit.volumes.images_of(uid))
            await self._kit.volumes.unmount(uid)
            await asyncio.to_thread(self._kit.files.remove_folder, uid)
        for uid in await asyncio.to_thread(self._kit.cgroups.pods) - alive:
            paths = cgroups.every_pod_path(uid, layout=self._kit.layout)
            await asyncio.to_thread(self._kit.cgroups.remove, paths)
        for group in cgroups.classes(self.others(""), layout=self._kit.layout):
            await asyncio.to_thread(self._kit.cgroups.update, group)
