"""The heart: from a pod, what runs of it, and the time, to a plain value of what to do next. PURE.

It covers living pods; stopping a pod wholly is `terminate`'s work, and the plan only says when and why.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final, Literal

from kube import types
from nodeagent.cri import labels, records
from nodeagent.pods import crashloop, observed, spec

Results = Mapping[tuple[str, str], bool | None]
Kind = Literal["init", "main", "ephemeral"]
NANO: Final = 1e9
KILLED: Final = 137


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this container. `finished_at` is when the one before it ended, for its back-off."""

    name: str
    kind: Kind
    restart_count: int = 0
    finished_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Stop this container. `grace` None: the pod's own."""

    id: str
    name: str
    message: str
    grace: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Stop the whole pod. With a reason the pod failed for it; without one its containers tell.

    `grace` is the most its containers are given to stop, in seconds; None: what the pod asks for.
    """

    reason: str = ""
    message: str = ""
    grace: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """What to do for a pod now. Everything empty: nothing, or nothing before `wait` seconds have passed.

    `reset` containers are removed in this order, those that run killed first; the next look then starts all anew.
    """

    create_sandbox: bool = False
    attempt: int = 0
    reset: tuple[records.Container, ...] = ()
    start: tuple[Start, ...] = ()
    kill: tuple[Kill, ...] = ()
    backing_off: Mapping[str, float] = dataclasses.field(default_factory=dict)
    end: End | None = None
    wait: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known about a pod besides its spec: the planner's other input.

    `results` are probe results by (container, kind); `delays` the crash delays; `killed` ids of containers that were
    stopped for a failed probe, whose exit code means nothing; `resized` containers that get their new resources by a
    restart; `now` is in Unix seconds.
    """

    seen: observed.Observed
    results: Results = dataclasses.field(default_factory=dict)
    delays: Mapping[str, crashloop.Delay] = dataclasses.field(default_factory=dict)
    killed: frozenset[str] = frozenset()
    resized: frozenset[str] = frozenset()
    now: float = 0.0


def plan(pod: types.Pod, situation: Situation) -> PodPlan:
    """What to do next for a pod that shall run."""
    deadline = spec.deadline(pod)
    if deadline is not None and situation.now >= deadline:
        message = "Pod was active on the node longer than the specified deadline"
        return PodPlan(end=End(reason="DeadlineExceeded", message=message))
    if (cause := asks_for_all(pod, situation.seen)) is not None:
        found = reset(situation, cause)
    elif sandbox_usable(pod, situation.seen):
        found = with_sandbox(pod, situation)
    else:
        found = new_sandbox(pod, situation)
    if deadline is None or found.end:
        return found
    left = deadline - situation.now
    return dataclasses.replace(found, wait=left if found.wait is None else min(left, found.wait))


def asks_for_all(pod: types.Pod, seen: observed.Observed) -> records.Container | None:
    """The container whose end means that all of the pod are to start anew, by its RestartAllContainers rule."""
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        latest = seen.latest(container.name)
        if latest is not None and latest.state == "exited":
            rule = next((r for r in container.restart_policy_rules if spec.applies(r, latest.exit_code)), None)
            if rule is not None and rule.action == spec.RESTART_ALL:
                return latest
    return None


def reset(situation: Situation, cause: records.Container) -> PodPlan:
    """Every container goes, the one that asked for it last: while it is there, the reset is known to be unfinished."""
    delay = situation.delays.get(cause.name)
    wait = crashloop.remaining(delay, finished_at=finished_at(cause), now=situation.now)
    if wait > 0:
        return PodPlan(backing_off={cause.name: wait}, wait=wait)
    others = [container for container in situation.seen.containers if container.id != cause.id]
    return PodPlan(reset=(*others, cause))


def sandbox_usable(pod: types.Pod, seen: observed.Observed) -> bool:
    """Whether containers can go on in the newest sandbox; a changed one means all of them start anew."""
    sandbox = seen.sandbox
    if sandbox is None or not sandbox.ready or sum(s.ready for s in seen.sandboxes) > 1:
        return False
    return sandbox.host_network == pod.spec.host_network and bool(sandbox.ips or pod.spec.host_network)


