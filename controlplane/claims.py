"""Claims of pods and the volumes they are bound to: questions the scheduler and the controllers both ask. PURE."""

from collections.abc import Iterator

from controlplane.projection import Pod
from kube import types

SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""Annotation on a claim: where its first pod will run, so that the volume is made or chosen there."""
WAIT = "WaitForFirstConsumer"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


def names(pod: Pod) -> Iterator[str]:
    """The claims of a pod by name, those that its ephemeral volumes make included."""
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            yield volume.persistent_volume_claim.claim_name
        elif volume.ephemeral is not None:
            yield ephemeral(pod.metadata.name, volume.name)


def ephemeral(pod_name: str, volume: str) -> str:
    """The claim an ephemeral volume makes."""
    return f"{pod_name}-{volume}"


def is_bound(claim: types.PersistentVolumeClaim) -> bool:
    """Whether it has its volume."""
    return bool(claim.spec.volume_name) and claim.status.phase == "Bound"


def belongs(volume: types.PersistentVolume, claim: types.PersistentVolumeClaim) -> bool:
    """Whether a volume names this very claim, or at least one of its name and no other."""
    ref = volume.spec.claim_ref
    meta = claim.metadata
    return ref is not None and (ref.namespace, ref.name) == (meta.namespace, meta.name) and ref.uid in ("", meta.uid)
