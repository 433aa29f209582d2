"""From the names in a request to the pod, its sandbox and its containers.

Owns the lookup and its error texts. What runs is asked of the runtime each time: it alone knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kube import types
from nodeagent import errors
from nodeagent.cri import labels, records
from nodeagent.cri.runtime import Runtime
from nodeagent.server.exchange import ReplyError

Pods = Callable[[], Iterable[types.Pod]]


class Locator:
    """Finds pods of this node and what the runtime has of them."""

    def __init__(self, *, pods: Pods, runtime: Runtime) -> None:
        self._pods = pods
        self._runtime = runtime

    def pods(self) -> list[types.Pod]:
        """All pods of this node."""
        return list(self._pods())

    def pod(self, namespace: str, name: str, *, uid: str = "") -> types.Pod:
        """One pod. Raises ReplyError 404."""
        for pod in self._pods():
            meta = pod.metadata
            if (meta.namespace, meta.name) == (namespace, name) and uid in ("", meta.uid):
                return pod
        raise ReplyError(404, f'pod "{name}" does not exist')

    async def containers(self, pod: types.Pod, name: str) -> list[records.Container]:
        """A container's runs, the latest first. Raises ReplyError 404 when the pod has no such container."""
        spec = pod.spec
        known = {c.name for c in (*spec.init_containers, *spec.containers)} | {
            c.name for c in spec.ephemeral_containers
        }
        if name not in known:
            raise ReplyError(404, f'container "{name}" not found in pod "{pod.metadata.name}"')
        wanted = {labels.POD_UID: pod.metadata.uid, labels.CONTAINER_NAME: name}
        try:
            found = await self._runtime.containers.list(labels=wanted)
        except errors.RuntimeFault as e:
            raise ReplyError(500, str(e)) from e
        return sorted(found, key=lambda run: (run.attempt, run.created_at), reverse=True)

    async def running(self, pod: types.Pod, name: str) -> records.Container:
        """The container's running instance. Raises ReplyError."""
        for run in await self.containers(pod, name):
            if run.state == "running":
                return run
        raise ReplyError(404, f'container not found ("{name}")')

    async def sandbox(self, pod: types.Pod) -> records.Sandbox:
        """The pod's ready sandbox. Raises ReplyError."""
        try:
            found = await self._runtime.sandboxes.list(labels={labels.POD_UID: pod.metadata.uid})
        except errors.RuntimeFault as e:
            raise ReplyError(500, str(e)) from e
        for sandbox in sorted(found, key=lambda one: one.attempt, reverse=True):
            if sandbox.ready:
                return sandbox
        raise ReplyError(404, f'pod "{pod.metadata.name}" has no running sandbox')
