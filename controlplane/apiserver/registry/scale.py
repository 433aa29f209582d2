"""The scale subresource of workloads: how many pods there should be, without the rest.

Owns the form of `autoscaling/v1 Scale`. Must not know who scales.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry import field
from kube import labels, status

JSON = dict[str, Any]
API_VERSION = "autoscaling/v1"
_META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(obj: JSON) -> JSON:
    """The Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    found: JSON = {"replicas": (obj.get("status") or {}).get("replicas") or 0}
    if text := _selector(spec.get("selector")):
        found["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": API_VERSION,
        "metadata": {key: meta[key] for key in _META if key in meta},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": found,
    }


def _selector(value: JSON | None) -> str:
    if not value:
        return ""
    as_object = value if value.keys() <= {"matchLabels", "matchExpressions"} else {"matchLabels": value}
    return str(labels.from_object(as_object))


def apply_scale(obj: JSON, scale: JSON) -> JSON:
    """A copy of the workload with the replicas, and the resourceVersion if any, that the Scale asks for.

    Raises ApiError 400 for a Scale of another object, 422 for a negative number.
    """
    meta, asked = obj.get("metadata") or {}, scale.get("metadata") or {}
    name = meta.get("name") or ""
    if asked.get("name") and asked["name"] != name:
        raise status.bad_request(
            f"the name of the object ({asked['name']}) does not match the name on the URL ({name})"
        )
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        text = 'Scale in version "v1" cannot be handled as a Scale: spec.replicas: want a whole number'
        raise status.bad_request(text)
    if replicas < 0:
        raise status.invalid("Scale.autoscaling", name, [field.invalid("spec.replicas", replicas, field.NEGATIVE)])
    changed = {**obj, "spec": {**(obj.get("spec") or {}), "replicas": replicas}, "metadata": dict(meta)}
    if version := asked.get("resourceVersion"):
        changed["metadata"]["resourceVersion"] = version
    return changed
