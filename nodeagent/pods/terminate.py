"""Ending a pod, in the order the contract asks: containers, final status, volumes, sandbox, cgroup, object.

Each step may run twice; after a failure the whole is done again from the start.
"""

import asyncio
import logging

import msgspec

from kube import scheme, status, types
from kube.client import errors as client_errors
from nodeagent import errors
from nodeagent.cri import labels, records
from nodeagent.pods import execute, observed, plan, spec
from nodeagent.pods.kit import Kit
from nodeagent.resources import cgroups

log = logging.getLogger(__name__)


async def stop_containers(
    kit: Kit, executor: execute.Executor, pod: types.Pod, seen: observed.Observed, *, grace: int
) -> None:
    """Stops what runs: main containers together, then sidecars in reverse order, all within one grace period."""
    began = kit.clock.monotonic()
    order = [c.name for c in spec.sidecars(pod)]
    mains = [c for c in seen.running if c.name not in order]
    async with asyncio.TaskGroup() as group:
        for container in mains:
            group.create_task(quietly(executor, pod, container, seen, grace=grace))
    for name in reversed(order):
        left = max(0, grace - round(kit.clock.monotonic() - began))
        for container in [c for c in seen.running if c.name == name]:
            await quietly(executor, pod, container, seen, grace=left)


async def quietly(
    executor: execute.Executor, pod: types.Pod, container: records.Container, seen: observed.Observed, *, grace: int
) -> None:
    """One container; a failure is logged, and found again by the next look at the pod."""
    kill = plan.Kill(id=container.id, name=container.name, message=f"Stopping container {container.name}")
    try:
        await executor.kill(pod, kill, seen, grace=grace)
    except errors.RuntimeFault as e:
        log.warning("pod %s: container %s does not stop: %s", spec.key(pod), container.name, e)


async def release(kit: Kit, pod: types.Pod, seen: observed.Observed, *, remove: bool) -> None:
    """Volumes, sandboxes and cgroup of a pod whose containers have ended; `remove` takes the records and logs too."""
    uid = pod.metadata.uid
    await kit.image_volumes.release(kit.volumes.images_of(uid))
    await kit.volumes.unmount(uid)
    for sandbox in seen.sandboxes:
        if sandbox.ready or remove:
            await kit.runtime.sandboxes.stop(sandbox.id)
        if remove:
            await kit.runtime.sandboxes.remove(sandbox.id)
    await asyncio.to_thread(kit.cgroups.remove, cgroups.every_pod_path(uid, layout=kit.layout))
    kit.images.forget(uid)
    kit.users.forget(uid)
    await kit.devices.release(uid)
    if remove:
        meta = pod.metadata
        await asyncio.to_thread(kit.files.remove_pod, meta.namespace, meta.name, uid)


async def delete_object(kit: Kit, pod: types.Pod) -> None:
    """Removes the API object last of all, and only this very one."""
    meta = pod.metadata
    try:
        await kit.client.delete(scheme.PODS, meta.name, namespace=meta.namespace, grace_period=0, uid=meta.uid)
    except status.ApiError as e:
        if not (status.is_not_found(e) or status.is_conflict(e)):
            raise
    log.info("pod %s (uid %s) is gone", spec.key(pod), meta.uid)


def retryable(error: BaseException) -> bool:
    """Whether a failure of the steps above is one that passes."""
    return isinstance(error, errors.NodeagentError | status.ApiError | client_errors.ClientError | OSError)


def orphan(uid: str, seen: observed.Observed) -> types.Pod:
    """A pod of which only the runtime knows, as far as its labels tell: enough to end it decently."""
    first = seen.sandboxes[0] if seen.sandboxes else None
    found = dict(seen.containers[0].labels) if seen.containers else dict(first.labels) if first else {}
    graces = [c.annotations.get(labels.POD_GRACE, "") for c in seen.containers]
    grace = next((int(text) for text in graces if text.isdigit()), spec.DEFAULT_GRACE)
    return types.Pod(
        metadata=types.ObjectMeta(
            uid=uid, name=found.get(labels.POD_NAME, ""), namespace=found.get(labels.POD_NAMESPACE, "")
        ),
        spec=types.PodSpec(
            termination_grace_period_seconds=grace, containers=tuple(remembered(c) for c in seen.running)
        ),
    )


def remembered(container: records.Container) -> types.Container:
    """What ending a container decently takes, from its annotations: its hooks, and the ports they may name."""
    texts = {name: container.annotations.get(name, "") for name in (labels.PRE_STOP, labels.PORTS)}
    try:
        hooks = msgspec.json.decode(texts[labels.PRE_STOP], type=types.Lifecycle) if texts[labels.PRE_STOP] else None
        ports = (
            msgspec.json.decode(texts[labels.PORTS], type=tuple[types.ContainerPort, ...])
            if texts[labels.PORTS]
            else ()
        )
    except msgspec.DecodeError as e:
        log.warning("container %s: its annotations are not ours, it ends without hooks: %s", container.id, e)
        return types.Container(name=container.name)
    return types.Container(name=container.name, lifecycle=hooks, ports=ports)
