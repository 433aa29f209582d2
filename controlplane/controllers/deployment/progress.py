"""The status of a Deployment: counts, and the conditions by which people follow a rollout. Pure.

Reasons and messages are upstream's: kubectl reads them.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from controlplane.controllers import conditions, times, writes
from controlplane.controllers.deployment import limits
from controlplane.controllers.deployment.revisions import Revisions
from controlplane.projection import JSON, Condition, Deployment, DeploymentStatus, ReplicaSet
from kube import scheme

COMPLETE, TIMED_OUT = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
UPDATED, FOUND, CREATED = "ReplicaSetUpdated", "FoundNewReplicaSet", "NewReplicaSetCreated"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"
NO_DEADLINE = 2**31 - 1


def counts(deployment: Deployment, found: Revisions, now: datetime) -> DeploymentStatus:
    """Counts and availability, without judging progress."""
    sets, old = found.all, deployment.status
    available = sum(rs.status.available_replicas for rs in sets)
    wanted = sum(rs.spec.replicas for rs in sets)
    status = DeploymentStatus(
        observed_generation=max(deployment.metadata.generation, old.observed_generation),
        replicas=sum(rs.status.replicas for rs in sets),
        updated_replicas=found.new.status.replicas if found.new else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in sets),
        available_replicas=available,
        unavailable_replicas=max(0, wanted - available),
        terminating_replicas=sum(rs.status.terminating_replicas or 0 for rs in sets),
        collision_count=old.collision_count,
        conditions=_pause(deployment, now),
    )
    return _put(status, _availability(deployment, available), now)


def rollout(deployment: Deployment, found: Revisions, now: datetime) -> DeploymentStatus:
    """The whole status while rolling: counts, progress, and the failures of ReplicaSets."""
    status = counts(deployment, found, now)
    if not _has_deadline(deployment):
        status = _without(status, "Progressing")
    elif not _was_complete(status):
        status = _judge(deployment, found, status, now)
    failures = list(_failures([found.new] if found.new else [])) or list(_failures(found.all))
    status = _without(status, "ReplicaFailure")
    kept = conditions.find(deployment.status.conditions, "ReplicaFailure")
    if not failures:
        return status
    failure = kept if kept and kept.reason == failures[0].reason else failures[0]
    return msgspec.structs.replace(status, conditions=(*status.conditions, failure))


def created(status: DeploymentStatus, *, name: str, now: datetime) -> DeploymentStatus:
    """The status once the new ReplicaSet is made."""
    message = f'Created new replica set "{name}"'
    return _put(status, Condition(type="Progressing", status="True", reason=CREATED, message=message), now)


def failed_to_create(status: DeploymentStatus, *, name: str, why: str, now: datetime) -> DeploymentStatus:
    """The status when the new ReplicaSet was refused."""
    message = f'Failed to create new replica set "{name}": {why}'
    new = Condition(type="Progressing", status="False", reason="ReplicaSetCreateError", message=message)
    return _put(status, new, now)


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Everything runs the current template, and nothing else is left."""
    wanted = deployment.spec.replicas
    same = status.updated_replicas == status.replicas == status.available_replicas == wanted
    return same and status.observed_generation >= deployment.metadata.generation


def seconds_to_deadline(deployment: Deployment, status: DeploymentStatus, *, now: datetime) -> float | None:
    """Seconds until the rollout counts as stuck; None if it cannot be, or already is."""
    current = conditions.find(status.conditions, "Progressing")
    if not _has_deadline(deployment) or current is None or current.reason in (TIMED_OUT, COMPLETE):
        return None
    if deployment.spec.paused or is_complete(deployment, status):
        return None
    return max(0.0, deployment.spec.progress_deadline_seconds - times.age(current.last_update_time, now)) + 1


def patch(deployment: Deployment, status: DeploymentStatus) -> writes.Patch | None:
    """The write that makes a status known, or None if nothing changed."""
    if status == deployment.status:
        return None
    body: JSON = {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas or None,
        "updatedReplicas": status.updated_replicas or None,
        "readyReplicas": status.ready_replicas or None,
        "availableReplicas": status.available_replicas or None,
        "unavailableReplicas": status.unavailable_replicas or None,
        "terminatingReplicas": status.terminating_replicas,
        "collisionCount": status.collision_count,
        "conditions": conditions.to_json(status.conditions) or None,
    }
    return writes.Patch(
        resource=scheme.DEPLOYMENTS,
        namespace=deployment.metadata.namespace,
        name=deployment.metadata.name,
        uid=deployment.metadata.uid,
        body={"status": body},
        subresource="status",
    )


