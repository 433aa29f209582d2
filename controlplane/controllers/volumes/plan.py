"""What is to be written for one claim and for one volume now. PURE: from caches to writes.

Binding is two writes, the volume first: it can have only one claim, so its claimRef decides. Each is repeated until
both are there, whoever dies in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane import claims
from controlplane.controllers import writes
from controlplane.controllers.volumes import match
from kube import scheme, types

JSON = dict[str, Any]
PROVISIONERS = ("nodeagent.local/host-path", "kubernetes.io/host-path")
"""The provisioners that we are: they make a folder on the node where the claim's first pod runs."""
FOLDER = "/var/lib/nodeagent/volumes"
HOSTNAME = "kubernetes.io/hostname"
PROTECTED = "kubernetes.io/pvc-protection"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
COMPLETED = "pv.kubernetes.io/bind-completed"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What there is besides the claim: `consumers` are the nodes of pods by the claim (namespace/name) they use."""

    volumes: Mapping[str, types.PersistentVolume]
    classes: Mapping[str, types.StorageClass]
    consumers: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One write, and what is told about the claim beside it; either may be missing."""

    write: writes.Write | None = None
    reason: str = ""
    message: str = ""


def claim_step(claim: types.PersistentVolumeClaim, world: World) -> Step:
    """The next write towards a bound claim; an empty step when there is none."""
    meta, spec = claim.metadata, claim.spec
    key = f"{meta.namespace}/{meta.name}"
    if meta.deletion_timestamp:
        unused = PROTECTED in meta.finalizers and key not in world.consumers
        return Step(released(claim)) if unused else Step()
    if spec.volume_name:
        volume = world.volumes.get(spec.volume_name)
        if volume is None:
            lost = claim.status.phase == "Bound"
            return (
                Step(phase(claim, "Lost"), "ClaimLost", "Bound claim has lost its PersistentVolume") if lost else Step()
            )
        return bind(claim, volume)
    if spec.storage_class_name is None and (name := default_class(world.classes)):
        return Step(change(claim, {"spec": {"storageClassName": name}}))
    return unbound(claim, world, world.classes.get(spec.storage_class_name or ""), key)


def unbound(claim: types.PersistentVolumeClaim, world: World, kind: types.StorageClass | None, key: str) -> Step:
    """A claim without a volume: it gets one that is there, or one is made, or it waits."""
    waits = kind is not None and kind.volume_binding_mode == claims.WAIT
    node = claim.metadata.annotations.get(claims.SELECTED_NODE) or next(
        iter(filter(None, world.consumers.get(key, ()))), ""
    )
    reserved = any(claims.belongs(volume, claim) for volume in world.volumes.values())
    if waits and not node and not reserved:
        return Step(None, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    near = [v for v in world.volumes.values() if not node or reaches(v, node)]
    volume = match.find(claim, near)
    if volume is not None:
        return bind(claim, volume)
    if kind is None:
        name = claim.spec.storage_class_name
        message = f'storageclass.storage.k8s.io "{name}" not found' if name else ""
        text = message or "no persistent volumes available for this claim and no storage class is set"
        return Step(None, "ProvisioningFailed" if message else "FailedBinding", text)
    if kind.provisioner in PROVISIONERS:
        made = provisioned(claim, kind, node=node)
        return Step(made, "ProvisioningSucceeded", f"Successfully provisioned volume {made.body['metadata']['name']}")
    if kind.provisioner == claims.NO_PROVISIONER:
        return Step(None, "FailedBinding", "no persistent volumes available for this claim and no provisioner")
    text = f'Waiting for a volume to be created either by the external provisioner "{kind.provisioner}" or manually'
    return Step(None, "ExternalProvisioning", text)


def bind(claim: types.PersistentVolumeClaim, volume: types.PersistentVolume) -> Step:
    """The next of the writes that bind these two; empty when they are bound."""
    meta, ref = claim.metadata, volume.spec.claim_ref
    if ref is not None and not claims.belongs(volume, claim):
        taken = f'volume "{volume.metadata.name}" already bound to a different claim.'
        return Step(None, "FailedBinding", taken) if claim.status.phase != "Bound" else Step(phase(claim, "Lost"))
    if ref is None or not ref.uid:
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        }
        notes = {} if ref is not None else {BOUND_BY_US: "yes"}
        return Step(change(volume, {"metadata": {"annotations": notes}, "spec": {"claimRef": reference}}))
    if claim.spec.volume_name != volume.metadata.name or COMPLETED not in meta.annotations:
        notes = {COMPLETED: "yes"} | ({} if claim.spec.volume_name else {BOUND_BY_US: "yes"})
        return Step(change(claim, {"metadata": {"annotations": notes}, "spec": {"volumeName": volume.metadata.name}}))
    if claim.status.phase != "Bound":
        got = {"accessModes": list(volume.spec.access_modes), "capacity": dict(volume.spec.capacity)}
        return Step(phase(claim, "Bound", **got))
    return Step()


