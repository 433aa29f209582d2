"""One pod's life on this node: look, plan, carry out, report; then the end of it.

One task per pod. It is woken by its object, by the runtime and by probes, and plans from scratch each time.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

import kube.runtime.log
from kube import types
from kube.runtime import backoff, clock
from nodeagent import errors
from nodeagent.pods import crashloop, execute, observed, plan, resizing, spec, terminate
from nodeagent.pods.kit import Kit, RunningContainer
from nodeagent.status import generate, report
from nodeagent.volumes import VolumeError

log = logging.getLogger(__name__)

Json = dict[str, Any]
AGAIN: Final = 0.0
UNSEEN: Final = -1
PASSING: Final = 0.3
"""Seconds a state must last to be worth a write of its own while a container is being started."""
FAILED_SYNC: Final = 10.0
OUTAGE_RETRY: Final = 1.0
OWN_CONDITIONS: Final = frozenset(
    (
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
        "PodResizePending",
        "PodResizeInProgress",
    )
)


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
        self.status: Json | None = None
        self.end = end or (plan.End() if pod.status.phase in spec.TERMINAL else None)
        self._gone = gone
        self._kit = kit
        self._executor = execute.Executor(kit)
        self._wake = asyncio.Event()
        self._step: asyncio.Task[float | None] | None = None
        self._waiting: dict[str, report.Waiting] = {}
        self._delays: dict[str, crashloop.Delay] = {}
        self._killed: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._retries = backoff.Backoff(1.0, FAILED_SYNC)
        self._volumes: Mapping[str, Path] | None = None
        self._volumes_due = True
        self._messages: dict[str, str] = {}
        self._started_at = clock.rfc3339(kit.clock.now())
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
        urgent = ending(pod) and (not ending(self.pod) or spec.grace(pod) < spec.grace(self.pod))
        old, new = self.pod.metadata, pod.metadata
        if (old.labels, old.annotations) != (new.labels, new.annotations):
            self._volumes_due = True
        echo = only_status(self._wanted, pod)
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
            if not ending(self.pod):
                self._interrupt()

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
            ends = self._gone or self.end is not None or ending(self.pod)
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
            self._with_status(),
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
            self._waiting[start.name] = report.Waiting(reason=e.reason, message=e.message)
            wait = FAILED_SYNC if e.retry_after is None else e.retry_after
            self._retry_at[start.name] = self._kit.clock.monotonic() + wait
            if e.reason in ("RunContainerError", "PostStartHookError"):
                self._remember_restart(start)
            self.seen = await self._kit.observer.pod(self.uid)
            await self._report()
            return False
        self._resizing.started(spec.find(self.pod, start.name))
        self._waiting.pop(start.name, None)
        self._retry_at.pop(start.name, None)
        self._remember_restart(start)
        self.seen = await self._kit.observer.containers(self.seen, [made])
        if await self._executor.tidy(self.pod, self.seen):
            self._looked = UNSEEN
        return True

    def _remember_restart(self, start: plan.Start) -> None:
        if start.finished_at is not None:
            self._delays[start.name] = crashloop.after_restart(
                self._delays.get(start.name),
                finished_at=start.finished_at,
                now=self._kit.clock.now().timestamp(),
                cap=self._kit.settings.restart_cap,
            )

    def _note_back_off(self, todo: plan.PodPlan) -> None:
        """CrashLoopBackOff as the waiting reason while it lasts, and an event for each new delay."""
        for name in todo.backing_off:
            shown = clock_text(self._delays[name].seconds)
            message = f"back-off {shown} restarting failed container={name} pod={spec.shown(self.pod)}"
            if self._waiting.get(name) != report.Waiting(reason="CrashLoopBackOff", message=message):
                text = f"Back-off restarting failed container {name} in pod {spec.shown(self.pod)}"
                self._executor.event(self.pod, "Warning", "BackOff", text, container=name)
            self._waiting[name] = report.Waiting(reason="CrashLoopBackOff", message=message)

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
        await self._look()
        if stopping := [c.id for c in self.seen.running]:
            await terminate.stop_containers(self._kit, self._executor, self.pod, self.seen, grace=spec.grace(self.pod))
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

    def _leave(self) -> None:
        self._kit.statuses.forget(self.uid)
        self._kit.observer.forget(self.uid)
        self.done = True

    # ---- status ----------------------------------------------------------------------------------------------

    async def _report(self, *, final: bool = False, soon: bool = True) -> None:
        """Publishes the status; nothing is written if it is there already. Not `soon`: it is about to change."""
        fresh = [c for c in self.seen.containers if c.state == "exited" and c.id not in self._messages]
        if fresh:
            logs = self._kit.files.logs_of(self.pod)
            count = len(list(spec.every(self.pod)))
            read = self._kit.files.messages
            found = await asyncio.to_thread(read, self.uid, fresh, logs=logs, containers=count)
            kept = {c.id for c in self.seen.containers}
            self._messages = {id_: text for id_, text in self._messages.items() if id_ in kept}
            self._messages |= {c.id: found.get(c.id, "") for c in fresh}
        for name in [c.name for c in self.seen.running]:
            self._waiting.pop(name, None)
        pod = self._with_status()
        given = report.Report(
            seen=self.seen,
            now=clock.rfc3339(self._kit.clock.now()),
            start_time=self._started_at,
            waiting=self._waiting,
            results=self._kit.probes.results(self.uid),
            messages=self._messages,
            host_ips=self._kit.facts.host_ips,
            end=self.end,
            final=final,
            granted=self._resizing.granted,
            in_force=self._resizing.force,
            resizing=self._resizing.conditions(),
        )
        self.status = generate.status(pod, given)
        self._kit.statuses.publish(pod, self.status, delay=0.0 if soon else PASSING)

    def _with_status(self) -> types.Pod:
        """The pod with the status this agent last gave it, which the API may not have sent back yet."""
        if self.status is None:
            return self.pod
        ours: types.PodStatus = msgspec.convert(self.status, types.PodStatus)
        ours.conditions = (*ours.conditions, *theirs(self.pod))
        return msgspec.structs.replace(self.pod, status=ours)


def ending(pod: types.Pod) -> bool:
    """Whether the API wants it gone."""
    return pod.metadata.deletion_timestamp is not None


def only_status(old: types.Pod, new: types.Pod) -> bool:
    """Whether nothing changed but the status this agent wrote itself: no reason to look at the runtime again."""
    if old.spec != new.spec or theirs(old) != theirs(new):
        return False
    before, after = old.metadata, new.metadata
    same = (before.labels, before.annotations, before.generation) == (after.labels, after.annotations, after.generation)
    return same and (before.deletion_timestamp, before.deletion_grace_period_seconds) == (
        after.deletion_timestamp,
        after.deletion_grace_period_seconds,
    )


def theirs(pod: types.Pod) -> list[types.PodCondition]:
    """Conditions others have written, which readiness gates may wait for."""
    return [c for c in pod.status.conditions if c.type not in OWN_CONDITIONS]


def first(failures: BaseExceptionGroup[Any]) -> BaseException:
    """The first single error of a group."""
    inner = failures.exceptions[0]
    return first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def clock_text(seconds: float) -> str:
    """A back-off as upstream writes it: 10s, 1m20s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
