"""The disruption controller: tells of each budget how many of its pods may be evicted now.

`status` is pure. The API server takes one off at every eviction; the controller counts again when pods change.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from controlplane.controllers import conditions, ownership, podstate, reconcile, times, writes
from controlplane.controllers.replicaset import pod_owner
from controlplane.projection import (
    BudgetStatus,
    Condition,
    Deployment,
    Pod,
    PodDisruptionBudget,
    ReplicaSet,
    ReplicationController,
)
from kube import labels, scheme
from kube.runtime.component import Deps

PATIENCE = 120.0  # seconds until an eviction that removed nothing is forgotten
ALLOWED = "DisruptionAllowed"


@dataclass(frozen=True, slots=True)
class NoController(Exception):
    """A budget counts from a size, and a pod has no controller with one."""

    pod: str

    def __str__(self) -> str:
        return f'found no controllers for pod "{self.pod}"'


def status(
    budget: PodDisruptionBudget, pods: Iterable[Pod], *, sizes: Mapping[str, int], now: datetime
) -> BudgetStatus:
    """What is true of a budget. pods: those it selects; sizes: wanted pods by the UID of a pod's controller."""
    there = [pod for pod in pods if not podstate.is_finished(pod)]
    leaving = _leaving(budget, there, now)
    generation = max(budget.metadata.generation, budget.status.observed_generation)
    try:
        expected, desired = _wanted(budget, there, sizes)
    except NoController as e:
        failed = Condition(type=ALLOWED, status="False", reason="SyncFailed", message=str(e))
        failed = msgspec.structs.replace(failed, observed_generation=generation)
        told = conditions.put(budget.status.conditions, failed, now)
        return msgspec.structs.replace(budget.status, disruptions_allowed=0, conditions=told)
    healthy = sum(1 for pod in there if _healthy(pod, leaving))
    allowed = max(0, healthy - desired) if expected > 0 else 0
    word, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    verdict = Condition(type=ALLOWED, status=word, reason=reason, observed_generation=generation)
    return BudgetStatus(
        observed_generation=generation,
        disrupted_pods=leaving,
        disruptions_allowed=allowed,
        current_healthy=healthy,
        desired_healthy=desired,
        expected_pods=expected,
        conditions=conditions.put(budget.status.conditions, verdict, now),
    )


def _healthy(pod: Pod, leaving: Mapping[str, str]) -> bool:
    return not pod.metadata.deletion_timestamp and pod.metadata.name not in leaving and podstate.is_ready(pod)


def _leaving(budget: PodDisruptionBudget, pods: Iterable[Pod], now: datetime) -> dict[str, str]:
    """Evictions that are under way: the pod is there, is not being deleted yet, and not for too long."""
    there = {pod.metadata.name for pod in pods if not pod.metadata.deletion_timestamp}
    return {
        name: stamp
        for name, stamp in budget.status.disrupted_pods.items()
        if name in there and times.age(stamp, now) < PATIENCE
    }


def _wanted(budget: PodDisruptionBudget, pods: list[Pod], sizes: Mapping[str, int]) -> tuple[int, int]:
    """(pods expected, pods that must stay healthy)."""
    least, most = budget.spec.min_available, budget.spec.max_unavailable
    if most is not None:
        expected = _expected(pods, sizes)
        return expected, max(0, expected - _share(most, expected))
    if isinstance(least, str):
        expected = _expected(pods, sizes)
        return expected, _share(least, expected)
    return len(pods), least or 0


def _expected(pods: Iterable[Pod], sizes: Mapping[str, int]) -> int:
    found: dict[str, int] = {}
    for pod in pods:
        uid = ownership.controller_uid(pod.metadata)
        if uid not in sizes:
            raise NoController(pod.metadata.name)
        found[uid] = sizes[uid]
    return sum(found.values())


def _share(value: int | str, total: int) -> int:
    """Absolute, or percent rounded up."""
    return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * total / 100)


