"""One pass over a Deployment: from it and its ReplicaSets to the writes that move it on. Pure.

A pass makes at most one kind of step (take over annotations, create, resize, clean up), so that the next pass sees
what came of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.controllers import ownership, writes
from controlplane.controllers.deployment import limits, progress, revisions, rollout
from controlplane.controllers.deployment.revisions import Revisions
from controlplane.controllers.deployment.rollout import Resize
from controlplane.projection import Deployment, DeploymentStatus, ReplicaSet
from kube import labels, scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now. status is the whole new status; look_again in seconds."""

    status: DeploymentStatus
    adopt: tuple[writes.Patch, ...] = ()
    release: tuple[writes.Patch, ...] = ()
    annotate: writes.Patch | None = None
    sync: writes.Patch | None = None
    create: writes.Create | None = None
    resize: tuple[Resize, ...] = ()
    delete: tuple[writes.Delete, ...] = ()
    look_again: float | None = None


def plan(deployment: Deployment, candidates: Iterable[ReplicaSet], *, populated: frozenset[str], now: datetime) -> Plan:
    """Decide. candidates: own ReplicaSets and orphans of the namespace; populated: UIDs of those with living pods."""
    selector = labels.from_object(deployment.spec.selector)
    claim = ownership.claim(deployment.metadata, selector, candidates)
    found = revisions.split(deployment, claim.owned)
    release = tuple(
        ownership.release(scheme.REPLICA_SETS, rs.metadata, owner=deployment.metadata) for rs in claim.release
    )
    if claim.adopt:
        adopt = tuple(_adoption(deployment, rs) for rs in claim.adopt)
        return Plan(status=deployment.status, adopt=adopt, release=release)
    if selector.empty or deployment.metadata.deletion_timestamp:
        return Plan(status=progress.counts(deployment, found, now), release=release)
    if deployment.spec.paused or rollout.is_resized(deployment, found.all):
        return _keep_size(deployment, found, release=release, now=now)
    return _roll(deployment, found, populated=populated, release=release, now=now)


def _keep_size(deployment: Deployment, found: Revisions, *, release: tuple[writes.Patch, ...], now: datetime) -> Plan:
    """A paused Deployment still follows its size; so does one that is resized in the middle of a rollout."""
    resize = tuple(rollout.follow_size(deployment, found))
    delete = _cleanup(deployment, found) if deployment.spec.paused and not resize else ()
    status = progress.counts(deployment, found, now)
    return Plan(status=status, resize=resize, delete=delete, release=release)


def _roll(
    deployment: Deployment,
    found: Revisions,
    *,
    populated: frozenset[str],
    release: tuple[writes.Patch, ...],
    now: datetime,
) -> Plan:
    revision = revisions.next_revision(found.old)
    status = progress.rollout(deployment, found, now)
    sync: writes.Patch | None = None
    create: writes.Create | None = None
    resize: tuple[Resize, ...] = ()
    delete: tuple[writes.Delete, ...] = ()
    if found.new and (body := revisions.sync(deployment, found.new, revision=revision)):
        sync = _patch_set(found.new, body)
    elif not limits.rolling(deployment):
        create, resize = _recreate(deployment, found, populated=populated, revision=revision)
    elif found.new is None:
        create = _create(deployment, found, revision=revision)
    else:
        resize = tuple(rollout.grow_new(deployment, found) or rollout.shrink_old(deployment, found))
    if create:
        status = progress.created(status, name=create.body["metadata"]["name"], now=now)
    elif not (sync or resize) and progress.is_complete(deployment, status):
        delete = _cleanup(deployment, found)
    shown = max(revision, revisions.revision_of(found.new)) if found.new else revision
    return Plan(
        status=status,
        release=release,
        annotate=_annotate(deployment, shown) if found.new or create else None,
        sync=sync,
        create=create,
        resize=resize,
        delete=delete,
        look_again=progress.seconds_to_deadline(deployment, status, now=now),
    )


def _recreate(
    deployment: Deployment, found: Revisions, *, populated: frozenset[str], revision: int
) -> tuple[writes.Create | None, tuple[Resize, ...]]:
    """Old pods must be gone, not only asked to go, before the first new one is made."""
    emptied = rollout.empty_old(found)
    if emptied:
        return None, tuple(emptied)
    if any(rs.metadata.uid in populated for rs in found.old):
        return None, ()
    if found.new is None:
        return _create(deployment, found, revision=revision), ()
    return None, tuple(rollout.grow_new(deployment, found))


def _create(deployment: Deployment, found: Revisions, *, revision: int) -> writes.Create:
    size, maximum = rollout.new_size(deployment, found), limits.maximum(deployment)
    return revisions.make(deployment, replicas=size, revision=revision, maximum=maximum)


def _adoption(deployment: Deployment, rs: ReplicaSet) -> writes.Patch:
    owner = deployment.metadata
    return ownership.adoption(scheme.REPLICA_SETS, rs.metadata, owner_resource=scheme.DEPLOYMENTS, owner=owner)


def _annotate(deployment: Deployment, revision: int) -> writes.Patch | None:
    if deployment.metadata.annotations.get(revisions.REVISION) == str(revision):
        return None
    meta = deployment.metadata
    return writes.Patch(
        resource=scheme.DEPLOYMENTS,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        body={"metadata": {"annotations": {revisions.REVISION: str(revision)}}},
    )


def _patch_set(rs: ReplicaSet, body: dict[str, object]) -> writes.Patch:
    meta = rs.metadata
    return writes.Patch(resource=scheme.REPLICA_SETS, namespace=meta.namespace, name=meta.name, uid=meta.uid, body=body)


def _cleanup(deployment: Deployment, found: Revisions) -> tuple[writes.Delete, ...]:
    return tuple(map(_deletion, revisions.expired(deployment, found.old)))


def _deletion(rs: ReplicaSet) -> writes.Delete:
    meta = rs.metadata
    return writes.Delete(resource=scheme.REPLICA_SETS, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def events(plan: Plan) -> Sequence[str]:
    """What to tell people about the sizes a plan changes."""
    lines = []
    if plan.create and plan.create.body["spec"]["replicas"]:
        name, size = plan.create.body["metadata"]["name"], plan.create.body["spec"]["replicas"]
        lines.append(f"Scaled up replica set {name} from 0 to {size}")
    for resize in plan.resize:
        before = resize.rs.spec.replicas
        if resize.size != before:
            direction = "up" if resize.size > before else "down"
            lines.append(f"Scaled {direction} replica set {resize.rs.metadata.name} from {before} to {resize.size}")
    return lines
