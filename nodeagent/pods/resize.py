"""Resizing a pod in place: what its containers may have now, whether more can be had, what is still to be done. PURE.

A pod's spec says what is wanted. What was granted is shown as `allocatedResources` of the container statuses, what is
in force as their `resources`; a restarted agent reads both there. Follows upstream's in-place pod resize.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from kube import quantity, types
from nodeagent.pods import observed
from nodeagent.resources import qos

Json = dict[str, Any]
Resources = Mapping[str, types.ResourceRequirements]
"""By container name."""
RESIZED: Final = ("cpu", "memory")
DEFERRED: Final = "Deferred"
INFEASIBLE: Final = "Infeasible"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Why a wish is not granted."""

    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One running container that has not yet what was granted; `restart`: only a new one can have it."""

    id: str
    name: str
    restart: bool


def containers(pod: types.Pod) -> list[types.Container]:
    """Those that may be resized or hold resources: all but ephemeral ones."""
    return [*pod.spec.init_containers, *pod.spec.containers]


def wanted(pod: types.Pod) -> Resources:
    """What the spec asks for."""
    return {c.name: c.resources for c in containers(pod)}


def granted(pod: types.Pod) -> Resources:
    """What the status says was granted before; a container without such a record has what the spec asks for."""
    status = pod.status
    recorded = {s.name: s for s in (*status.init_container_statuses, *status.container_statuses)}
    found = dict(wanted(pod))
    for name in found.keys() & recorded.keys():
        entry = recorded[name]
        if entry.allocated_resources or entry.resources.limits:
            requests = entry.allocated_resources or entry.resources.requests
            found[name] = kept(found[name], requests=requests, limits=entry.resources.limits)
    return found


def in_force(pod: types.Pod, name: str, container_id: str) -> types.ResourceRequirements | None:
    """What the status says a container runs with, if it is about this very one."""
    status = pod.status
    for entry in (*status.init_container_statuses, *status.container_statuses):
        if entry.name == name and entry.container_id == f"containerd://{container_id}":
            return entry.resources if entry.resources.requests or entry.resources.limits else None
    return None


def kept(
    asked: types.ResourceRequirements, *, requests: Mapping[str, Any], limits: Mapping[str, Any]
) -> types.ResourceRequirements:
    """Other values for cpu and memory; everything else as asked."""
    return types.ResourceRequirements(
        claims=asked.claims, requests=mixed(asked.requests, requests), limits=mixed(asked.limits, limits)
    )


def mixed(asked: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str | int | float]:
    """`other` for cpu and memory, `asked` for the rest."""
    rest = {name: amount for name, amount in asked.items() if name not in RESIZED}
    return rest | {name: amount for name, amount in other.items() if name in RESIZED}


def with_resources(pod: types.Pod, resources: Resources) -> types.Pod:
    """The pod as if its spec asked for this."""
    if all(same(c.resources, resources.get(c.name, c.resources)) for c in containers(pod)):
        return pod

    def changed(them: Iterable[types.Container]) -> tuple[types.Container, ...]:
        replace = msgspec.structs.replace
        return tuple(replace(c, resources=resources.get(c.name, c.resources)) for c in them)

    spec = msgspec.structs.replace(
        pod.spec, containers=changed(pod.spec.containers), init_containers=changed(pod.spec.init_containers)
    )
    return msgspec.structs.replace(pod, spec=spec)


def same(one: types.ResourceRequirements, other: types.ResourceRequirements) -> bool:
    """Whether cpu and memory are equal, however they are written."""
    return amounts(one.requests) == amounts(other.requests) and amounts(one.limits) == amounts(other.limits)


def amounts(texts: Mapping[str, str | int | float]) -> dict[str, quantity.Quantity]:
    """cpu and memory, parsed."""
    return {name: quantity.parse(text) for name, text in texts.items() if name in RESIZED}


def judge(
    wish: types.Pod, present: types.Pod, *, others: qos.Amounts, allocatable: Mapping[str, str]
) -> Pending | None:
    """Why the node cannot grant the wish; None if it can. `others`: what the other pods have."""
    asked, have = qos.pod_requests(wish), qos.pod_requests(present)
    short: Pending | None = None
    for name in RESIZED:
        if name not in asked or (name in have and asked[name] <= have[name]):
            continue
        room = quantity.parse(allocatable.get(name, "0"))
        used = others.get(name, quantity.parse(0))
        numbers = [a.milli() if name == "cpu" else a.value() for a in (asked[name], used, room)]
        if asked[name] > room:
            text = f"Node didn't have enough capacity: {name}, requested: {numbers[0]}, capacity: {numbers[2]}"
            return Pending(reason=INFEASIBLE, message=text)
        if asked[name] + used > room and short is None:
            text = f"Node didn't have enough resource: {name}, requested: {numbers[0]}, used: {numbers[1]}"
            short = Pending(reason=DEFERRED, message=f"{text}, capacity: {numbers[2]}")
    return short


def changes(pod: types.Pod, seen: observed.Observed, force: Resources) -> list[Change]:
    """Running containers of a pod (as granted) that do not run with what they were granted. `force` is by id."""
    found = []
    for container in containers(pod):
        current = seen.current(container.name)
        if current is None or current.state != "running" or current.id not in force:
            continue
        now = force[current.id]
        if not same(container.resources, now):
            restart = must_restart(container, now)
            found.append(Change(id=current.id, name=container.name, restart=restart))
    return found


def must_restart(container: types.Container, now: types.ResourceRequirements) -> bool:
    """Whether a resource changes whose policy asks for a restart."""
    policies = {p.resource_name: p.restart_policy for p in container.resize_policy}
    before, after = (amounts(now.requests), amounts(now.limits)), container.resources
    return any(
        policies.get(name) == "RestartContainer"
        and (before[0].get(name), before[1].get(name))
        != (amounts(after.requests).get(name), amounts(after.limits).get(name))
        for name in RESIZED
    )