def status_patch(budget: PodDisruptionBudget, new: BudgetStatus) -> writes.Patch | None:
    """The write that makes new known, or None if nothing changed."""
    if new == budget.status:
        return None
    meta = budget.metadata
    gone = dict.fromkeys(budget.status.disrupted_pods.keys() - new.disrupted_pods.keys())
    body = {
        "observedGeneration": new.observed_generation,
        "disruptedPods": gone | new.disrupted_pods,
        "disruptionsAllowed": new.disruptions_allowed,
        "currentHealthy": new.current_healthy,
        "desiredHealthy": new.desired_healthy,
        "expectedPods": new.expected_pods,
        "conditions": conditions.to_json(new.conditions),
    }
    return writes.Patch(
        resource=scheme.POD_DISRUPTION_BUDGETS,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        body={"status": body},
        subresource="status",
    )


class Controller:
    """Keys are budgets."""

    def __init__(self, deps: Deps) -> None:
        self._clock = deps.clock
        self._budgets = deps.informers.get(scheme.POD_DISRUPTION_BUDGETS, PodDisruptionBudget)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self._sets = deps.informers.get(scheme.REPLICA_SETS, ReplicaSet)
        self._controllers = deps.informers.get(scheme.REPLICATION_CONTROLLERS, ReplicationController)
        self._deployments = deps.informers.get(scheme.DEPLOYMENTS, Deployment)
        self.loop = reconcile.Loop(
            "disruption",
            deps=deps,
            reads=(self._budgets, self._pods, self._sets, self._controllers, self._deployments),
            reconcile=self._reconcile,
            source="controllermanager",
        )
        self._in_namespace = self._budgets.add_index(lambda one: [one.metadata.namespace])
        self._pods_in = self._pods.add_index(lambda one: [one.metadata.namespace])
        self._by_owner = self._pods.add_index(pod_owner)
        self._budgets.subscribe(self._on_budget)
        self._pods.subscribe(self._on_pod)
        self._sets.subscribe(self._on_owner)
        self._controllers.subscribe(self._on_owner)

    def _on_budget(self, old: PodDisruptionBudget | None, new: PodDisruptionBudget | None) -> None:
        if new is not None:
            self.loop.queue.add(f"{new.metadata.namespace}/{new.metadata.name}")

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            for budget in self._in_namespace.get(pod.metadata.namespace) if pod else ():
                if pod and selects(budget, pod):
                    self._on_budget(None, budget)

    def _on_owner(
        self, old: ReplicaSet | ReplicationController | None, new: ReplicaSet | ReplicationController | None
    ) -> None:
        """A size may have changed, and with it what is expected."""
        for pod in self._by_owner.get(new.metadata.uid) if new else ():
            self._on_pod(None, pod)

    async def _reconcile(self, key: str) -> None:
        budget = self._budgets.cache.get(key)
        if budget is None or budget.metadata.deletion_timestamp:
            return
        pods = [pod for pod in self._pods_in.get(budget.metadata.namespace) if selects(budget, pod)]
        new = status(budget, pods, sizes=self._sizes(pods), now=self._clock.now())
        if patch := status_patch(budget, new):
            await self.loop.write(key, patch, informer=self._budgets)
        if new.disrupted_pods:
            self.loop.queue.add_after(key, PATIENCE)

    def _sizes(self, pods: Iterable[Pod]) -> dict[str, int]:
        found = {}
        for pod in pods:
            if (ref := ownership.controller_of(pod.metadata)) is None:
                continue
            key = f"{pod.metadata.namespace}/{ref.name}"
            owner = (self._sets if ref.kind == "ReplicaSet" else self._controllers).cache.get(key)
            if owner is None or owner.metadata.uid != ref.uid:
                continue
            above = ownership.controller_of(owner.metadata)
            deployment = self._deployments.cache.get(f"{pod.metadata.namespace}/{above.name}") if above else None
            found[ref.uid] = (deployment or owner).spec.replicas
        return found


def selects(budget: PodDisruptionBudget, pod: Pod) -> bool:
    """Whether a budget protects a pod; without any selector it protects none."""
    wanted = budget.spec.selector
    return wanted is not None and labels.from_object(wanted).matches(pod.metadata.labels)
