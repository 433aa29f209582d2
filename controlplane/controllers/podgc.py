"""Pod garbage collection: removes pods that nobody else will.

`plan` is pure. Pods of nodes that are gone wait in quarantine first, in case the node comes back.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.controllers import podstate, reconcile, writes
from controlplane.projection import Node, Pod
from kube import scheme
from kube.runtime import clock
from kube.runtime.component import Deps
from kube.status import ApiError, is_conflict, is_not_found

PERIOD = 20.0  # seconds
QUARANTINE = 40.0  # seconds a node must be gone
MAX_FINISHED = 12_500
_ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Pods to remove at once. orphans are first marked as failed, so that their owners replace them."""

    orphans: tuple[Pod, ...]
    others: tuple[Pod, ...]


def plan(
    pods: Iterable[Pod],
    *,
    nodes: Container[str],
    gone_for: Mapping[str, float],
    max_finished: int = MAX_FINISHED,
) -> Plan:
    """Decide. nodes: names that exist; gone_for: seconds since names that do not were first missed."""
    all_pods = list(pods)
    orphans = [
        pod
        for pod in all_pods
        if pod.spec.node_name
        and pod.spec.node_name not in nodes
        and gone_for.get(pod.spec.node_name, 0.0) >= QUARANTINE
    ]
    unscheduled = [pod for pod in all_pods if pod.metadata.deletion_timestamp and not pod.spec.node_name]
    finished = [pod for pod in all_pods if podstate.is_finished(pod) and not pod.metadata.deletion_timestamp]
    finished.sort(key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.name))
    surplus = finished[: max(0, len(finished) - max_finished)]
    return Plan(orphans=tuple(orphans), others=(*unscheduled, *surplus))


def mark(pod: Pod, now: datetime) -> writes.Patch:
    """Say of a pod that its node is gone."""
    meta = pod.metadata
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastTransitionTime": clock.rfc3339(now),
    }
    return writes.Patch(
        resource=scheme.PODS,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        body={"status": {"phase": "Failed", "conditions": [condition]}},
        kind="strategic",
        subresource="status",
    )


class Controller:
    """One key: everything, every 20 s."""

    def __init__(self, deps: Deps) -> None:
        self._client, self._clock = deps.client, deps.clock
        self._nodes = deps.informers.get(scheme.NODES, Node)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self._missed: dict[str, float] = {}
        self.loop = reconcile.Loop(
            "pod-gc",
            deps=deps,
            reads=(self._nodes, self._pods),
            reconcile=self._reconcile,
            workers=1,
            everything=lambda: [_ALL],
        )

    async def _reconcile(self, key: str) -> None:
        # Armed first: the next round comes, whatever happens in this one.
        self.loop.queue.add_after(key, PERIOD)
        decided = plan(self._pods.cache.values(), nodes=self._nodes.cache, gone_for=self._gone_for())
        for pod in decided.orphans:
            await self._remove_orphan(pod)
        for pod in decided.others:
            await self._force_delete(pod)

    def _gone_for(self) -> dict[str, float]:
        """Seconds since each missing node was first missed."""
        now = self._clock.monotonic()
        named = {pod.spec.node_name for pod in self._pods.cache.values() if pod.spec.node_name}
        missing = named - self._nodes.cache.keys()
        self._missed = {name: self._missed.get(name, now) for name in missing}
        return {name: now - since for name, since in self._missed.items()}

    async def _remove_orphan(self, pod: Pod) -> None:
        try:
            await self._client.get(scheme.NODES, pod.spec.node_name)
            return  # it is there, the cache is just behind
        except ApiError as e:
            if not is_not_found(e):
                raise
        if not podstate.is_finished(pod):
            await self._quietly(mark(pod, self._clock.now()))
        await self._force_delete(pod)

    async def _force_delete(self, pod: Pod) -> None:
        meta = pod.metadata
        await self._quietly(
            writes.Delete(resource=scheme.PODS, namespace=meta.namespace, name=meta.name, uid=meta.uid, grace=0)
        )

    async def _quietly(self, write: writes.Write) -> None:
        try:
            await writes.apply(self._client, write)
        except ApiError as e:
            if not (is_not_found(e) or is_conflict(e)):
                raise