def volume_step(volume: types.PersistentVolume, claim: types.PersistentVolumeClaim | None) -> Step:
    """The phase a volume is to show; a volume of ours whose claim is gone goes too, if its policy says so.

    `claim` is the one of the name the volume's claimRef has, None when there is none.
    """
    ref, now = volume.spec.claim_ref, volume.status.phase
    if volume.metadata.deletion_timestamp:
        return Step()
    if ref is None or not ref.uid:
        return Step(phase(volume, "Available")) if now != "Available" else Step()
    if claim is not None and claim.metadata.uid == ref.uid:
        return Step(phase(volume, "Bound")) if now != "Bound" else Step()
    if now != "Released":
        return Step(phase(volume, "Released"))
    ours = volume.metadata.annotations.get(PROVISIONED_BY) in PROVISIONERS
    if volume.spec.persistent_volume_reclaim_policy == "Delete" and ours:
        meta = volume.metadata
        return Step(writes.Delete(resource=scheme.PERSISTENT_VOLUMES, name=meta.name, uid=meta.uid))
    return Step()


def provisioned(claim: types.PersistentVolumeClaim, kind: types.StorageClass, *, node: str) -> writes.Create:
    """A new volume for a claim: a folder on a node, on whichever runs its pods where none is chosen yet."""
    meta = claim.metadata
    name = f"pvc-{meta.uid}"
    spec: JSON = {
        "accessModes": list(claim.spec.access_modes),
        "capacity": {"storage": claim.spec.resources.requests.get("storage", "0")},
        "claimRef": {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        },
        "persistentVolumeReclaimPolicy": kind.reclaim_policy,
        "storageClassName": kind.metadata.name,
        "volumeMode": "Filesystem",
        "hostPath": {"path": f"{kind.parameters.get('path', FOLDER)}/{name}", "type": "DirectoryOrCreate"},
    }
    if node:
        expression = {"key": HOSTNAME, "operator": "In", "values": [node]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    body = {"metadata": {"name": name, "annotations": {PROVISIONED_BY: kind.provisioner}}, "spec": spec}
    return writes.Create(resource=scheme.PERSISTENT_VOLUMES, body=body)


def reaches(volume: types.PersistentVolume, node: str) -> bool:
    """Whether a volume that names its nodes by host name names this one; other terms are the scheduler's to judge."""
    for term in volume.spec.node_affinity.get("required", {}).get("nodeSelectorTerms") or ():
        for rule in term.get("matchExpressions") or ():
            if rule.get("key") == HOSTNAME and rule.get("operator") == "In" and node not in (rule.get("values") or ()):
                return False
    return True


def default_class(classes: Mapping[str, types.StorageClass]) -> str:
    """The class of claims that name none: of several marked as default the newest; "" for none."""
    marked = [c for c in classes.values() if c.metadata.annotations.get(DEFAULT_CLASS) == "true"]
    newest = max(marked, key=lambda c: (c.metadata.creation_timestamp or "", c.metadata.name), default=None)
    return newest.metadata.name if newest is not None else ""


def released(claim: types.PersistentVolumeClaim) -> writes.Patch:
    """Nobody uses it any more: it may go."""
    left = [name for name in claim.metadata.finalizers if name != PROTECTED]
    return change(claim, {"metadata": {"finalizers": left}})


def change(obj: types.PersistentVolume | types.PersistentVolumeClaim, body: JSON) -> writes.Patch:
    """A change that holds only for the version it was planned from."""
    meta = obj.metadata
    return writes.Patch(
        resource=resource(obj),
        namespace=meta.namespace or None,
        name=meta.name,
        uid=meta.uid,
        body=body,
        version=meta.resource_version,
    )


def phase(obj: types.PersistentVolume | types.PersistentVolumeClaim, word: str, **more: Any) -> writes.Patch:
    """A new phase in the status."""
    meta = obj.metadata
    return writes.Patch(
        resource=resource(obj),
        namespace=meta.namespace or None,
        name=meta.name,
        uid=meta.uid,
        body={"status": {"phase": word, **more}},
        subresource="status",
    )


def resource(obj: types.PersistentVolume | types.PersistentVolumeClaim) -> scheme.Resource:
    """Which of the two it is."""
    is_claim = isinstance(obj, types.PersistentVolumeClaim)
    return scheme.PERSISTENT_VOLUME_CLAIMS if is_claim else scheme.PERSISTENT_VOLUMES
