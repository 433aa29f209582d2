"""VolumeBinding: on which nodes a pod finds the volumes of its claims. PURE.

A claim that waits for its first pod keeps no node out unless only volumes that are there can serve it: the controller
binds or makes its volume on the node that was chosen, and the kubelet waits for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from controlplane import claims
from controlplane.projection import JSON, Node, Pod
from controlplane.scheduler import affinity
from kube import types

PLUGIN = "VolumeBinding"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NONE_HERE = "node(s) didn't find available persistent volumes to bind"
Claim: TypeAlias = types.PersistentVolumeClaim
Terms: TypeAlias = list[JSON]


@dataclass(slots=True)
class Storage:
    """Claims by namespace/name, volumes and classes by name: informers' caches, as they are now."""

    claims: Mapping[str, types.PersistentVolumeClaim] = field(default_factory=dict)
    volumes: Mapping[str, types.PersistentVolume] = field(default_factory=dict)
    classes: Mapping[str, types.StorageClass] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pod's claims ask of a node: all of `bound`, and for each entry of `open` one of its volumes' terms.

    `problem` is why no node will do.
    """

    problem: str = ""
    bound: tuple[Terms, ...] = ()
    open: tuple[tuple[Terms, ...], ...] = ()

    def refuses(self, node: Node) -> str:
        """Why this node will not do, "" if it will."""
        if not all(reachable(terms, node) for terms in self.bound):
            return CONFLICT
        served = all(any(reachable(terms, node) for terms in choice) for choice in self.open)
        return "" if served else NONE_HERE


def wish(pod: Pod, storage: Storage) -> Wish | None:
    """What the pod's claims ask for, None when it has none."""
    bound: list[Terms] = []
    choices: list[tuple[Terms, ...]] = []
    found = False
    for name in claims.names(pod):
        found = True
        claim = storage.claims.get(f"{pod.metadata.namespace}/{name}")
        if claim is None:
            return Wish(f'persistentvolumeclaim "{name}" not found')
        if claim.metadata.deletion_timestamp:
            return Wish(f'persistentvolumeclaim "{name}" is being deleted')
        if claims.is_bound(claim):
            volume = storage.volumes.get(claim.spec.volume_name or "")
            if volume is None:
                return Wish(f'pvc(s) bound to non-existent pv(s): "{claim.spec.volume_name}"')
            bound.append(terms_of(volume))
            continue
        kind = storage.classes.get(claim.spec.storage_class_name or "")
        if kind is None or kind.volume_binding_mode != claims.WAIT:
            return Wish(UNBOUND)
        if kind.provisioner == claims.NO_PROVISIONER:
            free = (v for v in storage.volumes.values() if v.spec.storage_class_name == kind.metadata.name)
            choices.append(tuple(terms_of(v) for v in free if could_serve(v, claim)))
    return Wish(bound=tuple(bound), open=tuple(choices)) if found else None


def could_serve(volume: types.PersistentVolume, claim: Claim) -> bool:
    """Whether a volume is free for this claim; its size is the controller's business."""
    return volume.spec.claim_ref is None or claims.belongs(volume, claim)


def terms_of(volume: types.PersistentVolume) -> Terms:
    """The terms of a volume's node affinity, one of which must hold; empty: it is reached from everywhere."""
    required: JSON = volume.spec.node_affinity.get("required") or {}
    return list(required.get("nodeSelectorTerms") or ())


def reachable(terms: Terms, node: Node) -> bool:
    """Whether a node reaches a volume with these terms."""
    return not terms or any(affinity.matches(term, node) for term in terms)
