"""What a deletion does to an object: go at once, wait for finalizers, or end gracefully.

Pure: an object, the options and the time in, a decision out (apiserver `registry/rest/delete.go`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controlplane.apiserver import metadata
from kube import status
from kube.scheme import Resource

Object = dict[str, Any]
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
POLICIES = {"Orphan": ORPHAN, "Foreground": FOREGROUND, "Background": ""}


@dataclass(frozen=True, slots=True)
class Deletion:
    """`gone`: remove it now. Else `changed` says whether the object, altered in place, must be stored."""

    gone: bool
    changed: bool


def check_options(options: Object) -> None:
    """400 for options that make no sense, naming the field."""
    grace = options.get("gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise status.bad_request(f"gracePeriodSeconds: want a whole number, found {grace!r}")
    policy = options.get("propagationPolicy")
    if policy is not None and policy not in POLICIES:
        error = status.unsupported("propagationPolicy", policy, list(POLICIES))
        raise status.invalid("DeleteOptions.meta.k8s.io", "", [error])
    if policy is not None and options.get("orphanDependents") is not None:
        error = status.invalid_value(
            "propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"
        )
        raise status.invalid("DeleteOptions.meta.k8s.io", "", [error])


def check_preconditions(obj: Object, options: Object, resource: Resource) -> None:
    """409 when the object is not the one the client meant."""
    wanted = options.get("preconditions") or {}
    have = obj["metadata"]
    for name, label, text in (("uid", "UID", "UID"), ("resourceVersion", "ResourceVersion", "ResourceVersion")):
        want = wanted.get(name)
        if want and want != have.get(name):
            message = f"Precondition failed: {label} in precondition: {want}, {text} in object meta: {have.get(name)}"
            raise status.conflict(resource, have["name"], message)


def decide(obj: Object, options: Object, *, grace: int | None, now: datetime) -> Deletion:
    """Plan one deletion. `grace` is the kind's answer in seconds: None for kinds that end at once."""
    meta = obj["metadata"]
    finalizers = _finalizers(obj, options)
    changed = finalizers != (meta.get("finalizers") or [])
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    if grace:
        return Deletion(gone=False, changed=_end_gracefully(meta, grace, now) or changed)
    if not finalizers and not _namespace_busy(obj):
        return Deletion(gone=True, changed=False)
    if "deletionTimestamp" not in meta:
        meta["deletionTimestamp"] = metadata.stamp(now)
        changed = True
    if meta.get("deletionGracePeriodSeconds") != 0:
        meta["deletionGracePeriodSeconds"] = 0
        changed = True
    if changed and meta.get("generation"):
        meta["generation"] += 1
    return Deletion(gone=False, changed=changed)


def finished(obj: Object) -> bool:
    """Whether an object being deleted has nothing left to wait for, after an update took its last finalizer."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or _namespace_busy(obj):
        return False
    return not meta.get("deletionGracePeriodSeconds")


def _end_gracefully(meta: Object, grace: int, now: datetime) -> bool:
    """Set the time of death; a second deletion may only bring it nearer."""
    if meta.get("deletionTimestamp"):
        old = meta.get("deletionGracePeriodSeconds") or 0
        if grace >= old:
            return False
        began = datetime.fromisoformat(meta["deletionTimestamp"]) - timedelta(seconds=old)
        meta["deletionTimestamp"] = metadata.stamp(began + timedelta(seconds=grace))
    else:
        meta["deletionTimestamp"] = metadata.stamp(now + timedelta(seconds=grace))
    meta["deletionGracePeriodSeconds"] = grace
    if meta.get("generation"):
        meta["generation"] += 1
    return True


def _finalizers(obj: Object, options: Object) -> list[str]:
    policy = options.get("propagationPolicy")
    if policy is None and options.get("orphanDependents") is not None:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    present = list(obj["metadata"].get("finalizers") or [])
    if policy is None:
        return present
    kept = [name for name in present if name not in (ORPHAN, FOREGROUND)]
    return kept + ([POLICIES[policy]] if POLICIES[policy] else [])


def _namespace_busy(obj: Object) -> bool:
    return obj.get("kind") == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))
