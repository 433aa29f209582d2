"""The scheduler at work: informers feed the snapshot and the queue, one loop decides, bindings run beside it."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from controlplane.projection import Namespace, Node, Pod, PodDisruptionBudget
from controlplane.scheduler import bind, decide, preempt, snapshot, volumes
from controlplane.scheduler.decide import Verdict
from controlplane.scheduler.metrics import Metrics
from controlplane.scheduler.preempt import Budget, Victims
from controlplane.scheduler.queue import GATES, Event, SchedulingQueue, Waiting
from controlplane.scheduler.snapshot import PodInfo, Snapshot
from kube import labels, scheme, types
from kube.client.errors import ClientError
from kube.client.events import EventRecorder
from kube.runtime.component import Deps
from kube.status import ApiError

log = logging.getLogger(__name__)

PARALLEL_BINDS = 64
FLUSH_PERIOD = 30.0  # seconds
TURN = 8  # decisions in a row before others in this process get a turn


class Scheduler:
    """Gives pods without a node one."""

    name = "scheduler"

    def __init__(self, deps: Deps, *, scheduler_name: str) -> None:
        self._clock = deps.clock
        self._scheduler_name = scheduler_name
        # People know the scheduler's events by the name pods ask for it by.
        self._events = EventRecorder(deps.client, component=scheduler_name, host="", clock=deps.clock)
        self._binder = bind.Binder(deps.client, events=self._events, clock=deps.clock)
        self._metrics = Metrics(deps.registry)
        self._snapshot, self._queue = Snapshot(), SchedulingQueue()
        self._wake, self._writes = asyncio.Event(), asyncio.Semaphore(PARALLEL_BINDS)
        self._nodes = deps.informers.get(scheme.NODES, Node)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self._budgets = deps.informers.get(scheme.POD_DISRUPTION_BUDGETS, PodDisruptionBudget)
        self._namespaces = deps.informers.get(scheme.NAMESPACES, Namespace)
        self._claims = deps.informers.get(scheme.PERSISTENT_VOLUME_CLAIMS, types.PersistentVolumeClaim)
        self._volumes = deps.informers.get(scheme.PERSISTENT_VOLUMES, types.PersistentVolume)
        self._classes = deps.informers.get(scheme.STORAGE_CLASSES, types.StorageClass)
        self._snapshot.storage = volumes.Storage(self._claims.cache, self._volumes.cache, self._classes.cache)
        self._undo: list[Callable[[], None]] = [
            self._claims.subscribe(self._on_storage),
            self._volumes.subscribe(self._on_storage),
            self._classes.subscribe(self._on_storage),
            self._nodes.subscribe(self._on_node),
            self._namespaces.subscribe(self._on_namespace),
            self._pods.subscribe(self._on_pod),
        ]

    async def run(self) -> None:
        """Decide until cancelled."""
        storage = (self._claims, self._volumes, self._classes)
        for informer in (self._nodes, self._pods, self._namespaces, self._budgets, *storage):
            await informer.wait_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run(), name="scheduler-events")
            group.create_task(self._flush(), name="scheduler-flush")
            await self._decide(group)

    def ready(self) -> str | None:
        """None once nodes and pods are known."""
        return None if self._nodes.synced and self._pods.synced else "nodes and pods are not yet known"

    async def reload(self) -> None:
        """Nothing to reload."""

    async def close(self) -> None:
        """Stop listening."""
        for undo in self._undo:
            undo()
        self._metrics.unregister()

    # what happens

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old:
                self._snapshot.remove_node(old.metadata.name)
            return
        self._snapshot.put_node(new)
        for event in node_events(old, new):
            self._happened(event)

    def _on_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None:
            self._snapshot.namespaces[new.metadata.name] = new.metadata.labels
        elif old is not None:
            self._snapshot.namespaces.pop(old.metadata.name, None)

    def _on_storage(self, old: object, new: object) -> None:
        self._happened(Event.STORAGE)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if old and (new is None or old.metadata.uid != new.metadata.uid):
            self._leave(old)
        if new is None:
            return
        finished = new.status.phase in ("Succeeded", "Failed")
        if finished:
            self._leave(new)
        elif new.spec.node_name:
            self._queue.remove(new.metadata.uid)
            self._snapshot.clear_nomination(new.metadata.uid)
            self._snapshot.put_pod(new)
            if old is None or (old.spec.node_name, old.metadata.labels) != (new.spec.node_name, new.metadata.labels):
                self._happened(Event.POD_PLACED)
        else:
            self._on_unassigned(old, new)

    def _on_unassigned(self, old: Pod | None, new: Pod) -> None:
        if new.spec.scheduler_name != self._scheduler_name or self._snapshot.holds(new.metadata.uid):
            return
        if new.metadata.deletion_timestamp:
            self._queue.remove(new.metadata.uid)
            return
        if new.status.nominated_node_name:
            self._snapshot.nominate(snapshot.pod_info(new), new.status.nominated_node_name)
        self._queue.add(new, now=self._clock.monotonic())
        self._wake.set()

    def _leave(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._queue.remove(uid)
        self._snapshot.clear_nomination(uid)
        if self._snapshot.holds(uid):
            self._snapshot.remove_pod(uid)
            self._happened(Event.POD_GONE)

    def _happened(self, event: Event) -> None:
        if self._queue.happened(event, now=self._clock.monotonic()):
            self._wake.set()

    # what is decided

    async def _decide(self, group: asyncio.TaskGroup) -> None:
        decided = 0
        while True:
            await self._writes.acquire()
            waiting = await self._next()
            group.create_task(self._finish(self._try(waiting)))
            decided += 1
            if not decided % TURN:
                await asyncio.sleep(0)

    async def _next(self) -> Waiting:
        """The pod to decide on; waits until one comes, or the first one leaves back-off."""
        while (waiting := self._queue.pop(now=self._clock.monotonic())) is None:
            for queue, count in self._queue.counts().items():
                self._metrics.pending.labels(queue).set(count)
            self._wake.clear()
            release = self._queue.next_release()
            try:
                async with asyncio.timeout(None if release is None else max(0.0, release - self._clock.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
        return waiting

    def _try(self, waiting: Waiting) -> Coroutine[Any, Any, None]:
        """A pod that cannot even be understood must not keep the others waiting."""
        try:
            return self._attempt(waiting)
        except Exception:
            meta = waiting.pod.metadata
            log.exception("pod %s/%s cannot be decided on; it is tried again later", meta.namespace, meta.name)
            self._metrics.attempts.labels("error").inc()
            self._queue.failed(waiting, now=self._clock.monotonic())
            return _nothing()

    def _attempt(self, waiting: Waiting) -> Coroutine[Any, Any, None]:
        """Decide on one pod; answers with the writes that follow. Nothing happens between asking and deciding."""
        pod = waiting.pod
        if pod.spec.scheduling_gates:
            self._queue.unschedulable(waiting, plugins=frozenset((GATES,)), now=self._clock.monotonic())
            return self._binder.mark(pod, reason=bind.GATED, message=bind.GATED_MESSAGE)
        info = snapshot.pod_info(pod)
        with self._metrics.algorithm.time():
            verdict = decide.decide(info, self._snapshot, choose=random.choice)
        self._snapshot.advance(verdict.evaluated, count=verdict.total)
        if verdict.node is None:
            self._metrics.attempts.labels("unschedulable").inc()
            self._queue.unschedulable(waiting, plugins=verdict.plugins, now=self._clock.monotonic())
            return self._after_failure(info, verdict)
        self._snapshot.clear_nomination(info.uid)
        self._snapshot.assume(info, verdict.node)
        return self._bind(waiting, info, verdict.node)

    def _after_failure(self, info: PodInfo, verdict: Verdict) -> Coroutine[Any, Any, None]:
        """Make room if that can be, and say what was found."""
        pod = info.pod
        why = self._not_eligible(info)
        if why or not verdict.total:
            return self._binder.refuse(pod, decide.explain(verdict, preemption=why))
        start = random.randrange(max(1, verdict.total))
        outcome = preempt.preempt(info, verdict, self._snapshot, budgets=self._budgets_now(), start=start)
        if outcome.chosen is None:
            self._snapshot.clear_nomination(info.uid)
            message = decide.explain(verdict, preemption=decide.helpless(verdict, outcome.reasons))
            return self._give_up(pod, message)
        self._metrics.preemptions.inc()
        self._snapshot.nominate(info, outcome.chosen.node)
        return self._make_room(pod, outcome.chosen, decide.explain(verdict))

    def _not_eligible(self, info: PodInfo) -> str:
        """Why a pod may not preempt now, "" if it may."""
        if info.pod.spec.preemption_policy == "Never":
            return "not eligible due to preemptionPolicy=Never."
        on = self._snapshot.infos.get(self._snapshot.nomination(info.uid))
        for one in on.pods.values() if on else ():
            if one.priority < info.priority and one.pod.metadata.deletion_timestamp:
                return "not eligible due to a terminating pod on the nominated node."
        return ""

    def _budgets_now(self) -> list[Budget]:
        return [
            Budget(one.metadata.namespace, labels.from_object(one.spec.selector), one.status.disruptions_allowed)
            for one in self._budgets.cache.values()
        ]

    async def _give_up(self, pod: Pod, message: str) -> None:
        if pod.status.nominated_node_name:
            await self._binder.nominate(pod, None)
        await self._binder.refuse(pod, message)

    async def _make_room(self, pod: Pod, victims: Victims, message: str) -> None:
        await self._binder.refuse(pod, message)
        try:
            await self._binder.make_room(pod, victims)
        except* (ApiError, ClientError) as errors:
            # Planned again from scratch at the pod's next attempt.
            log.info("room on %s could not be made: %s", victims.node, errors.exceptions[0])

    async def _finish(self, writing: Coroutine[Any, Any, None]) -> None:
        """Write what was decided. A failure is told once and costs one pod some time, never the scheduler."""
        try:
            await writing
        except (ApiError, ClientError) as e:
            log.info("a scheduling result could not be written, the pod's next event or attempt repeats it: %s", e)
        finally:
            self._writes.release()

    async def _bind(self, waiting: Waiting, info: PodInfo, node: str) -> None:
        try:
            await self._binder.bind(waiting.pod, node)
        except (ApiError, ClientError):
            self._metrics.attempts.labels("error").inc()
            self._snapshot.forget(info.uid)
            self._come_back(waiting)
            raise
        self._metrics.attempts.labels("scheduled").inc()
        self._metrics.sli.observe(self._clock.monotonic() - waiting.first_seen)

    def _come_back(self, waiting: Waiting) -> None:
        """Queue a pod again whose binding failed, if it still is there and has no node."""
        meta = waiting.pod.metadata
        now_known = self._pods.cache.get(f"{meta.namespace}/{meta.name}")
        if now_known and now_known.metadata.uid == meta.uid and not now_known.spec.node_name:
            waiting.pod = now_known
            self._queue.failed(waiting, now=self._clock.monotonic())
            self._wake.set()

    async def _flush(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_PERIOD)
            self._queue.flush(now=self._clock.monotonic())
            self._wake.set()


async def _nothing() -> None:
    """No write follows."""


def node_events(old: Node | None, new: Node) -> Iterator[Event]:
    """What a change of a node could mean for waiting pods; heartbeats mean nothing."""
    if old is None:
        yield Event.NODE_ADDED
        return
    if old.status.allocatable != new.status.allocatable:
        yield Event.NODE_ALLOCATABLE
    if old.metadata.labels != new.metadata.labels:
        yield Event.NODE_LABELS
    if (old.spec.taints, old.spec.unschedulable) != (new.spec.taints, new.spec.unschedulable):
        yield Event.NODE_TAINTS
