"""The probes of all running containers of this node, one small task each.

Owns which probes run and what their results are. Must not know restarts or pod status: it only reports.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from kube import types
from kube.runtime.clock import Clock
from nodeagent.probes import attempt, plan
from nodeagent.probes.plan import Kind

log = logging.getLogger(__name__)

OnResult = Callable[[str, str, str, bool, str], None]
"""(pod uid, container, kind, whether this try passed, the event's text). Called for every counted miss, every change of
a result, and every warning (which passed, and has a text)."""


Tally = tuple[str, str, str, str, str, str]
"""What is counted: kind and result in upstream's words, container, pod, namespace, uid."""
_RESULTS = {True: "successful", False: "failed", None: "unknown"}


class Running(Protocol):
    """A running container: `started_at` in Unix nanoseconds."""

    @property
    def id(self) -> str: ...
    @property
    def started_at(self) -> int: ...
    @property
    def pod_ip(self) -> str: ...


@dataclasses.dataclass(slots=True)
class _Worker:
    uid: str
    container: types.Container | types.EphemeralContainer
    kind: Kind
    running: Running
    found_running: bool
    tally: tuple[str, str, str, str]
    """Its container, pod, namespace and uid."""
    started: asyncio.Event
    """Set once the container counts as started; the startup probe's worker sets it."""
    state: plan.State = dataclasses.field(default_factory=plan.State)
    task: asyncio.Task[None] | None = None


class Probes:
    """Runs probes and keeps their results."""

    def __init__(self, *, exec: attempt.Exec, clock: Clock, on_result: OnResult) -> None:
        self._attempts = attempt.Attempts(exec)
        self._clock = clock
        self._on_result = on_result
        self._born = clock.now()
        self._workers: dict[str, dict[tuple[str, Kind], _Worker]] = {}
        self.tallies: dict[Tally, int] = {}
        """How often each probe of the pods that are here has passed and failed."""
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Run the probes until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for workers in self._workers.values():
                    for worker in workers.values():
                        self._start(worker)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def sync(self, pod: types.Pod, running: Mapping[str, Running]) -> None:
        """Probe exactly these containers of the pod, by name. A container with another id starts without results.

        Call it with every new observation, before results are read for a decision.
        """
        uid = pod.metadata.uid
        workers = self._workers.setdefault(uid, {})
        wanted: dict[tuple[str, Kind], tuple[types.Container | types.EphemeralContainer, Running]] = {}
        containers: tuple[types.Container | types.EphemeralContainer, ...]
        containers = (*pod.spec.init_containers, *pod.spec.containers)
        for container in containers:
            for kind in plan.KINDS:
                if container.name in running and plan.of(container, kind) is not None:
                    wanted[container.name, kind] = (container, running[container.name])
        for key, worker in list(workers.items()):
            if key not in wanted or wanted[key][1].id != worker.running.id:
                self._stop(workers.pop(key))
        for (name, kind), (container, record) in wanted.items():
            if (name, kind) not in workers:
                workers[name, kind] = self._new(pod, container, kind, record, workers)
        if not workers:
            del self._workers[uid]

    def results(self, uid: str) -> Mapping[tuple[str, str], bool | None]:
        """Results by container and kind; None and absent mean no verdict."""
        return {key: worker.state.result for key, worker in self._workers.get(uid, {}).items()}

    def forget(self, uid: str) -> None:
        """End a pod's probes."""
        for worker in self._workers.pop(uid, {}).values():
            self._stop(worker)
        for tally in [tally for tally in self.tallies if tally[-1] == uid]:
            del self.tallies[tally]

    def _new(
        self,
        pod: types.Pod,
        container: types.Container | types.EphemeralContainer,
        kind: Kind,
        running: Running,
        siblings: Mapping[tuple[str, Kind], _Worker],
    ) -> _Worker:
        earlier = siblings.get((container.name, "startup"))
        started = earlier.started if earlier is not None else asyncio.Event()
        found = datetime.fromtimestamp(running.started_at / 1e9, tz=self._born.tzinfo) < self._born
        meta = pod.metadata
        tally = (container.name, meta.name, meta.namespace, meta.uid)
        worker = _Worker(meta.uid, container, kind, running, found, tally, started)
        if found and _was(pod, container.name, running.id, kind):
            worker.state = plan.State(True, True, 1)  # what an earlier agent found holds until a probe says otherwise
        if container.startup_probe is None or (kind == "startup" and worker.state.result):
            started.set()
        self._start(worker)
        return worker

    def _start(self, worker: _Worker) -> None:
        if self._group is not None and worker.task is None and not plan.is_final(worker.kind, worker.state):
            name = f"{worker.kind} probe of {worker.container.name} in {worker.uid}"
            worker.task = self._group.create_task(self._work(worker), name=name)

    def _stop(self, worker: _Worker) -> None:
        if worker.task is not None:
            worker.task.cancel()

    async def _work(self, worker: _Worker) -> None:
        probe = plan.of(worker.container, worker.kind)
        assert probe is not None
        age = (self._clock.now() - _moment(worker.running.started_at, self._born)).total_seconds()
        await self._clock.sleep(
            plan.first_delay(probe, age=age, found_running=worker.found_running, luck=random.random())
        )
        if worker.kind != "startup":
            await worker.started.wait()
        early_tries = itertools.count()
        while not plan.is_final(worker.kind, worker.state):
            began = self._clock.monotonic()
            early = None
            try:
                early = await self._try(worker, probe, early_tries)
            except Exception:  # one container's probe must not end all others
                log.exception("%s probe of %s in pod %s", worker.kind, worker.container.name, worker.uid)
            pause = probe.period_seconds - (self._clock.monotonic() - began)
            await self._clock.sleep(max(0.0, pause) if early is None else early)

    async def _try(self, worker: _Worker, probe: types.Probe, early_tries: Iterator[int]) -> float | None:
        """Try once and take the outcome, or return the delay after which to try again early."""
        outcome = await self._attempts.make(
            probe, worker.container, container_id=worker.running.id, pod_ip=worker.running.pod_ip
        )
        if outcome.passed is False:
            early = plan.early_delay(worker.kind, probe, worker.state, tries=next(early_tries))
            if early is not None:
                return early
        self._take(worker, probe, outcome)
        return None

    def _take(self, worker: _Worker, probe: types.Probe, outcome: plan.Outcome) -> None:
        counted = (worker.kind.capitalize(), _RESULTS[outcome.passed], *worker.tally)
        self.tallies[counted] = self.tallies.get(counted, 0) + 1
        if outcome.passed is None:
            log.debug("%s probe of %s: %s", worker.kind, worker.container.name, outcome.message)
            return
        before = worker.state.result
        worker.state = plan.step(worker.state, probe, passed=outcome.passed)
        if worker.kind == "startup" and worker.state.result:
            worker.started.set()
        if not outcome.passed or outcome.warning or worker.state.result is not before:
            text = "" if outcome.passed and not outcome.warning else plan.shown(worker.kind, outcome)
            self._on_result(worker.uid, worker.container.name, worker.kind, outcome.passed, text)


def _moment(nanoseconds: int, like: datetime) -> datetime:
    return datetime.fromtimestamp(0, tz=like.tzinfo) + timedelta(microseconds=nanoseconds // 1000)


def _was(pod: types.Pod, name: str, container_id: str, kind: Kind) -> bool:
    """Tell what the pod's last status says of this very container."""
    for seen in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if seen.name == name and (seen.container_id or "").endswith("//" + container_id):
            return bool(seen.ready if kind == "readiness" else seen.started if kind == "startup" else False)
    return False
