"""The Node object from facts. PURE: plain dicts out, in the API's form."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kube import quantity
from nodeagent import config
from nodeagent.cri import records
from nodeagent.node import machine

Json = dict[str, Any]
VERSION: Final = "v1.36.2+nodeagent.0.1.0"
MAX_IMAGES: Final = 50
KIB: Final = 1024
LOW_MEMORY: Final = 100 * KIB * KIB
LOW_STORAGE: Final = 0.10
LOW_INODES: Final = 0.05
LOW_PIDS: Final = 0.02


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What changes about a node. A problem is None when there is none."""

    machine: machine.Machine
    runtime: records.RuntimeInfo | None
    runtime_problem: str | None
    network_problem: str | None
    images: Sequence[records.Image] = ()
    pressure: Mapping[str, float] = dataclasses.field(default_factory=dict)
    under: frozenset[str] | None = None
    """Pressure conditions that hold, where someone watches the node's thresholds."""
    going_down: bool = False
    devices: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Capacity of device plugins' resources, and what pods may have of it."""
    now: str


def new(settings: config.Settings, *, addresses: Sequence[str], state: State) -> Json:
    """The object as it is first registered."""
    taints = [
        {"key": t.key, "effect": t.effect, **({"value": t.value} if t.value else {})}
        for t in settings.kubelet.register_with_taints
    ]
    spec: Json = {"taints": taints} if taints else {}
    if settings.kubelet.provider_id:
        spec["providerID"] = settings.kubelet.provider_id
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": settings.node_name,
            "labels": labels(settings, state.machine),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
        "status": status(settings, addresses=addresses, state=state, before={}),
    }


def labels(settings: config.Settings, it: machine.Machine) -> dict[str, str]:
    """Labels every node has, and those the configuration adds."""
    found = dict(settings.agent.node_labels)
    for prefix in ("kubernetes.io", "beta.kubernetes.io"):
        found |= {f"{prefix}/arch": it.architecture, f"{prefix}/os": "linux"}
    return {**found, "kubernetes.io/hostname": settings.node_name}


def capacity(settings: config.Settings, it: machine.Machine) -> dict[str, str]:
    """What the machine has."""
    found = {
        "cpu": str(it.cpus),
        "memory": f"{it.memory // KIB}Ki",
        "ephemeral-storage": f"{it.storage // KIB}Ki",
        "pods": str(settings.kubelet.max_pods),
    }
    return found | {f"hugepages-{page_name(size)}": page_amount(total) for size, total in it.huge_pages.items()}


def allocatable(settings: config.Settings, it: machine.Machine) -> dict[str, str]:
    """What of it pods may have: without reservations, the eviction threshold and huge pages."""
    found = {name: quantity.parse(text) for name, text in capacity(settings, it).items()}
    kubelet = settings.kubelet
    for reserved in (kubelet.kube_reserved, kubelet.system_reserved):
        for name, text in reserved.items():
            if name in found:
                found[name] = found[name] - quantity.parse(text)
    threshold = kubelet.eviction_hard.get("memory.available")
    if threshold:
        found["memory"] = found["memory"] - share(threshold, it.memory)
    threshold = kubelet.eviction_hard.get("nodefs.available")
    if threshold:
        found["ephemeral-storage"] = found["ephemeral-storage"] - share(threshold, it.storage)
    found["memory"] = found["memory"] - quantity.parse(sum(it.huge_pages.values()))
    none = quantity.parse(0)
    return {name: str(max(amount, none)) for name, amount in found.items()}


def for_pods(settings: config.Settings, it: machine.Machine) -> tuple[int, int]:
    """What pods may use together, (thousandths of cores, bytes): all but what is reserved for the system."""
    found = {name: quantity.parse(text) for name, text in capacity(settings, it).items()}
    kubelet = settings.kubelet
    for reserved in (kubelet.kube_reserved, kubelet.system_reserved):
        for name in reserved.keys() & {"cpu", "memory"}:
            found[name] = found[name] - quantity.parse(reserved[name])
    return found["cpu"].milli(), found["memory"].value()


def share(threshold: str, whole: int) -> quantity.Quantity:
    """An eviction threshold as an amount; it may be written in percent."""
    if threshold.endswith("%"):
        return quantity.parse(int(whole * float(threshold[:-1]) / 100))
    return quantity.parse(threshold)


def page_name(size: int) -> str:
    """`2Mi`, `1Gi`."""
    return f"{size >> 30}Gi" if size >= 1 << 30 else f"{size >> 20}Mi" if size >= 1 << 20 else f"{size >> 10}Ki"