def _judge(deployment: Deployment, found: Revisions, status: DeploymentStatus, now: datetime) -> DeploymentStatus:
    subject = f'ReplicaSet "{found.new.metadata.name}"' if found.new else f'Deployment "{deployment.metadata.name}"'
    current = conditions.find(status.conditions, "Progressing")
    if is_complete(deployment, status):
        return _put(status, _progressing("True", COMPLETE, f"{subject} has successfully progressed."), now)
    if _advanced(deployment.status, status):
        fresh = _progressing("True", UPDATED, f"{subject} is progressing.")
        stamped = _put(_without(status, "Progressing"), fresh, now)
        if current is None or current.status != "True":
            return stamped
        made = conditions.find(stamped.conditions, "Progressing") or fresh
        made = msgspec.structs.replace(made, last_transition_time=current.last_transition_time)
        return msgspec.structs.replace(
            stamped, conditions=(*conditions.without(stamped.conditions, "Progressing"), made)
        )
    if current is None and found.new:
        return _put(status, _progressing("True", FOUND, f'Found new replica set "{found.new.metadata.name}"'), now)
    if _timed_out(deployment, current, now):
        return _put(status, _progressing("False", TIMED_OUT, f"{subject} has timed out progressing."), now)
    return status


def _advanced(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    return (
        after.updated_replicas > before.updated_replicas
        or after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        or after.ready_replicas > before.ready_replicas
        or after.available_replicas > before.available_replicas
    )


def _timed_out(deployment: Deployment, current: Condition | None, now: datetime) -> bool:
    if current is None or current.reason == COMPLETE:
        return False
    if current.reason == TIMED_OUT:
        return True
    return times.age(current.last_update_time, now) > deployment.spec.progress_deadline_seconds


def _was_complete(status: DeploymentStatus) -> bool:
    current = conditions.find(status.conditions, "Progressing")
    return status.replicas == status.updated_replicas and current is not None and current.reason == COMPLETE


def _pause(deployment: Deployment, now: datetime) -> conditions.Conditions:
    """Pausing stops the progress clock and says so; resuming starts it anew."""
    known = deployment.status.conditions
    current = conditions.find(known, "Progressing")
    if not _has_deadline(deployment) or (current and current.reason == TIMED_OUT):
        return known
    was_paused = current is not None and current.reason == PAUSED
    if deployment.spec.paused == was_paused:
        return known
    reason, message = (PAUSED, "Deployment is paused") if deployment.spec.paused else (RESUMED, "Deployment is resumed")
    return conditions.put(known, _progressing("Unknown", reason, message), now, update_time=True)


def _availability(deployment: Deployment, available: int) -> Condition:
    if available >= limits.min_available(deployment):
        message = "Deployment has minimum availability."
        return Condition(type="Available", status="True", reason="MinimumReplicasAvailable", message=message)
    message = "Deployment does not have minimum availability."
    return Condition(type="Available", status="False", reason="MinimumReplicasUnavailable", message=message)


def _failures(sets: Iterable[ReplicaSet]) -> Iterable[Condition]:
    for rs in sets:
        failure = conditions.find(rs.status.conditions, "ReplicaFailure")
        if failure:
            stamp = failure.last_transition_time
            yield msgspec.structs.replace(failure, last_update_time=stamp)


def _progressing(status: str, reason: str, message: str) -> Condition:
    return Condition(type="Progressing", status=status, reason=reason, message=message)


def _has_deadline(deployment: Deployment) -> bool:
    return deployment.spec.progress_deadline_seconds != NO_DEADLINE


def _put(status: DeploymentStatus, new: Condition, now: datetime) -> DeploymentStatus:
    return msgspec.structs.replace(status, conditions=conditions.put(status.conditions, new, now, update_time=True))


def _without(status: DeploymentStatus, type: str) -> DeploymentStatus:
    return msgspec.structs.replace(status, conditions=conditions.without(status.conditions, type))
