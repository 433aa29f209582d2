"""Where a pod's cgroup is and what is written into it: v1 and v2, cgroupfs and systemd names, in one place. PURE.

Paths of the plan are relative to the cgroup mount; on v1 each controller has a tree of its own.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from kube import types
from nodeagent.resources import qos, slices

Driver = Literal["cgroupfs", "systemd"]
PERIOD_US: Final = 100_000
MIN_QUOTA_US: Final = 1_000
MIN_SHARES: Final = 2
MAX_SHARES: Final = 262_144


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How cgroups are named on this machine."""

    version: Literal[1, 2]
    driver: Driver
    root: str = "/"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodCgroup:
    """One pod's cgroup: its path, what CRI is told, and values as (controller, file) -> text."""

    path: str
    parent: str
    values: Mapping[tuple[str, str], str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """CPU and memory in the kernel's units; 0 for memory and -1 for the quota mean none."""

    shares: int
    quota_us: int = -1
    period_us: int = PERIOD_US
    memory_bytes: int = 0


def shares(milli_cpu: int) -> int:
    """CPU weight of a request (v1 units)."""
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000))


def quota(milli_cpu: int) -> int:
    """CPU time per period of a limit, in microseconds; -1 for none."""
    return max(MIN_QUOTA_US, milli_cpu * PERIOD_US // 1000) if milli_cpu else -1


def weight(cpu_shares: int) -> int:
    """cpu.weight (v2) of v1 shares, after runc's conversion."""
    return 1 + ((cpu_shares - 2) * 9999) // 262142


def container_limits(container: types.Container, *, cfs_quota: bool) -> Limits:
    """A container's own limits."""
    request, limit = qos.requests(container), qos.limits(container)
    return limits_of(request, limit, cfs_quota=cfs_quota)


def limits_of(request: qos.Amounts, limit: qos.Amounts, *, cfs_quota: bool) -> Limits:
    """Requests and limits in the kernel's units."""
    asked = request["cpu"].milli() if "cpu" in request else 0
    most = limit["cpu"].milli() if "cpu" in limit and cfs_quota else 0
    memory = limit["memory"].value() if "memory" in limit else 0
    return Limits(shares=shares(asked), quota_us=quota(most), memory_bytes=memory)


def pod_limits(pod: types.Pod, *, cfs_quota: bool) -> Limits:
    """The pod's own limits: a resource is limited only where every container limits it."""
    every = [*pod.spec.containers, *pod.spec.init_containers]
    limit = {
        name: amount
        for name, amount in qos.pod_limits(pod).items()
        if all(name in qos.limits(container) for container in every)
    }
    return limits_of(qos.pod_requests(pod), limit, cfs_quota=cfs_quota)


def plan(pod: types.Pod, *, layout: Layout, cfs_quota: bool = True, pids: int = -1) -> PodCgroup:
    """Path and values of a pod's cgroup. `pids` is the most processes it may have, -1 for no bound."""
    path = pod_path(qos.qos_class(pod), pod.metadata.uid, layout=layout)
    limits = pod_limits(pod, cfs_quota=cfs_quota)
    values = values_v1(limits) if layout.version == 1 else values_v2(limits)
    if pids > 0:
        values[("pids", "pids.max")] = str(pids)
    parent = path if layout.driver == "cgroupfs" else path.rsplit("/", 1)[1]
    return PodCgroup(path=path, parent=parent, values=values)


def all_pods(*, layout: Layout, cpu: int, memory: int) -> PodCgroup:
    """The cgroup over all pods, held to what is not reserved for others: thousandths of cores, bytes."""
    limits = Limits(shares=shares(cpu), memory_bytes=memory)
    return _group(pods_root(layout), limits, layout=layout)


def classes(pods: Iterable[types.Pod], *, layout: Layout) -> tuple[PodCgroup, ...]:
    """The cgroups of the QoS classes: Burstable pods weigh what they ask for together, BestEffort ones next to
    nothing, so that neither takes processor time from Guaranteed pods beside them."""
    burstable = qos.total(pod for pod in pods if qos.qos_class(pod) == qos.BURSTABLE)
    asked = burstable["cpu"].milli() if "cpu" in burstable else 0
    weights = {qos.BURSTABLE: shares(asked), qos.BEST_EFFORT: MIN_SHARES}
    return tuple(
        _group(_path(layout, "kubepods", klass.lower()), Limits(shares=weight), layout=layout)
        for klass, weight in weights.items()
    )


def _group(path: str, limits: Limits, *, layout: Layout) -> PodCgroup:
    values = values_v1(limits) if layout.version == 1 else values_v2(limits)
    return PodCgroup(path=path, parent=path, values=values)


def unified(*, layout: Layout, one_by_one: bool) -> dict[str, str]:
    """v2 files of a container that no other field covers: all its processes are killed with the one that is out of
    memory, unless they go `one_by_one`."""
    return {"memory.oom.group": "1"} if layout.version == 2 and not one_by_one else {}


def pods_root(layout: Layout) -> str:
    """The cgroup over all pods."""
    return _path(layout, "kubepods")


def pod_path(klass: qos.QosClass, uid: str, *, layout: Layout) -> str:
    """The cgroup of one pod; Guaranteed pods are straight under the root of all pods."""
    middle = () if klass == qos.GUARANTEED else (klass.lower(),)
    return _path(layout, "kubepods", *middle, f"pod{uid}")


def container_path(pod: str, container_id: str, *, layout: Layout) -> str:
    """The cgroup that containerd gives a container in this pod's."""
    leaf = container_id if layout.driver == "cgroupfs" else f"cri-containerd-{container_id}.scope"
    return f"{pod}/{leaf}"


def _path(layout: Layout, *names: str) -> str:
    """The cgroup of these names under the layout's root."""
    every = [*(name for name in layout.root.split("/") if name), *names]
    return slices.path(every) if layout.driver == "systemd" else "/" + "/".join(every)


def pod_uid(name: str, *, layout: Layout) -> str | None:
    """The pod whose cgroup has this name, None for one that is no pod's."""
    if layout.driver == "cgroupfs":
        return name[3:] if name.startswith("pod") else None
    head, found, tail = name.removesuffix(".slice").rpartition("-pod")
    return tail.replace("_", "-") if found and "kubepods" in head and tail else None


def every_pod_path(uid: str, *, layout: Layout) -> list[str]:
    """Where the cgroup of a pod of unknown class may be: for cleaning up."""
    return [pod_path(klass, uid, layout=layout) for klass in (qos.GUARANTEED, qos.BURSTABLE, qos.BEST_EFFORT)]


def values_v1(limits: Limits) -> dict[tuple[str, str], str]:
    """cgroup v1 files."""
    values = {("cpu", "cpu.shares"): str(limits.shares)}
    if limits.quota_us > 0:
        values[("cpu", "cpu.cfs_period_us")] = str(limits.period_us)
        values[("cpu", "cpu.cfs_quota_us")] = str(limits.quota_us)
    if limits.memory_bytes:
        values[("memory", "memory.limit_in_bytes")] = str(limits.memory_bytes)
    return values


def values_v2(limits: Limits) -> dict[tuple[str, str], str]:
    """cgroup v2 files."""
    values = {("cpu", "cpu.weight"): str(weight(limits.shares))}
    if limits.quota_us > 0:
        values[("cpu", "cpu.max")] = f"{limits.quota_us} {limits.period_us}"
    if limits.memory_bytes:
        values[("memory", "memory.max")] = str(limits.memory_bytes)
    return values
