"""Which volume a claim gets: the smallest that will do. PURE.

Follows the persistent volume controller: a volume reserved for the claim first, then the closest in size.
"""

from collections.abc import Iterable

from controlplane import claims
from kube import labels, quantity, types


def find(
    claim: types.PersistentVolumeClaim, volumes: Iterable[types.PersistentVolume]
) -> types.PersistentVolume | None:
    """The best volume there is for a claim, None for none."""
    fitting = [volume for volume in volumes if fits(volume, claim)]
    reserved = [volume for volume in fitting if claims.belongs(volume, claim)]
    return min(reserved or fitting, key=lambda v: (size(v.spec.capacity), v.metadata.name), default=None)


def fits(volume: types.PersistentVolume, claim: types.PersistentVolumeClaim) -> bool:
    """Whether a volume is free, or reserved for this claim, and offers all that is asked for."""
    spec, wanted = volume.spec, claim.spec
    if volume.metadata.deletion_timestamp or volume.status.phase in ("Released", "Failed"):
        return False
    if spec.claim_ref is not None and not claims.belongs(volume, claim):
        return False
    if spec.storage_class_name != (wanted.storage_class_name or "") or mode(spec.volume_mode) != mode(
        wanted.volume_mode
    ):
        return False
    if not set(wanted.access_modes) <= set(spec.access_modes):
        return False
    if wanted.selector is not None and not labels.from_object(wanted.selector).matches(volume.metadata.labels):
        return False
    return size(spec.capacity) >= size(wanted.resources.requests)


def mode(text: str | None) -> str:
    """Filesystem unless said otherwise."""
    return text or "Filesystem"


def size(amounts: dict[str, str | int | float]) -> int:
    """Bytes of storage."""
    return quantity.parse(amounts.get("storage", 0)).value()
