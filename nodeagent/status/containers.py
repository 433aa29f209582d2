"""The status of one container, as the API shows it, from what the runtime has. PURE."""

import datetime
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kube import types
from nodeagent.cri import records
from nodeagent.pods import observed, plan, spec
from nodeagent.status import report

Json = dict[str, Any]
LOST: Final = "ContainerStatusUnknown"
LOST_EXIT: Final = 137
LOST_MESSAGE: Final = "The container could not be located when the pod was terminated"


def of(container: spec.AnyContainer, pod: types.Pod, given: report.Report, *, init: bool) -> Json:
    """One entry of containerStatuses, initContainerStatuses or ephemeralContainerStatuses."""
    latest = given.seen.latest(container.name)
    before = previous(pod, container.name)
    if latest is None:
        return forgotten(container, pod, given, before)
    state, last = states(container, given, latest)
    running = "running" in state
    same = before if before is not None and before.container_id == f"containerd://{latest.id}" else None
    started = running and (plan.is_started(container, given.results) or unprobed(container, given, same, "startup"))
    count = max(observed.restart_count(latest), before.restart_count if before else 0)
    if isinstance(container, types.EphemeralContainer):
        ready = False
    elif init and not spec.is_sidecar(container):
        ready = "terminated" in state and latest.exit_code == 0
        started = running
    else:
        ready = started and (is_ready(container, given.results) or unprobed(container, given, same, "readiness"))
    return {
        "name": container.name,
        "state": state,
        "lastState": last,
        "ready": ready,
        "restartCount": count,
        "image": latest.image or container.image,
        "imageID": latest.image_ref,
        "containerID": f"containerd://{latest.id}",
        "started": started,
        **resources(container, given, latest.id),
    }


def resources(container: spec.AnyContainer, given: report.Report, container_id: str) -> Json:
    """What the container was granted, and what it runs with; ephemeral containers have nothing of their own."""
    granted = given.granted.get(container.name)
    if granted is None:
        return {}
    force = given.in_force.get(container_id, granted)
    found: Json = {"resources": {k: v for k in ("limits", "requests") if (v := dict(getattr(force, k)))}}
    if granted.requests:
        found["allocatedResources"] = dict(granted.requests)
    return found


def is_ready(container: spec.AnyContainer, results: plan.Results) -> bool:
    """Whether a started container takes traffic."""
    return container.readiness_probe is None or results.get((container.name, "readiness")) is True


def unprobed(container: spec.AnyContainer, given: report.Report, same: types.ContainerStatus | None, kind: str) -> bool:
    """Whether what the API says of this very container still stands, because a restarted agent has not probed yet."""
    if same is None or given.results.get((container.name, kind)) is not None:
        return False
    return bool(same.started if kind == "startup" else same.ready)


def states(container: spec.AnyContainer, given: report.Report, latest: records.Container) -> tuple[Json, Json]:
    """(state, lastState): a waiting reason hides how the latest one ended in lastState."""
    older = [c for c in given.seen.of(container.name)[1:] if c.state == "exited"]
    last = terminated(older[0], given.messages) if older else {}
    if latest.state == "running":
        return {"running": {"startedAt": timestamp(latest.started_at)}}, last
    if latest.state == "exited":
        ended = terminated(latest, given.messages)
        why = given.waiting.get(container.name)
        return (waiting(why), ended) if why and not given.final else (ended, last)
    if given.final or latest.state == "unknown":
        return lost(f"containerd://{latest.id}"), last
    return waiting(given.waiting.get(container.name) or report.Waiting(reason="ContainerCreating")), last


def forgotten(
    container: spec.AnyContainer, pod: types.Pod, given: report.Report, before: types.ContainerStatus | None
) -> Json:
    """A container the runtime knows nothing of: not made yet, or removed behind our back."""
    ran = before is not None and (before.state.running is not None or before.state.terminated is not None)
    if before is not None and before.state.terminated is not None:
        return as_json(before)
    last = as_json(before)["lastState"] if before is not None else {}
    if given.final and (ran or initialised(pod, given)):
        state = lost(before.container_id if before else None)
    else:
        if before is not None and ran:
            last = lost(before.container_id)
        state = waiting(given.waiting.get(container.name) or report.Waiting(reason=not_yet(pod, given)))
    found = {
        "name": container.name,
        "state": state,
        "lastState": last,
        "ready": False,
        "restartCount": before.restart_count if before else 0,
        "image": container.image,
        "imageID": "",
        "started": False,
    }
    if before is not None and before.container_id:
        found["containerID"] = before.container_id
    return found


def not_yet(pod: types.Pod, given: report.Report) -> str:
    """The reason of a container that nothing has hindered so far."""
    return "ContainerCreating" if initialised(pod, given) else "PodInitializing"


def initialised(pod: types.Pod, given: report.Report) -> bool:
    """Whether the init containers have done their work; what has not started after them then counts as lost."""
    undone = any(
        (c := given.seen.latest(each.name)) is None or not observed.succeeded(c)
        for each in pod.spec.init_containers
        if not spec.is_sidecar(each)
    )
    missing = any(given.seen.latest(each.name) is None for each in spec.sidecars(pod))
    return not undone and not missing


def waiting(why: report.Waiting) -> Json:
    """A waiting state."""
    return {"waiting": {"reason": why.reason, **({"message": why.message} if why.message else {})}}


def terminated(container: records.Container, messages: Mapping[str, str]) -> Json:
    """How a container ended. The runtime's reason is the API's; its message stands in for a missing one."""
    reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
    message = messages.get(container.id) or container.message
    return {
        "terminated": {
            "exitCode": container.exit_code,
            "reason": reason,
            **({"message": message} if message else {}),
            "startedAt": timestamp(container.started_at),
            "finishedAt": timestamp(container.finished_at),
            "containerID": f"containerd://{container.id}",
        }
    }


def lost(container_id: str | None) -> Json:
    """A container that ended unseen."""
    found: Json = {
        "exitCode": LOST_EXIT,
        "reason": LOST,
        "message": LOST_MESSAGE,
        "startedAt": None,
        "finishedAt": None,
    }
    if container_id:
        found["containerID"] = container_id
    return {"terminated": found}


def timestamp(nanoseconds: int) -> str | None:
    """Unix nanoseconds as RFC 3339 in whole seconds; None for none."""
    if nanoseconds <= 0:
        return None
    moment = datetime.datetime.fromtimestamp(nanoseconds // 1_000_000_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def previous(pod: types.Pod, name: str) -> types.ContainerStatus | None:
    """What the API has for a container."""
    status = pod.status
    every = (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
    return next((c for c in every if c.name == name), None)


def as_json(status: types.ContainerStatus) -> Json:
    """An entry as it was; every field of it is one we wrote."""
    found: Json = msgspec.to_builtins(status)
    found.setdefault("lastState", {})
    for name, empty in (("ready", False), ("restartCount", 0), ("image", ""), ("imageID", ""), ("state", {})):
        found.setdefault(name, empty)
    ended = found["state"].get("terminated")
    if ended is not None:
        ended.setdefault("exitCode", 0)
    return found