def new_sandbox(pod: types.Pod, situation: Situation) -> PodPlan:
    """A first sandbox, or one in place of a dead one; none if nothing would run in it any more."""
    seen = situation.seen
    own = any(c.restart_policy for c in pod.spec.containers)
    never = pod.spec.restart_policy == "Never" and bool(seen.containers) and not own
    if never or (
        seen.containers
        and not any(may_restart(pod, c, seen.latest(c.name), killed=situation.killed) for c in pod.spec.containers)
    ):
        return PodPlan(end=End())
    attempt = seen.sandboxes[0].attempt + 1 if seen.sandboxes else 0
    kill = tuple(
        Kill(id=c.id, name=c.name, message="Pod sandbox changed, it will be killed and re-created.")
        for c in seen.running
    )
    first = pod.spec.init_containers[:1]
    if first:
        start: tuple[Start, ...] = (started_anew(pod, situation, first[0].name, "init"),)
    else:
        start = tuple(
            started_anew(pod, situation, c.name, "main")
            for c in pod.spec.containers
            if may_restart(pod, c, seen.latest(c.name), killed=situation.killed)
        )
    return PodPlan(create_sandbox=True, attempt=attempt, start=start, kill=kill)


def with_sandbox(pod: types.Pod, situation: Situation) -> PodPlan:
    """Init containers in order, then the main ones; each restarted as its policy says."""
    work = Work(pod, situation)
    initialised = initialise(work)
    for ephemeral in pod.spec.ephemeral_containers:
        if situation.seen.latest(ephemeral.name) is None:
            work.begin(ephemeral.name, "ephemeral")
    if initialised:
        for container in pod.spec.containers:
            keep_running(work, container, "main")
        if work.end is None and not work.alive and not work.start and not work.backing_off:
            work.end = End()
    return work.result()


class Work:
    """A plan while it is put together."""

    def __init__(self, pod: types.Pod, situation: Situation) -> None:
        self.pod = pod
        self.situation = situation
        self.seen = situation.seen
        self.start: list[Start] = []
        self.kill: list[Kill] = []
        self.backing_off: dict[str, float] = {}
        self.end: End | None = None
        self.alive = 0
        """Main containers that run and go on running."""

    def begin(self, name: str, kind: Kind) -> None:
        """Starts a container that is not running, unless its back-off says later."""
        latest = self.seen.latest(name)
        ended = finished_at(latest) if latest else 0.0
        wait = crashloop.remaining(self.situation.delays.get(name), finished_at=ended, now=self.situation.now)
        if latest is not None and wait > 0:
            self.backing_off[name] = wait
            return
        for old in self.seen.of(name):
            if old.state in ("unknown", "running"):
                # Running means an older sandbox or attempt: the newest in this one would have been left alone.
                self.kill.append(Kill(id=old.id, name=name, message=f"Container {name} will be killed and recreated"))
        self.start.append(started_anew(self.pod, self.situation, name, kind))

    def replace(self, running: records.Container, kind: Kind, *, message: str, grace: int | None, again: bool) -> None:
        """Kills a container, and starts it again at once if `again`."""
        self.kill.append(Kill(id=running.id, name=running.name, message=message, grace=grace))
        if again:
            self.start.append(started_anew(self.pod, self.situation, running.name, kind))

    def result(self) -> PodPlan:
        """The finished plan."""
        return PodPlan(
            attempt=self.seen.sandbox.attempt if self.seen.sandbox else 0,
            start=tuple(self.start),
            kill=tuple(self.kill),
            backing_off=self.backing_off,
            end=self.end,
            wait=min(self.backing_off.values(), default=None),
        )


def initialise(work: Work) -> bool:
    """Brings the init containers on; True when the main ones may run."""
    begun = any(work.seen.current(c.name) for c in work.pod.spec.containers)
    for container in work.pod.spec.init_containers:
        if spec.is_sidecar(container):
            keep_running(work, container, "init")
            if not begun and not sidecar_started(work, container):
                return False
        elif not begun and not init_done(work, container):
            return False
    return True


