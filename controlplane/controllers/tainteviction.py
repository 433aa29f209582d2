"""Taint eviction: deletes pods from nodes whose NoExecute taints they do not, or no longer, put up with.

`eviction_time` is pure. When a taint was put is read from the taint where it says so, else it counts from when this
process first saw it.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from controlplane import tolerations
from controlplane.controllers import reconcile, tainting, times, writes
from controlplane.projection import Node, Pod, Taint
from kube import scheme
from kube.runtime import clock
from kube.runtime.component import Deps
from kube.status import ApiError, is_conflict, is_not_found


def eviction_time(
    pod: Pod, taints: Iterable[Taint], *, since: Callable[[Taint], datetime], now: datetime
) -> datetime | None:
    """When a pod must go because of its node's taints: now, later, or never (None)."""
    effective = [taint for taint in taints if taint.effect == tainting.NO_EXECUTE]
    if not effective or pod.metadata.deletion_timestamp:
        return None
    if tolerations.untolerated(pod.spec.tolerations, effective):
        return now
    ends = []
    for taint in effective:
        for toleration in pod.spec.tolerations:
            seconds = toleration.toleration_seconds
            if seconds is not None and tolerations.tolerates(toleration, taint):
                ends.append(since(taint) + timedelta(seconds=max(0, seconds)))
    return min(ends, default=None)


def disruption(pod: Pod, now: datetime) -> writes.Patch:
    """The condition that tells a pod's owner why it goes."""
    meta = pod.metadata
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": clock.rfc3339(now),
    }
    return writes.Patch(
        resource=scheme.PODS,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        body={"status": {"conditions": [condition]}},
        kind="strategic",
        subresource="status",
    )


class Controller:
    """Keys are pods, "namespace/name"."""

    def __init__(self, deps: Deps) -> None:
        self._clock = deps.clock
        self._nodes = deps.informers.get(scheme.NODES, Node)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self.loop = reconcile.Loop(
            "taint-eviction",
            deps=deps,
            reads=(self._pods, self._nodes),
            reconcile=self._reconcile,
            workers=8,
            source="taint-eviction-controller",
        )
        self._seen: dict[tuple[str, str, str], datetime] = {}
        self._pods_on = self._pods.add_index(lambda pod: [pod.spec.node_name] if pod.spec.node_name else [])
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        name = (new or old).metadata.name  # type: ignore[union-attr]
        before, after = _evicting(old), _evicting(new)
        if before == after:
            return
        kept = {(name, taint.key, taint.value) for taint in after}
        for gone in [key for key in self._seen if key[0] == name and key not in kept]:
            del self._seen[gone]
        for key in kept:
            self._seen.setdefault(key, self._clock.now())
        if new is not None:
            for pod in self._pods_on.get(name):
                self.loop.queue.add(f"{pod.metadata.namespace}/{pod.metadata.name}")

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """A pod matters when it lands on a tainted node, or when its tolerations there change."""
        if new is None or not new.spec.node_name:
            return
        if old and (old.spec.node_name, old.spec.tolerations) == (new.spec.node_name, new.spec.tolerations):
            return
        if _evicting(self._nodes.cache.get(new.spec.node_name)):
            self.loop.queue.add(f"{new.metadata.namespace}/{new.metadata.name}")

    async def _reconcile(self, key: str) -> None:
        pod = self._pods.cache.get(key)
        node = self._nodes.cache.get(pod.spec.node_name) if pod else None
        if pod is None or node is None:
            return
        now = self._clock.now()
        when = eviction_time(pod, node.spec.taints, since=lambda taint: self._since(node, taint, now), now=now)
        if when is None:
            return
        if when > now:
            self.loop.queue.add_after(key, (when - now).total_seconds())
            return
        await self._evict(key, pod, now)

    def _since(self, node: Node, taint: Taint, now: datetime) -> datetime:
        seen = self._seen.get((node.metadata.name, taint.key, taint.value), now)
        return times.parse(taint.time_added) or seen

    async def _evict(self, key: str, pod: Pod, now: datetime) -> None:
        meta = pod.metadata
        message = f"Marking for deletion Pod {meta.namespace}/{meta.name}"
        self.loop.tell(scheme.PODS, meta, type="Normal", reason="TaintManagerEviction", message=message)
        deletion = writes.Delete(resource=scheme.PODS, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        try:
            await self.loop.write(key, disruption(pod, now), informer=self._pods)
            await self.loop.write(key, deletion, informer=self._pods)
        except ApiError as e:
            if not (is_not_found(e) or is_conflict(e)):
                raise


def _evicting(node: Node | None) -> tuple[Taint, ...]:
    return tuple(t for t in node.spec.taints if t.effect == tainting.NO_EXECUTE) if node else ()
