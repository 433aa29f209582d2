"""The ContainerConfig of a container. PURE: plain values to one CRI message."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from kube import types
from nodeagent.cri import labels, records
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.devices import plugins
from nodeagent.pods import sandbox, security, spec
from nodeagent.resources import cgroups, qos

DEFAULT_MESSAGE_PATH: Final = "/dev/termination-log"
SIGNALS: Final = dict(cri.Signal.items())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a container needs to know besides its spec. `target`: the container an ephemeral one looks into."""

    image: records.Image
    restart_count: int
    environment: Sequence[tuple[str, str]] = ()
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    mounts: Sequence[cri.Mount] = ()
    memory_capacity: int = 0
    target: str = ""
    seccomp_default: bool = False
    cfs_quota: bool = True
    first_id: int = 0
    """The node's id that is 0 in the pod's user namespace; 0: it has none."""
    unified: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """cgroup v2 files, by name."""


def config(pod: types.Pod, it: spec.AnyContainer, facts: Facts) -> cri.ContainerConfig:
    """The whole message; `StartError` if the security context forbids it."""
    found = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=it.name, attempt=facts.restart_count),
        image=cri.ImageSpec(image=facts.image.id, user_specified_image=it.image),
        command=facts.command,
        args=facts.args,
        working_dir=it.working_dir or "",
        envs=[cri.KeyValue(key=name, value=value.encode()) for name, value in facts.environment],
        mounts=facts.mounts,
        labels={**sandbox.pod_labels(pod), labels.CONTAINER_NAME: it.name},
        annotations=annotations(pod, it, restart_count=facts.restart_count),
        log_path=log_path(it.name, facts.restart_count),
        stdin=it.stdin,
        stdin_once=it.stdin_once,
        tty=it.tty,
        linux=cri.LinuxContainerConfig(
            resources=resources(pod, it, facts),
            security_context=security.container(
                pod,
                it,
                image=facts.image,
                target=facts.target,
                seccomp_default=facts.seccomp_default,
                first_id=facts.first_id,
            ),
        ),
    )
    if it.lifecycle is not None and it.lifecycle.stop_signal:
        found.stop_signal = SIGNALS.get(it.lifecycle.stop_signal, cri.RUNTIME_DEFAULT)  # type: ignore[assignment]
    return found


def with_devices(made: cri.ContainerConfig, granted: plugins.Granted) -> cri.ContainerConfig:
    """The same with what device plugins grant; what the spec itself mounts at a path stays."""
    taken = {mount.container_path for mount in made.mounts}
    made.mounts.extend(
        cri.Mount(container_path=each.container_path, host_path=each.host_path, readonly=each.read_only)
        for each in granted.mounts
        if each.container_path not in taken
    )
    made.devices.extend(
        cri.Device(container_path=each.container_path, host_path=each.host_path, permissions=each.permissions)
        for each in granted.devices
    )
    made.CDI_devices.extend(cri.CDIDevice(name=name) for name in granted.cdi)
    for name, text in granted.annotations.items():
        if name not in made.annotations:
            made.annotations[name] = text
    return made


def log_path(name: str, restart_count: int) -> str:
    """Relative to the pod's log directory."""
    return f"{name}/{restart_count}.log"


def resources(pod: types.Pod, it: spec.AnyContainer, facts: Facts) -> cri.LinuxContainerResources:
    """The container's own limits; an ephemeral one has none and is the first to go when memory runs out."""
    if isinstance(it, types.EphemeralContainer):
        return cri.LinuxContainerResources(oom_score_adj=qos.OOM_BEST_EFFORT)
    found = limits(pod, it, memory_capacity=facts.memory_capacity, cfs_quota=facts.cfs_quota)
    found.unified.update(facts.unified)
    return found


def limits(
    pod: types.Pod, it: types.Container, *, memory_capacity: int, cfs_quota: bool
) -> cri.LinuxContainerResources:
    """Limits of a container that is made, or that goes on with others (`memory_capacity` in bytes)."""
    found = cgroups.container_limits(it, cfs_quota=cfs_quota)
    return sandbox.resources(found, oom_score_adj=qos.oom_score_adj(pod, it, memory_capacity=memory_capacity))


def annotations(pod: types.Pod, it: spec.AnyContainer, *, restart_count: int) -> dict[str, str]:
    """What a restarted agent must know of the container even when the API is not there."""
    found = {
        labels.HASH: spec.content_hash(it),
        labels.RESTART_COUNT: str(restart_count),
        labels.TERMINATION_PATH: it.termination_message_path or DEFAULT_MESSAGE_PATH,
        labels.TERMINATION_POLICY: it.termination_message_policy or "File",
    }
    if pod.spec.termination_grace_period_seconds is not None:
        found[labels.POD_GRACE] = str(pod.spec.termination_grace_period_seconds)
    if it.lifecycle is not None and it.lifecycle.pre_stop is not None:
        found[labels.PRE_STOP] = msgspec.json.encode(it.lifecycle).decode()
    if it.ports:
        found[labels.PORTS] = json.dumps(msgspec.to_builtins(it.ports))
    return found
