"""One pod's life on this node: look, plan, carry out, report; then the end of it.

One task per pod. It is woken by its object, by the runtime and by probes, and plans from scratch each time.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import kube.runtime.log
from kube import types
from kube.runtime import backoff
from nodeagent import errors
from nodeagent.cri import records
from nodeagent.pods import changes, crashloop, execute, observed, plan, reporting, resizing, spec, terminate
from nodeagent.pods.kit import Kit, RunningContainer
from nodeagent.status import report
from nodeagent.volumes import VolumeError

log = logging.getLogger(__name__)

Json = dict[str, Any]
AGAIN: Final = 0.0
UNSEEN: Final = -1
FAILED_SYNC: Final = 10.0
OUTAGE_RETRY: Final = 1.0


class PodWorker:
    """Owns everything about one pod that is remembered between two looks at it."""

    def __init__(
        self, pod: types.Pod, kit: Kit, *, end: plan.End | None = None, gone: bool = False, fresh: bool = False
    ) -> None:
        self._wanted = pod
        self._resizing = resizing.Resizing(pod)
        self.pod = self._resizing.effective(pod)
        self.uid = pod.metadata.uid
        self.done = False
        self.seen = observed.Observed(uid=self.uid)
        self.end = end or (plan.End() if pod.status.phase in spec.TERMINAL else None)
        self._gone = gone
        self._kit = kit
        self._executor = execute.Executor(kit)
        self._wake = asyncio.Event()
        self._step: asyncio.Task[float | None] | None = None
        self._reporting = reporting.Reporting(pod, kit)
        self._delays: dict[str, crashloop.Delay] = {}
        self._killed: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._retries = backoff.Backoff(1.0, FAILED_SYNC)
        self._volumes: Mapping[str, Path] | None = None
        self._volumes_due = True
        self._released = False
        self._deleted = False
        self._changes = 0
        self._looked = 0 if fresh else UNSEEN

    # ---- what others tell it ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something about the pod may have changed."""
        self._wake.set()

    def look_again(self) -> None:
        """What runs of the pod may have changed."""
        self._changes += 1
        self._wake.set()

    def retry(self) -> None:
        """What hindered it may be over: try again now."""
        self._retry_at.clear()
        self._wake.set()

    def update(self, pod: types.Pod) -> None:
        """The object has changed. What becomes more urgent by it interrupts what is under way."""
        urgent = changes.urgent(self.pod, pod)
        self._volumes_due |= changes.shown_in_files(self.pod, pod)
        echo = changes.only_status(self._wanted, pod)
        self._kit.statuses.heed(self.uid, pod)
        self._wanted, self.pod = pod, self._resizing.effective(pod)
        if not echo:
            self._wake.set()
        if urgent:
            self._interrupt()

    def gone(self) -> None:
        """The object is no longer there, or not for this node: clean up."""
        if not self._gone:
            self._gone = True
            self._wake.set()
            if not changes.ending(self.pod):
                self._interrupt()

    def finish(self, end: plan.End) -> None:
        """This node gives the pod up, whatever the API wants."""
        if self.end is None:
            self.end = end
            self._wake.set()
            self._interrupt()

    @property
    def status(self) -> Json | None:
        """The status this agent last gave the pod."""
        return self._reporting.status

    @property
    def fresh(self) -> types.Pod:
        """The pod with that status; what others have written of it is left out."""
        typed = self._reporting.typed
        return self.pod if typed is None else msgspec.structs.replace(self.pod, status=typed)

    def _interrupt(self) -> None:
        if self._step is not None:
            self._step.cancel()

    @property
    def active(self) -> bool:
        """Whether it takes up room on the node."""
        return not self._released and self.pod.status.phase not in spec.TERMINAL

    @property
    def wants_room(self) -> bool:
        """Whether it waits for others to leave so that it can be resized."""
        return self._resizing.pending is not None

    # ---- its life --------------------------------------------------------------------------------------------

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Lives until the pod has left the node."""
        while not self.done:
            self._wake.clear()
            self._step = tasks.create_task(self._once(), name=f"pod {spec.key(self.pod)} step")
            await asyncio.wait({self._step})
            delay = AGAIN if self._step.cancelled() else self._step.result()
            self._step = None
            if delay != AGAIN and not self.done:
                await self._rest(delay)

    async def _rest(self, delay: float | None) -> None:
        limit = self._kit.settings.sync_frequency
        try:
            async with asyncio.timeout(limit if delay is None else min(delay, limit)):
                await self._wake.wait()
        except TimeoutError:
            self._looked = UNSEEN  # once in a while the runtime is asked without a reason

    async def _look(self) -> None:
        """What runs of the pod, asked for only if it may differ from what was last seen."""
        if self._looked != self._changes:
            at = self._changes
            self.seen = await self._kit.observer.pod(self.uid)
            self._looked = at

    async def _once(self) -> float | None:
        """One round; returns the seconds after which the next is due at the latest, None for no need."""
        looked_well = False
        try:
            ends = self._gone or self.end is not None or changes.ending(self.pod)
            delay = await (self._finish() if ends else self._sync())
            looked_well = True
            return delay
        except errors.RuntimeUnavailable as e:
            log.info("pod %s waits for the runtime: %s", spec.key(self.pod), e)
            return OUTAGE_RETRY
        except Exception as e:
            wait = self._retries.next()
            text = f"pod {spec.key(self.pod)} (uid {self.uid}): trying again in {wait:g} s"
            if terminate.retryable(e):
                log.warning("%s: %s", text, kube.runtime.log.describe(e))
            else:
                log.exception("%s", text)
            return wait
        finally:
            if not looked_well:
                self._looked = UNSEEN

    async def _sync(self) -> float | None:
        await self._look()
        self._probe()
        self._killed &= {c.id for c in self.seen.containers}
        resized = await self._resize()
        if self._volumes_due and self.seen.running:
            # Containers an earlier agent started, or metadata that files show: volumes must go on being refreshed.
            await self._mount()
        now = self._kit.clock.now().timestamp()
        tick = self._kit.clock.monotonic()
        self._retry_at = {name: at for name, at in self._retry_at.items() if at > tick}
        todo = plan.plan(
            self._reporting.with_status(self.pod),
            plan.Situation(
                seen=self.seen,
                results=self._kit.probes.results(self.uid),
                delays=self._delays,
                killed=frozenset(self._killed),
                resized=resized,
                now=now,
            ),
        )
        self._note_back_off(todo)
        await self._report(soon=self.status is None or not todo.start)  # the first is what users watch for
        if todo.end is not None:
            self.end = todo.end
            return AGAIN
        changed = await self._carry_out(todo)
        if changed:
            self._retries.reset()
            return AGAIN
        waits = [todo.wait, *(at - self._kit.clock.monotonic() for at in self._retry_at.values())]
        return max(0.05, min((w for w in waits if w is not None), default=self._kit.settings.sync_frequency))

    async def _resize(self) -> frozenset[str]:
        """Grants what the spec asks for if there is room, and brings it into force; returns who must restart for it."""
        kit, work = self._kit, self._resizing

        def tell(type_: str, reason: str, message: str) -> None:
            self._executor.event(self.pod, type_, reason, message)

        if work.effective(self._wanted) is not self._wanted or work.pending is not None:
            self.pod = work.consider(
                self._wanted, others=kit.others(self.uid), allocatable=kit.facts.allocatable, tell=tell
            )
        restarts = work.restarts(self.pod, self.seen)
        await work.apply(kit, self.pod, self.seen, cgroup=self._executor.cgroup(self.pod))
        work.settle(self.pod, self.seen, tell=tell)
        return restarts

    async def _carry_out(self, todo: plan.PodPlan) -> bool:
        """Kills, makes the sandbox and the volumes side by side, starts. True if anything was done."""
        if todo.reset:
            await self._reset(todo.reset)
            return True
        grace = spec.grace(self.pod)
        for kill in todo.kill:
            self._killed.add(kill.id)
            await self._executor.kill(self.pod, kill, self.seen, grace=grace)
            self._looked = UNSEEN
        if todo.create_sandbox:
            return await self._make_sandbox(todo)
        done = bool(todo.kill)
        for start in todo.start:
            if self._retry_at.get(start.name, 0.0) > self._kit.clock.monotonic():
                continue
            done |= await self._start(start)
        return done

    async def _reset(self, containers: Sequence[records.Container]) -> None:
        """Removes every container, so that the pod starts anew; the last is the one that asked for it."""
        self._looked = UNSEEN
        for container in containers:
            await self._executor.reset(self.pod, container, self.seen)
        cause = containers[-1]
        self._note_restart(cause.name, finished_at=plan.finished_at(cause))

    async def _make_sandbox(self, todo: plan.PodPlan) -> bool:
        problem = self._kit.facts.network_problem
        if problem is not None and not self.pod.spec.host_network:
            self._executor.event(self.pod, "Warning", "NetworkNotReady", f"network is not ready: {problem}")
            self._retry_at[""] = self._kit.clock.monotonic() + FAILED_SYNC
            return False
        self._retry_at.pop("", None)
        if self.seen.sandboxes:
            message = "Pod sandbox changed, it will be killed and re-created."
            self._executor.event(self.pod, "Normal", "SandboxChanged", message)
            self._looked = UNSEEN
            for old in self.seen.sandboxes:
                await self._kit.runtime.sandboxes.stop(old.id)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._mount())
                making = group.create_task(self._executor.create_sandbox(self.pod, attempt=todo.attempt))
        except BaseExceptionGroup as failures:
            raise first(failures) from None
        for old in self.seen.sandboxes:
            await self._kit.runtime.sandboxes.remove(old.id) if not self._keeps_records(old.id) else None
        self.seen = await self._kit.observer.sandbox(self.seen, making.result())
        return True

    def _keeps_records(self, sandbox_id: str) -> bool:
        """Whether ended containers of a former sandbox are still shown as lastState."""
        return any(c.sandbox_id == sandbox_id for c in self.seen.containers)

    async def _mount(self) -> bool:
        """All volumes; a failure is told and tried again, and only keeps containers from starting."""
        try:
            self._volumes = await self._kit.volumes.mount(self.pod)
            self._volumes_due = False
        except VolumeError as e:
            self._executor.event(self.pod, "Warning", e.reason, e.message)
            return False
        return True

    async def _start(self, start: plan.Start) -> bool:
        if self._volumes is None and not await self._mount():
            self._retry_at[start.name] = self._kit.clock.monotonic() + self._retries.next()
            return False
        try:
            made = await self._executor.start(self.pod, start, self.seen, volumes=self._volumes or {})
        except errors.StartError as e:
            self._reporting.waiting[start.name] = report.Waiting(reason=e.reason, message=e.message)
            wait = FAILED_SYNC if e.retry_after is None else e.retry_after
            self._retry_at[start.name] = self._kit.clock.monotonic() + wait
            if e.reason in ("RunContainerError", "PostStartHookError"):
                self._remember_restart(start)
            self.seen = await self._kit.observer.pod(self.uid)
            await self._report()
            return False
        self._resizing.started(spec.find(self.pod, start.name))
        self._reporting.waiting.pop(start.name, None)
        self._retry_at.pop(start.name, None)
        self._remember_restart(start)
        self.seen = await self._kit.observer.containers(self.seen, [made])
        if await self._executor.tidy(self.pod, self.seen):
            self._looked = UNSEEN
        return True

    def _remember_restart(self, start: plan.Start) -> None:
        if start.finished_at is not None:
            self._note_restart(start.name, finished_at=start.finished_at)

    def _note_restart(self, name: str, *, finished_at: float) -> None:
        self._delays[name] = crashloop.after_restart(
            self._delays.get(name),
            finished_at=finished_at,
            now=self._kit.clock.now().timestamp(),
            cap=self._kit.settings.restart_cap,
        )

    def _note_back_off(self, todo: plan.PodPlan) -> None:
        """CrashLoopBackOff as the waiting reason while it lasts, and an event for each new delay."""
        for name in todo.backing_off:
            shown = clock_text(self._delays[name].seconds)
            message = f"back-off {shown} restarting failed container={name} pod={spec.shown(self.pod)}"
            if self._reporting.waiting.get(name) != report.Waiting(reason="CrashLoopBackOff", message=message):
                text = f"Back-off restarting failed container {name} in pod {spec.shown(self.pod)}"
                self._executor.event(self.pod, "Warning", "BackOff", text, container=name)
            self._reporting.waiting[name] = report.Waiting(reason="CrashLoopBackOff", message=message)

    def _probe(self) -> None:
        """Tells the probes what runs; must come before planning, so that old results are not held against new ones."""
        ips = self._kit.facts.host_ips if self.pod.spec.host_network else self.seen.ips
        running = {
            c.name: RunningContainer(id=c.id, started_at=c.started_at, pod_ip=ips[0] if ips else "")
            for c in reversed(self.seen.running)
        }
        self._kit.probes.sync(self.pod, running)

    # ---- the end ---------------------------------------------------------------------------------------------

    async def _finish(self) -> float | None:
        """Containers, status, volumes, sandbox, cgroup, object: see `terminate`."""
        deleting = self._gone or self.pod.metadata.deletion_timestamp is not None
        if self._released and not deleting:
            return None
        if self._deleted and self._gone:
            self._leave()
            return None
        await self._look()
        if stopping := [c.id for c in self.seen.running]:
            await terminate.stop_containers(self._kit, self._executor, self.pod, self.seen, grace=self._grace())
            self.seen = await self._kit.observer.containers(self.seen, stopping)
            if self.seen.running:
                self._looked = UNSEEN
                return OUTAGE_RETRY
        self._kit.probes.forget(self.uid)
        if not self._gone:
            await self._report(final=True)
            await self._kit.statuses.write_now(self.uid)
        await terminate.release(self._kit, self.pod, self.seen, remove=deleting)
        self._released, self._looked = True, UNSEEN
        if self._gone:
            self._leave()
        elif deleting and not self._deleted:
            await terminate.delete_object(self._kit, self.pod)
            self._deleted = True
        return None

    async def _report(self, *, final: bool = False, soon: bool = True) -> None:
        await self._reporting.publish(
            self.pod, self.seen, end=self.end, resizing=self._resizing, final=final, soon=soon
        )

    def _grace(self) -> int:
        """Seconds its containers are given to stop."""
        least = self.end.grace if self.end is not None else None
        return spec.grace(self.pod) if least is None else min(least, spec.grace(self.pod))

    def _leave(self) -> None:
        self._kit.statuses.forget(self.uid)
        self._kit.observer.forget(self.uid)
        self.done = True


def first(failures: BaseExceptionGroup[Any]) -> BaseException:
    """The first single error of a group."""
    inner = failures.exceptions[0]
    return first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def clock_text(seconds: float) -> str:
    """A back-off as upstream writes it: 10s, 1m20s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
