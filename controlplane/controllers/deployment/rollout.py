"""Sizes: how many pods each ReplicaSet of a Deployment should have next. Pure.

Every function answers with the resizes to make now; the next pass starts from what came of them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.controllers import writes
from controlplane.controllers.deployment import limits, revisions
from controlplane.controllers.deployment.revisions import Revisions
from controlplane.projection import Deployment, ReplicaSet
from kube import scheme


@dataclass(frozen=True, slots=True)
class Resize:
    """A ReplicaSet and the size it should have."""

    rs: ReplicaSet
    size: int

    @property
    def changes_size(self) -> bool:
        """False where only the annotations about the Deployment's size are to be renewed."""
        return self.size != self.rs.spec.replicas


def active(sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """ReplicaSets that are to have pods."""
    return [rs for rs in sets if rs.spec.replicas > 0]


def total(sets: Iterable[ReplicaSet]) -> int:
    """Pods that ReplicaSets are to have."""
    return sum(rs.spec.replicas for rs in sets)


def available(rs: ReplicaSet) -> int:
    """Pods of a ReplicaSet to count on: a status from before it was shrunk promises pods that are about to go."""
    return min(rs.status.available_replicas, rs.spec.replicas)


def is_resized(deployment: Deployment, sets: Iterable[ReplicaSet]) -> bool:
    """Whether the Deployment's size changed since its ReplicaSets were last sized."""
    noted = (rs.metadata.annotations.get(revisions.DESIRED) for rs in active(sets))
    return any(text is not None and text != str(deployment.spec.replicas) for text in noted)


def new_size(deployment: Deployment, found: Revisions) -> int:
    """The size the new ReplicaSet may grow to now, within the surge; pods not yet removed count too."""
    wanted, current = deployment.spec.replicas, found.new.spec.replicas if found.new else 0
    if not limits.rolling(deployment):
        return wanted
    existing = sum(max(rs.spec.replicas, rs.status.replicas) for rs in found.all)
    room = limits.maximum(deployment) - existing
    return current + max(0, min(room, wanted - current))


def grow_new(deployment: Deployment, found: Revisions) -> list[Resize]:
    """Move the new ReplicaSet towards the desired size."""
    if found.new is None or found.new.spec.replicas == deployment.spec.replicas:
        return []
    too_big = found.new.spec.replicas > deployment.spec.replicas
    size = deployment.spec.replicas if too_big else new_size(deployment, found)
    return [Resize(found.new, size)] if size != found.new.spec.replicas else []


def shrink_old(deployment: Deployment, found: Revisions) -> list[Resize]:
    """Take pods from old ReplicaSets: first those that do not work anyway, then as many as may be missed."""
    floor = limits.min_available(deployment)
    new_broken = found.new.spec.replicas - available(found.new) if found.new else 0
    spare = total(found.all) - floor - new_broken
    if spare <= 0 or not total(found.old):
        return []
    sizes = {rs.metadata.uid: rs.spec.replicas for rs in found.old}
    for rs in found.old:
        broken = rs.spec.replicas - available(rs)
        step = min(spare, broken)
        sizes[rs.metadata.uid] -= step
        spare -= step
    spare = sum(available(rs) for rs in found.all) - floor
    for rs in found.old:
        step = max(0, min(spare, sizes[rs.metadata.uid]))
        sizes[rs.metadata.uid] -= step
        spare -= step
    return [Resize(rs, sizes[rs.metadata.uid]) for rs in found.old if sizes[rs.metadata.uid] != rs.spec.replicas]


def empty_old(found: Revisions) -> list[Resize]:
    """Everything old down to nothing, as Recreate does first."""
    return [Resize(rs, 0) for rs in active(found.old)]


def follow_size(deployment: Deployment, found: Revisions) -> list[Resize]:
    """Spread a change of the Deployment's size over its ReplicaSets."""
    wanted = deployment.spec.replicas
    running = active(found.all)
    if len(running) <= 1:
        only = running[0] if running else found.new or (found.old[-1] if found.old else None)
        return _needed(deployment, [Resize(only, wanted)] if only else [])
    if found.new and _saturated(deployment, found.new):
        return empty_old(found)
    if not limits.rolling(deployment):
        return []
    return _needed(deployment, _proportional(deployment, running))


def patch(deployment: Deployment, resize: Resize) -> writes.Patch:
    """The write for a resize. It fails on a ReplicaSet that changed since: sizes are computed from each other."""
    meta = resize.rs.metadata
    return writes.Patch(
        resource=scheme.REPLICA_SETS,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        body={"metadata": {"annotations": _notes(deployment)}, "spec": {"replicas": resize.size}},
    )


def _proportional(deployment: Deployment, running: Sequence[ReplicaSet]) -> list[Resize]:
    """Each active ReplicaSet takes its share; what rounding leaves goes to the largest."""
    allowed = limits.maximum(deployment) if deployment.spec.replicas else 0
    change = allowed - total(running)
    newest_first = sorted(running, key=revisions.by_age, reverse=change > 0)
    ordered = sorted(newest_first, key=lambda rs: rs.spec.replicas, reverse=True)
    done, sizes = 0, []
    for rs in ordered:
        share = _share(deployment, rs, change - done) if change else 0
        done += share
        sizes.append(rs.spec.replicas + share)
    sizes[0] = max(0, sizes[0] + change - done)
    return [Resize(rs, size) for rs, size in zip(ordered, sizes, strict=True)]


def _share(deployment: Deployment, rs: ReplicaSet, left: int) -> int:
    if not left:
        return 0
    if deployment.spec.replicas == 0:
        fraction = -rs.spec.replicas
    else:
        noted = rs.metadata.annotations.get(revisions.MAXIMUM, "")
        before = int(noted) if noted.isdigit() and int(noted) else deployment.status.replicas or total([rs])
        exact = rs.spec.replicas * limits.maximum(deployment) / before
        fraction = math.floor(exact + 0.5) - rs.spec.replicas
    return min(max(fraction, 0), left) if left > 0 else max(min(fraction, 0), left)


def _saturated(deployment: Deployment, new: ReplicaSet) -> bool:
    wanted = deployment.spec.replicas
    noted = new.metadata.annotations.get(revisions.DESIRED)
    return noted == str(wanted) and new.spec.replicas == new.status.available_replicas == wanted


def _notes(deployment: Deployment) -> dict[str, str]:
    return {revisions.DESIRED: str(deployment.spec.replicas), revisions.MAXIMUM: str(limits.maximum(deployment))}


def _needed(deployment: Deployment, resizes: Iterable[Resize]) -> list[Resize]:
    notes = _notes(deployment).items()
    return [r for r in resizes if r.changes_size or not notes <= r.rs.metadata.annotations.items()]
