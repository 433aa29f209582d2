"""The whole status of a pod from what is known of it. PURE: a plain dict out, written by `write`."""

from typing import Any

from kube import types
from nodeagent.pods import spec
from nodeagent.resources import qos
from nodeagent.status import conditions, containers, report

Json = dict[str, Any]


def status(pod: types.Pod, given: report.Report) -> Json:
    """PodStatus as the API takes it."""
    found: Json = {
        "qosClass": pod.status.qos_class or qos.qos_class(pod),
        "startTime": pod.status.start_time or given.start_time or given.now,
    }
    if pod.metadata.generation:
        found["observedGeneration"] = pod.metadata.generation
    if not never_admitted(pod, given):
        found |= container_statuses(pod, given)
    found |= addresses(pod, given)
    found["phase"] = kept_phase(pod, given, found)
    if found["phase"] in spec.TERMINAL:
        found |= reason(pod, given)
    found["conditions"] = conditions.every(pod, found, given)
    return found


def never_admitted(pod: types.Pod, given: report.Report) -> bool:
    """Whether the node refused it: such a pod has no container statuses, now or after a restart of the agent."""
    refused = given.end is not None and bool(given.end.reason)
    has_containers = pod.status.container_statuses or pod.status.init_container_statuses or given.seen.sandboxes
    return (refused or pod.status.phase in spec.TERMINAL) and not has_containers


def container_statuses(pod: types.Pod, given: report.Report) -> Json:
    """The three lists; an empty one is left out."""
    lists = {
        "initContainerStatuses": [containers.of(c, pod, given, init=True) for c in pod.spec.init_containers],
        "containerStatuses": [containers.of(c, pod, given, init=False) for c in pod.spec.containers],
        "ephemeralContainerStatuses": [containers.of(c, pod, given, init=False) for c in pod.spec.ephemeral_containers],
    }
    return {name: entries for name, entries in lists.items() if entries}


def addresses(pod: types.Pod, given: report.Report) -> Json:
    """Addresses of the node and the pod; those of a pod that ends are kept."""
    found: Json = {}
    if given.host_ips:
        found |= {"hostIP": given.host_ips[0], "hostIPs": [{"ip": ip} for ip in given.host_ips]}
    ips = given.host_ips if pod.spec.host_network else given.seen.ips
    if not ips and (given.final or pod.metadata.deletion_timestamp):
        ips = tuple(each.ip for each in pod.status.pod_ips)
    if ips:
        found |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return found


def reason(pod: types.Pod, given: report.Report) -> Json:
    """Why the pod failed, where it was not its containers."""
    if given.end is not None and given.end.reason:
        return {"reason": given.end.reason, "message": given.end.message}
    kept = {"reason": pod.status.reason, "message": pod.status.message}
    return {name: text for name, text in kept.items() if text and pod.status.phase in spec.TERMINAL}


def kept_phase(pod: types.Pod, given: report.Report, found: Json) -> str:
    """The phase; a terminal one never goes back, and is not shown before everything has stopped."""
    if pod.status.phase in spec.TERMINAL:
        return pod.status.phase
    failed = given.end is not None and bool(given.end.reason)
    found_phase = "Failed" if failed else phase(pod, found, final=given.final)
    if found_phase in spec.TERMINAL and given.seen.running:
        return pod.status.phase or "Pending"
    return found_phase


def phase(pod: types.Pod, found: Json, *, final: bool) -> str:
    """The phase its containers make, after upstream's getPhase."""
    main = found.get("containerStatuses", [])
    begun = any("waiting" not in s["state"] or s["lastState"] for s in main)
    initial = init_phase(pod, found.get("initContainerStatuses", []), begun=begun)
    if initial is not None:
        return "Failed" if final and initial == "Pending" else initial
    running = sum("running" in s["state"] for s in main)
    waiting = sum("waiting" in s["state"] and not s["lastState"] for s in main)
    ended = {
        s["name"]: end
        for s in main
        if (end := s["state"].get("terminated") or ("waiting" in s["state"] and s["lastState"].get("terminated")))
    }
    if waiting:
        return "Pending"
    if running:
        return "Running"
    if not ended:
        return "Pending"
    again = any(spec.restarts_after(pod, c, ended[c.name]["exitCode"]) for c in pod.spec.containers if c.name in ended)
    if again and not final:
        return "Running"
    return "Succeeded" if all(end["exitCode"] == 0 for end in ended.values()) else "Failed"


def init_phase(pod: types.Pod, statuses: list[Json], *, begun: bool) -> str | None:
    """Failed or Pending because of the init containers; None if they no longer decide."""
    by_name = {s["name"]: s for s in statuses}
    regular = [c for c in pod.spec.init_containers if not spec.is_sidecar(c) and c.name in by_name]
    codes = [(c, (by_name[c.name]["state"].get("terminated") or {}).get("exitCode", 0)) for c in regular]
    failed = any(code != 0 and not spec.restarts_after(pod, c, code) for c, code in codes)
    if failed and not begun:
        return "Failed"
    waiting = [c for c in pod.spec.init_containers if not conditions.init_complete(c, by_name.get(c.name))]
    return "Pending" if waiting and not begun else None
