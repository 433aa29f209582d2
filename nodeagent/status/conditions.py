"""Pod conditions as free functions of container statuses, after upstream's status/generate. PURE."""

from typing import Any

from kube import types
from nodeagent.pods import plan, spec
from nodeagent.status import report

Json = dict[str, Any]
Answer = tuple[bool, str, str]
"""(status, reason, message)"""

BY_NODE = ("Evicted", "Terminated")
"""Reasons for which the node itself ends pods that ran."""


def every(pod: types.Pod, status: Json, given: report.Report) -> list[Json]:
    """The conditions this agent owns, keeping the time of those that did not change."""
    ready = containers_ready(pod, status)
    answers: list[tuple[str, Answer]] = [
        ("PodReadyToStartContainers", ready_to_start(pod, given)),
        ("Initialized", initialized(pod, status)),
        ("Ready", pod_ready(pod, ready)),
        ("ContainersReady", ready),
        ("PodScheduled", (True, "", "")),
    ]
    if spec.may_restart_all(pod):
        answers.append(("AllContainersRestarting", restarting(pod, status, given)))
    answers += [(kind, (True, reason, message)) for kind, reason, message in given.resizing]
    if given.end is not None and given.end.reason in BY_NODE and given.end.grace is not None:
        answers.append(("DisruptionTarget", (True, "TerminationByKubelet", given.end.message)))
    before = {c.type: c for c in pod.status.conditions}
    return [condition(kind, answer, pod, before.get(kind), given.now) for kind, answer in answers]


def condition(kind: str, answer: Answer, pod: types.Pod, before: types.PodCondition | None, now: str) -> Json:
    """One condition in the API's form."""
    ok, reason, message = answer
    status = "True" if ok else "False"
    same = before is not None and before.status == status and before.last_transition_time
    found: Json = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": before.last_transition_time if same and before else now,
    }
    if pod.metadata.generation:
        found["observedGeneration"] = pod.metadata.generation
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    return found


def restarting(pod: types.Pod, status: Json, given: report.Report) -> Answer:
    """Whether all containers are on their way to start anew."""
    if status["phase"] in spec.TERMINAL:
        return False, "PodCompleted" if status["phase"] == "Succeeded" else "PodFailed", ""
    if plan.asks_for_all(pod, given.seen) is None:
        return False, "", ""
    return True, "RestartAllContainersStarted", "container exited with restart policy rule"


def ready_to_start(pod: types.Pod, given: report.Report) -> Answer:
    """Whether there is a sandbox with its network."""
    sandbox = given.seen.sandbox
    return (sandbox is not None and sandbox.ready and bool(sandbox.ips or pod.spec.host_network), "", "")


def initialized(pod: types.Pod, status: Json) -> Answer:
    """Whether all init containers have done their work, sidecars: have started."""
    if status["phase"] == "Succeeded":
        return True, "PodCompleted", ""
    found = {s["name"]: s for s in status.get("initContainerStatuses", [])}
    begun = any("waiting" not in s["state"] or s["lastState"] for s in status.get("containerStatuses", []))
    undone = [c.name for c in pod.spec.init_containers if not init_complete(c, found.get(c.name))]
    if begun or not undone:
        return True, "", ""
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(undone)}]"


def init_complete(container: types.Container, status: Json | None) -> bool:
    """Whether one init container does not hold up the rest."""
    if status is None:
        return False
    return bool(status["started"] if spec.is_sidecar(container) else status["ready"])


def containers_ready(pod: types.Pod, status: Json) -> Answer:
    """Whether every main container and sidecar is ready."""
    if status["phase"] == "Succeeded":
        return False, "PodCompleted", ""
    if status["phase"] == "Failed":
        return False, "PodFailed", ""
    found = {s["name"]: s for s in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))}
    needed = [*spec.sidecars(pod), *pod.spec.containers]
    unready = [c.name for c in needed if c.name in found and not found[c.name]["ready"]]
    unknown = [c.name for c in needed if c.name not in found]
    parts = [f"containers with unknown status: [{' '.join(unknown)}]"] if unknown else []
    parts += [f"containers with unready status: [{' '.join(unready)}]"] if unready else []
    return (False, "ContainersNotReady", ", ".join(parts)) if parts else (True, "", "")


def pod_ready(pod: types.Pod, containers: Answer) -> Answer:
    """Containers ready, and every readiness gate true."""
    if not containers[0]:
        return containers
    have = {c.type: c.status for c in pod.status.conditions}
    complaints = []
    for gate in pod.spec.readiness_gates:
        if gate.condition_type not in have:
            complaints.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif have[gate.condition_type] != "True":
            complaints.append(
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but '
                f"{have[gate.condition_type]}"
            )
    return (False, "ReadinessGatesNotReady", ", ".join(complaints)) if complaints else (True, "", "")