def page_amount(total: int) -> str:
    """Huge pages in bytes, in the largest binary unit that fits."""
    return "0" if not total else page_name(total) if total % (1 << 20) == 0 else str(total)


def status(settings: config.Settings, *, addresses: Sequence[str], state: State, before: Mapping[str, Any]) -> Json:
    """The whole status; conditions that did not change keep their transition time."""
    info = state.runtime
    return {
        "addresses": [
            *({"type": "InternalIP", "address": ip} for ip in addresses),
            {"type": "Hostname", "address": settings.node_name},
        ],
        "capacity": capacity(settings, state.machine) | {n: str(all_) for n, (all_, _) in state.devices.items()},
        "allocatable": allocatable(settings, state.machine) | {n: str(ok) for n, (_, ok) in state.devices.items()},
        "conditions": conditions(state, before.get("conditions", [])),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.kubelet.port}},
        "nodeInfo": {
            "machineID": state.machine.machine_id,
            "systemUUID": state.machine.system_uuid,
            "bootID": state.machine.boot_id,
            "kernelVersion": state.machine.kernel,
            "osImage": state.machine.os_image,
            "containerRuntimeVersion": f"{info.name}://{info.version}" if info else "",
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": state.machine.architecture,
        },
        "images": images(state.images),
        **(handlers(info) if info is not None else {}),
    }


def handlers(info: records.RuntimeInfo) -> Json:
    """What the runtime says of its handlers; nothing of one that says nothing."""
    if not info.handlers:
        return {}
    rows = [
        {
            "name": each.name,
            "features": {
                "recursiveReadOnlyMounts": each.recursive_read_only,
                "userNamespaces": each.user_namespaces,
            },
        }
        for each in info.handlers
    ]
    return {"runtimeHandlers": rows, "features": {"supplementalGroupsPolicy": info.groups_policy}}


def images(found: Sequence[records.Image]) -> list[Json]:
    """The largest images, by all their names."""
    named = [image for image in found if image.tags or image.digests]
    largest = sorted(named, key=lambda image: (-image.size, image.id))[:MAX_IMAGES]
    return [{"names": [*image.digests, *image.tags], "sizeBytes": image.size} for image in largest]


def conditions(state: State, before: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Pressures first, Ready last, as kubectl shows them."""
    had = {c["type"]: c for c in before}
    free = state.pressure
    low_memory = free.get("memory_bytes", LOW_MEMORY) < LOW_MEMORY
    low_disk = free.get("storage", 1.0) < LOW_STORAGE or free.get("inodes", 1.0) < LOW_INODES
    low_pids = free.get("pids", 1.0) < LOW_PIDS
    if state.under is not None:
        low_memory, low_disk, low_pids = (
            name in state.under for name in ("MemoryPressure", "DiskPressure", "PIDPressure")
        )
    rows = [
        pressure("MemoryPressure", low_memory, "InsufficientMemory", "SufficientMemory", "memory available"),
        pressure("DiskPressure", low_disk, "DiskPressure", "NoDiskPressure", "disk pressure"),
        pressure("PIDPressure", low_pids, "InsufficientPID", "SufficientPID", "PID available"),
        ready(state),
    ]
    return [timed(row, had.get(row["type"]), state.now) for row in rows]


def pressure(kind: str, on: bool, bad: str, good: str, what: str) -> Json:
    """One pressure condition."""
    has = {"MemoryPressure": ("insufficient ", "sufficient "), "DiskPressure": ("", "no ")}
    words = has.get(kind, ("insufficient ", "sufficient "))
    return {
        "type": kind,
        "status": "True" if on else "False",
        "reason": f"KubeletHas{bad}" if on else f"KubeletHas{good}",
        "message": f"kubelet has {words[0] if on else words[1]}{what}",
    }


def ready(state: State) -> Json:
    """Ready, or every reason why not."""
    stopping = "node is shutting down" if state.going_down else None
    problems = [problem for problem in (stopping, state.runtime_problem, state.network_problem) if problem]
    if not problems:
        return {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
        }
    return {
        "type": "Ready",
        "status": "False",
        "reason": "KubeletNotReady",
        "message": ", ".join(dict.fromkeys(problems)),
    }


def timed(row: Json, before: Mapping[str, Any] | None, now: str) -> Json:
    """With heartbeat and transition times."""
    same = before is not None and before.get("status") == row["status"]
    since = before.get("lastTransitionTime", now) if same and before is not None else now
    return {**row, "lastHeartbeatTime": now, "lastTransitionTime": since}


def without_heartbeat(status: Mapping[str, Any]) -> Json:
    """A status to compare: heartbeats are no change."""
    plain = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status.get("conditions", [])]
    return {**status, "conditions": plain}