def init_done(work: Work, container: types.Container) -> bool:
    """Whether one init container has done its work; if not, it is brought on."""
    current = work.seen.current(container.name)
    if current is not None and observed.succeeded(current):
        return True
    if current is not None and current.state == "running":
        return False
    if current is not None and not may_restart(work.pod, container, current, killed=work.situation.killed):
        work.end = End()
        return False
    work.begin(container.name, "init")
    return False


def sidecar_started(work: Work, container: types.Container) -> bool:
    """Whether what follows a sidecar may start."""
    current = work.seen.current(container.name)
    return (
        current is not None
        and current.state == "running"
        and not any(k.name == container.name for k in work.kill)
        and is_started(container, work.situation.results)
    )


def keep_running(work: Work, container: types.Container, kind: Kind) -> None:
    """Starts, restarts or replaces one container that shall run until the pod ends."""
    current = work.seen.current(container.name)
    if current is not None and current.state == "running":
        if container.name in work.situation.resized:
            work.alive += kind == "main"
            message = f"Container {container.name} resize requires restart"
            work.replace(current, kind, message=message, grace=None, again=True)
            return
        reason = why_replace(container, current, work.situation.results)
        if reason is None:
            work.alive += kind == "main"
            return
        message, grace = reason
        work.alive += kind == "main"
        # After a failed probe the ended container is found by the next look, which knows its back-off.
        work.replace(current, kind, message=message, grace=grace, again=changed(container, current))
    elif may_restart(work.pod, container, work.seen.latest(container.name), killed=work.situation.killed):
        work.begin(container.name, kind)


def why_replace(
    container: types.Container, running: records.Container, results: Results
) -> tuple[str, int | None] | None:
    """Why a running container has to go, with the grace its probe asks for; None if it may stay."""
    name = container.name
    if changed(container, running):
        return f"Container {name} definition changed, will be restarted", None
    for kind, probe in (("startup", container.startup_probe), ("liveness", container.liveness_probe)):
        if probe is not None and results.get((name, kind)) is False:
            return f"Container {name} failed {kind} probe, will be restarted", probe.termination_grace_period_seconds
    return None


def changed(container: spec.AnyContainer, running: records.Container) -> bool:
    """Whether it was made from another definition; one without our annotation is left alone."""
    made_from = running.annotations.get(labels.HASH)
    return made_from is not None and made_from != spec.content_hash(container)


def may_restart(
    pod: types.Pod, container: types.Container, latest: records.Container | None, *, killed: frozenset[str]
) -> bool:
    """Whether a container that does not run shall (again); `latest` None: it never ran."""
    if latest is None or latest.state in ("created", "unknown"):
        return True
    if latest.state == "running":
        return True
    if spec.restarts_after(pod, container, latest.exit_code):
        return True
    # What we killed ourselves did not end well, whatever code it ended with.
    return latest.id in killed and spec.restarts_after(pod, container, KILLED)


def is_started(container: spec.AnyContainer, results: Results) -> bool:
    """Whether a running container counts as started: at once, or when its startup probe has passed."""
    return container.startup_probe is None or results.get((container.name, "startup")) is True


def started_anew(pod: types.Pod, situation: Situation, name: str, kind: Kind) -> Start:
    """A start with the right restart count, which never falls even if the runtime has forgotten the container."""
    latest = situation.seen.latest(name)
    recorded = spec.restarts_recorded(pod).get(name)
    # One that was made but never started is made again in its place: that is no restart.
    unused = latest is not None and latest.state == "created"
    counts = [observed.restart_count(latest) + (not unused)] if latest else []
    if recorded is not None:
        counts.append(recorded + (0 if latest else 1))
    ended = finished_at(latest) if latest and latest.state not in ("running", "created") else None
    return Start(name=name, kind=kind, restart_count=max(counts, default=0), finished_at=ended)


def finished_at(container: records.Container) -> float:
    """When it ended in Unix seconds; its creation where no end is known."""
    return (container.finished_at or container.created_at) / NANO
