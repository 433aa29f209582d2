"""Feeds the Deployment plan from caches and carries it out."""

from datetime import datetime

import msgspec

from controlplane.controllers import ownership, podstate, reconcile, replicaset, writes
from controlplane.controllers.deployment import plan as planning
from controlplane.controllers.deployment import progress, revisions, rollout
from controlplane.controllers.deployment.plan import Plan
from controlplane.projection import Deployment, DeploymentStatus, Pod, ReplicaSet
from kube import labels, scheme
from kube.runtime.component import Deps
from kube.status import ApiError, is_already_exists, is_not_found

WORKERS = 5


def _set_owner(rs: ReplicaSet) -> list[str]:
    """Index values of a ReplicaSet: its controller's UID, or its namespace's orphans."""
    return [ownership.controller_uid(rs.metadata) or f"orphans/{rs.metadata.namespace}"]


class Controller:
    """Deployments in, ReplicaSets and status out."""

    def __init__(self, deps: Deps) -> None:
        self._client, self._clock = deps.client, deps.clock
        self._deployments = deps.informers.get(scheme.DEPLOYMENTS, Deployment)
        self._sets = deps.informers.get(scheme.REPLICA_SETS, ReplicaSet)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        reads = (self._deployments, self._sets, self._pods)
        self.loop = reconcile.Loop(
            "deployment",
            deps=deps,
            reads=reads,
            reconcile=self._reconcile,
            workers=WORKERS,
            source="deployment-controller",
        )
        self._by_owner = self._sets.add_index(_set_owner)
        self._pods_by_owner = self._pods.add_index(replicaset.pod_owner)
        self._in_namespace = self._deployments.add_index(lambda d: [d.metadata.namespace])
        self._deployments.subscribe(self._on_deployment)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)

    def _on_deployment(self, old: Deployment | None, new: Deployment | None) -> None:
        for one in (new or old,):
            if one:
                self.loop.queue.add(f"{one.metadata.namespace}/{one.metadata.name}")

    def _on_set(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for rs in (old, new):
            if rs is None:
                continue
            ref = ownership.controller_of(rs.metadata)
            if ref and ref.kind == "Deployment":
                self.loop.queue.add(f"{rs.metadata.namespace}/{ref.name}")
            elif ref is None and rs is new:
                self._offer_orphan(rs)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """Only Recreate looks at pods, and only at their end."""
        gone = old is not None and (new is None or (podstate.is_finished(new) and not podstate.is_finished(old)))
        ref = ownership.controller_of(old.metadata) if gone and old else None
        rs = self._sets.cache.get(f"{old.metadata.namespace}/{ref.name}") if ref and old else None
        if rs:
            self._on_set(None, rs)

    def _offer_orphan(self, rs: ReplicaSet) -> None:
        for one in self._in_namespace.get(rs.metadata.namespace):
            if labels.from_object(one.spec.selector).matches(rs.metadata.labels):
                self._on_deployment(None, one)

    async def _reconcile(self, key: str) -> None:
        deployment = self._deployments.cache.get(key)
        if deployment is None:
            return
        meta, now = deployment.metadata, self._clock.now()
        own = self._by_owner.get(meta.uid)
        candidates = own + self._by_owner.get(f"orphans/{meta.namespace}")
        populated = frozenset(rs.metadata.uid for rs in own if self._has_living_pods(rs))
        decided = planning.plan(deployment, candidates, populated=populated, now=now)
        status, error = await self._carry_out(key, deployment, decided, now)
        if patch := progress.patch(deployment, status):
            await self.loop.write(key, patch, informer=self._deployments)
        if decided.look_again is not None:
            self.loop.queue.add_after(key, decided.look_again)
        if error:
            raise error

    def _has_living_pods(self, rs: ReplicaSet) -> bool:
        return any(not podstate.is_finished(pod) for pod in self._pods_by_owner.get(rs.metadata.uid))

    async def _carry_out(
        self, key: str, deployment: Deployment, decided: Plan, now: datetime
    ) -> tuple[DeploymentStatus, Exception | None]:
        """Make the plan's writes. Answers with the status that is then true, and what stopped it."""
        for release in decided.release:
            await self.loop.write(key, release, informer=self._sets)
        if decided.adopt and await reconcile.still_there(self._client, scheme.DEPLOYMENTS, deployment.metadata):
            for adoption in decided.adopt:
                await self.loop.write(key, adoption, informer=self._sets)
        if decided.annotate:
            await self.loop.write(key, decided.annotate, informer=self._deployments)
        if decided.sync:
            await self.loop.write(key, decided.sync, informer=self._sets)
        if decided.create:
            try:
                await self.loop.write(key, decided.create, informer=self._sets)
            except ApiError as e:
                return await self._not_created(deployment, decided.create, e, now), e
        for resize in decided.resize:
            await self.loop.write(key, rollout.patch(deployment, resize), informer=self._sets)
        for deletion in decided.delete:
            await self._delete(key, deletion)
        for line in planning.events(decided):
            self._tell(deployment, "Normal", "ScalingReplicaSet", line)
        return decided.status, None

    async def _not_created(
        self, deployment: Deployment, create: writes.Create, error: ApiError, now: datetime
    ) -> DeploymentStatus:
        """The status after a refusal. A name taken by something else counts a collision, which changes the name."""
        name = create.body["metadata"]["name"]
        if not is_already_exists(error):
            why = f'Failed to create new replica set "{name}": {error}'
            self._tell(deployment, "Warning", "ReplicaSetCreateError", why)
            return progress.failed_to_create(deployment.status, name=name, why=str(error), now=now)
        held = await self._client.get(scheme.REPLICA_SETS, name, namespace=deployment.metadata.namespace)
        owners = [ref.get("uid") for ref in held["metadata"].get("ownerReferences", ()) if ref.get("controller")]
        template = deployment.spec.template
        if owners == [deployment.metadata.uid] and revisions.same_template(held["spec"]["template"], template):
            return deployment.status  # ours, made by a pass whose answer was lost: the cache will show it
        count = (deployment.status.collision_count or 0) + 1
        return msgspec.structs.replace(deployment.status, collision_count=count)

    async def _delete(self, key: str, deletion: writes.Delete) -> None:
        try:
            await self.loop.write(key, deletion, informer=self._sets)
        except ApiError as e:
            if not is_not_found(e):
                raise

    def _tell(self, deployment: Deployment, type: str, reason: str, message: str) -> None:
        self.loop.tell(scheme.DEPLOYMENTS, deployment.metadata, type=type, reason=reason, message=message)
