"""The controller of ReplicaSets and of ReplicationControllers: keeps as many pods of one template as asked for.

`plan` and `status` are pure; `Controller` feeds them from informers and applies what they say. The two kinds differ
in the form of their selector alone.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.controllers import conditions, ownership, podstate, reconcile, writes
from controlplane.projection import JSON, Condition, Pod, ReplicaSet, ReplicaSetStatus, ReplicationController
from kube import labels, scheme
from kube.client.informer import Informer
from kube.runtime.component import Deps
from kube.scheme import Resource
from kube.status import is_namespace_ending, is_not_found

log = logging.getLogger(__name__)

BURST = 500  # pods made or removed in one pass
WORKERS = 5
Replicated = ReplicaSet | ReplicationController
_SOURCES = {"ReplicaSet": "replicaset-controller", "ReplicationController": "replication-controller"}  # of events


def resource(owner: Replicated) -> Resource:
    """The resource an owner of pods belongs to."""
    return scheme.REPLICATION_CONTROLLERS if isinstance(owner, ReplicationController) else scheme.REPLICA_SETS


def selector(owner: Replicated) -> labels.Selector:
    """Which pods are an owner's: a ReplicationController names labels alone."""
    wanted = owner.spec.selector
    return labels.from_object({"matchLabels": wanted} if isinstance(owner, ReplicationController) else wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pass over one ReplicaSet does. create counts pods still to be made from the template."""

    adopt: tuple[writes.Patch, ...] = ()
    release: tuple[writes.Patch, ...] = ()
    create: int = 0
    delete: tuple[writes.Delete, ...] = ()


def plan(rs: Replicated, candidates: Iterable[Pod], *, siblings: Mapping[str, int]) -> Plan:
    """Decide from a ReplicaSet, its pods plus the namespace's orphans, and active siblings by node."""
    claim = ownership.claim(rs.metadata, selector(rs), candidates)
    adopt = tuple(
        ownership.adoption(scheme.PODS, pod.metadata, owner_resource=resource(rs), owner=rs.metadata)
        for pod in claim.adopt
        if not podstate.is_finished(pod)
    )
    release = tuple(ownership.release(scheme.PODS, pod.metadata, owner=rs.metadata) for pod in claim.release)
    if rs.metadata.deletion_timestamp or adopt:
        # Adopted pods count from the next pass on, when the cache shows them.
        return Plan(adopt=adopt, release=release)
    active = [pod for pod in claim.owned if podstate.is_active(pod)]
    missing = rs.spec.replicas - len(active)
    doomed = sorted(active, key=lambda pod: podstate.deletion_order(pod, siblings=siblings))[: max(0, -missing)]
    return Plan(
        release=release,
        create=min(max(0, missing), BURST),
        delete=tuple(_deletion(pod) for pod in doomed[:BURST]),
    )


def new_pod(rs: Replicated) -> writes.Create:
    """One pod made from the template, owned by rs."""
    template = rs.spec.template
    source = template.get("metadata") or {}
    meta: JSON = {key: source[key] for key in ("labels", "annotations", "finalizers") if source.get(key)}
    meta["generateName"] = f"{rs.metadata.name}-"
    meta["ownerReferences"] = [ownership.reference(resource(rs), rs.metadata)]
    body = {"metadata": meta, "spec": template.get("spec", {})}
    return writes.Create(resource=scheme.PODS, namespace=rs.metadata.namespace, body=body)


def status(rs: Replicated, owned: Sequence[Pod], *, failure: Condition | None, now: datetime) -> ReplicaSetStatus:
    """The status that owned pods amount to; failure is why the last pass could not make or delete pods."""
    active = [pod for pod in owned if podstate.is_active(pod)]
    wanted = ((rs.spec.template.get("metadata") or {}).get("labels") or {}).items()
    waits = [podstate.seconds_to_available(p, min_ready_seconds=rs.spec.min_ready_seconds, now=now) for p in active]
    kept = rs.status.conditions
    kept = conditions.put(kept, failure, now) if failure else conditions.without(kept, "ReplicaFailure")
    return ReplicaSetStatus(
        replicas=len(active),
        fully_labeled_replicas=sum(1 for pod in active if wanted <= pod.metadata.labels.items()),
        ready_replicas=sum(1 for wait in waits if wait is not None),
        available_replicas=sum(1 for wait in waits if wait == 0),
        terminating_replicas=_terminating(owned) if isinstance(rs, ReplicaSet) else None,
        observed_generation=max(rs.metadata.generation, rs.status.observed_generation),
        conditions=kept,
    )


def _terminating(owned: Iterable[Pod]) -> int:
    return sum(1 for pod in owned if pod.metadata.deletion_timestamp and not podstate.is_finished(pod))


def next_look(rs: Replicated, owned: Iterable[Pod], *, now: datetime) -> float | None:
    """Seconds until the next pod becomes available by mere age, None if none will."""
    seconds = rs.spec.min_ready_seconds
    waits = (podstate.seconds_to_available(p, min_ready_seconds=seconds, now=now) for p in owned)
    return min((wait for wait in waits if wait), default=None)


def status_patch(rs: Replicated, new: ReplicaSetStatus) -> writes.Patch | None:
    """The write that makes new known, or None if nothing changed."""
    if new == rs.status:
        return None
    body: JSON = {
        "replicas": new.replicas,
        "fullyLabeledReplicas": new.fully_labeled_replicas,
        "readyReplicas": new.ready_replicas,
        "availableReplicas": new.available_replicas,
        "observedGeneration": new.observed_generation,
        "conditions": conditions.to_json(new.conditions) or None,
    }
    if isinstance(rs, ReplicaSet):
        body["terminatingReplicas"] = new.terminating_replicas
    meta = rs.metadata
    return writes.Patch(
        resource=resource(rs),
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        body={"status": body},
        subresource="status",
    )


def _deletion(pod: Pod) -> writes.Delete:
    meta = pod.metadata
    return writes.Delete(resource=scheme.PODS, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def pod_owner(pod: Pod) -> list[str]:
    """Index values of a pod: the UID of its controller, or its namespace's orphans."""
    uid = ownership.controller_uid(pod.metadata)
    return [uid or f"orphans/{pod.metadata.namespace}"]


def _set_owner(rs: Replicated) -> list[str]:
    return [uid for uid in (ownership.controller_uid(rs.metadata),) if uid]


def _namespace(rs: Replicated) -> list[str]:
    return [rs.metadata.namespace]


class Controller:
    """Feeds the plan from caches and carries it out, for the owners of one kind."""

    def __init__(self, deps: Deps, *, type: type[ReplicaSet] | type[ReplicationController] = ReplicaSet) -> None:
        self._client, self._clock = deps.client, deps.clock
        kind = scheme.REPLICA_SETS if type is ReplicaSet else scheme.REPLICATION_CONTROLLERS
        self._kind = kind.kind
        self._sets: Informer[Any] = deps.informers.get(kind, type)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self.loop = reconcile.Loop(
            kind.singular,
            deps=deps,
            reads=(self._sets, self._pods),
            reconcile=self._reconcile,
            workers=WORKERS,
            source=_SOURCES[kind.kind],
        )
        self._by_owner = self._pods.add_index(pod_owner)
        self._by_deployment = self._sets.add_index(_set_owner)
        self._by_namespace = self._sets.add_index(_namespace)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)

    def _on_set(self, old: Replicated | None, new: Replicated | None) -> None:
        meta = (new or old).metadata  # type: ignore[union-attr]
        self.loop.queue.add(f"{meta.namespace}/{meta.name}")

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            ref = ownership.controller_of(pod.metadata)
            if ref and ref.kind == self._kind:
                self.loop.queue.add(f"{pod.metadata.namespace}/{ref.name}")
            elif ref is None and pod is new:
                self._offer_orphan(pod)

    def _offer_orphan(self, pod: Pod) -> None:
        for rs in self._by_namespace.get(pod.metadata.namespace):
            if selector(rs).matches(pod.metadata.labels):
                self.loop.queue.add(f"{rs.metadata.namespace}/{rs.metadata.name}")

    async def _reconcile(self, key: str) -> None:
        rs = self._sets.cache.get(key)
        if rs is None:
            return
        decided = plan(rs, self._candidates(rs), siblings=self._siblings(rs))
        for release in decided.release:
            await self.loop.write(key, release, informer=self._pods)
        if decided.adopt and await reconcile.still_there(self._client, resource(rs), rs.metadata):
            for adoption in decided.adopt:
                await self.loop.write(key, adoption, informer=self._pods)
        error = await self._create(key, rs, decided.create) or await self._delete(key, rs, decided.delete)
        if error or not (decided.create or decided.delete):
            # After making or removing pods the cache is behind; the event that updates it brings the key back.
            await self._report(key, rs, decided, error)
        if error:
            raise error

    def _candidates(self, rs: Replicated) -> list[Pod]:
        return self._by_owner.get(rs.metadata.uid) + self._by_owner.get(f"orphans/{rs.metadata.namespace}")

    def _siblings(self, rs: Replicated) -> Mapping[str, int]:
        owner = ownership.controller_uid(rs.metadata)
        related = self._by_deployment.get(owner) if owner else [rs]
        pods = (pod for one in related for pod in self._by_owner.get(one.metadata.uid))
        return Counter(pod.spec.node_name for pod in pods if podstate.is_active(pod))

    async def _create(self, key: str, rs: Replicated, count: int) -> Exception | None:
        """Make pods in growing batches; the first batch with a failure is the last."""
        for size in writes.batches(count):
            answers = await self.loop.write_all(key, [new_pod(rs)] * size, informer=self._pods)
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            for answer in answers:
                if isinstance(answer, dict):
                    self._tell(rs, "Normal", "SuccessfulCreate", f"Created pod: {answer['metadata']['name']}")
            if failed:
                if not is_namespace_ending(failed[0]):
                    self._tell(rs, "Warning", "FailedCreate", f"Error creating: {failed[0]}")
                return failed[0]
        return None

    async def _delete(self, key: str, rs: Replicated, deletions: Sequence[writes.Delete]) -> Exception | None:
        answers = await self.loop.write_all(key, deletions, informer=self._pods)
        failure: Exception | None = None
        for deletion, answer in zip(deletions, answers, strict=True):
            if isinstance(answer, dict):
                self._tell(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {deletion.name}")
            elif isinstance(answer, Exception) and not is_not_found(answer):
                self._tell(rs, "Warning", "FailedDelete", f"Error deleting: {answer}")
                failure = answer
        return failure

    async def _report(self, key: str, rs: Replicated, decided: Plan, error: Exception | None) -> None:
        now = self._clock.now()
        owned = ownership.claim(rs.metadata, selector(rs), self._candidates(rs)).owned
        failure = None
        if error:
            reason = "FailedCreate" if decided.create else "FailedDelete"
            failure = Condition(type="ReplicaFailure", status="True", reason=reason, message=str(error))
        patch = status_patch(rs, status(rs, owned, failure=failure, now=now))
        if patch:
            await writes.apply(self._client, patch)
        wait = next_look(rs, owned, now=now)
        if wait is not None:
            self.loop.queue.add_after(key, wait)

    def _tell(self, rs: Replicated, type: str, reason: str, message: str) -> None:
        self.loop.tell(resource(rs), rs.metadata, type=type, reason=reason, message=message)
