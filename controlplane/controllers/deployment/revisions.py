"""Which ReplicaSet belongs to which revision of a Deployment. Pure."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.controllers import ownership, writes
from controlplane.projection import JSON, Deployment, ReplicaSet
from kube import scheme

HASH_LABEL = "pod-template-hash"
_PREFIX = "deployment.kubernetes.io/"
REVISION = _PREFIX + "revision"
HISTORY = _PREFIX + "revision-history"
DESIRED = _PREFIX + "desired-replicas"
MAXIMUM = _PREFIX + "max-replicas"
_NOT_COPIED = frozenset(
    (
        REVISION,
        HISTORY,
        DESIRED,
        MAXIMUM,
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
    )
)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, so that no words appear in names
_HASH_LENGTH = 10
_EMPTY: tuple[Any, ...] = (None, {}, [], "")


@dataclass(frozen=True, slots=True)
class Revisions:
    """A Deployment's ReplicaSets: the one with the current template (if made), and the others, oldest first."""

    new: ReplicaSet | None
    old: tuple[ReplicaSet, ...]

    @property
    def all(self) -> tuple[ReplicaSet, ...]:
        """Old ones, then the new one."""
        return (*self.old, self.new) if self.new else self.old


def split(deployment: Deployment, sets: Iterable[ReplicaSet]) -> Revisions:
    """Find the ReplicaSet whose template equals the Deployment's: going back to one is a rollback."""
    ordered = sorted(sets, key=by_age)
    wanted = _comparable(deployment.spec.template)
    new = next((rs for rs in ordered if _comparable(rs.spec.template) == wanted), None)
    return Revisions(new, tuple(rs for rs in ordered if rs is not new))


def by_age(rs: ReplicaSet) -> tuple[str, str]:
    """Sort key: oldest first, names break ties."""
    return (rs.metadata.creation_timestamp or "", rs.metadata.name)


def same_template(one: JSON, other: JSON) -> bool:
    """Whether two pod templates make the same pods, the hash label aside."""
    return _comparable(one) == _comparable(other)


def revision_of(rs: ReplicaSet) -> int:
    """The revision a ReplicaSet carries; 0 if none or not a number."""
    text = rs.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def next_revision(old: Sequence[ReplicaSet]) -> int:
    """The revision that the new ReplicaSet must carry."""
    return max((revision_of(rs) for rs in old), default=0) + 1


def template_hash(template: JSON, collisions: int) -> str:
    """Ten characters that stand for a template; collisions counts how often that name was found taken."""
    text = json.dumps([_comparable(template), collisions], sort_keys=True, separators=(",", ":"))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    digits = []
    for _ in range(_HASH_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def make(deployment: Deployment, *, replicas: int, revision: int, maximum: int) -> writes.Create:
    """The ReplicaSet for the current template."""
    meta, spec = deployment.metadata, deployment.spec
    digest = template_hash(spec.template, deployment.status.collision_count or 0)
    template_meta = spec.template.get("metadata") or {}
    labelled = {**(template_meta.get("labels") or {}), HASH_LABEL: digest}
    selector = {**spec.selector, "matchLabels": {**(spec.selector.get("matchLabels") or {}), HASH_LABEL: digest}}
    annotations = copied(deployment) | {REVISION: str(revision), DESIRED: str(spec.replicas), MAXIMUM: str(maximum)}
    body = {
        "metadata": {
            "name": f"{meta.name}-{digest}",
            "labels": labelled,
            "annotations": annotations,
            "ownerReferences": [ownership.reference(scheme.DEPLOYMENTS, meta)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec.min_ready_seconds,
            "selector": selector,
            "template": {**spec.template, "metadata": {**template_meta, "labels": labelled}},
        },
    }
    return writes.Create(resource=scheme.REPLICA_SETS, namespace=meta.namespace, body=body)


def sync(deployment: Deployment, rs: ReplicaSet, *, revision: int) -> JSON | None:
    """What the current ReplicaSet still has to take over from its Deployment, as a merge patch; None if nothing."""
    has = rs.metadata.annotations
    annotations = {key: value for key, value in copied(deployment).items() if has.get(key) != value}
    previous = revision_of(rs)
    if previous < revision:
        annotations[REVISION] = str(revision)
        if previous:
            annotations[HISTORY] = ",".join(filter(None, (has.get(HISTORY), str(previous))))
    body: JSON = {"metadata": {"annotations": annotations}} if annotations else {}
    if rs.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
        body["spec"] = {"minReadySeconds": deployment.spec.min_ready_seconds}
    return body or None


def copied(deployment: Deployment) -> dict[str, str]:
    """Annotations of a Deployment that its ReplicaSets carry too (kubernetes.io/change-cause among them)."""
    return {key: value for key, value in deployment.metadata.annotations.items() if key not in _NOT_COPIED}


def expired(deployment: Deployment, old: Sequence[ReplicaSet]) -> tuple[ReplicaSet, ...]:
    """Old, empty ReplicaSets beyond the revision history limit."""
    alive = sorted((rs for rs in old if not rs.metadata.deletion_timestamp), key=revision_of)
    surplus = max(0, len(alive) - deployment.spec.revision_history_limit)
    return tuple(rs for rs in alive[:surplus] if _is_empty(rs))


def _is_empty(rs: ReplicaSet) -> bool:
    return not (rs.spec.replicas or rs.status.replicas) and rs.metadata.generation <= rs.status.observed_generation


def _comparable(template: JSON) -> JSON:
    """A template without what says nothing: the hash label, and empty values, which typed clients add or leave out."""
    meta = template.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return {"metadata": _pruned({**meta, "labels": labels}), "spec": _pruned(template.get("spec"))}


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _pruned(below) for key, below in value.items()}
        return {key: below for key, below in kept.items() if below not in _EMPTY}
    if isinstance(value, list):
        return [_pruned(below) for below in value]
    return value
