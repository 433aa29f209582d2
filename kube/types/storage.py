"""Volumes and claims as kubelet, scheduler and controllers read them.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kube.types.base import Projection
from kube.types.meta import ObjectMeta
from kube.types.service import ObjectReference
from kube.types.volume import (
    HostPathVolumeSource,
    LocalObjectReference,
    NFSVolumeSource,
    PersistentVolumeClaimSpec,
)


class LocalVolumeSource(Projection):
    """A folder or device that one node has."""

    path: str = ""
    fs_type: str | None = None


class CSIPersistentVolumeSource(Projection):
    """A volume of a CSI driver."""

    driver: str = ""
    volume_handle: str = ""
    fs_type: str = ""
    read_only: bool = False
    volume_attributes: dict[str, str] = {}
    node_publish_secret_ref: LocalObjectReference | None = None
    node_stage_secret_ref: LocalObjectReference | None = None


class PersistentVolumeSpec(Projection):
    """A volume: where it is, how large, and whose."""

    access_modes: tuple[str, ...] = ()
    capacity: dict[str, str | int | float] = {}
    claim_ref: ObjectReference | None = None
    csi: CSIPersistentVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    local: LocalVolumeSource | None = None
    mount_options: tuple[str, ...] = ()
    nfs: NFSVolumeSource | None = None
    node_affinity: dict[str, Any] = {}
    """From which nodes it can be reached, as it is written: `required` with its `nodeSelectorTerms`."""
    persistent_volume_reclaim_policy: str = "Retain"
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"


class PersistentVolumeStatus(Projection):
    """How far binding is."""

    phase: str = ""
    reason: str = ""
    message: str = ""


class PersistentVolume(Projection):
    """v1 PersistentVolume."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeSpec = msgspec.field(default_factory=PersistentVolumeSpec)
    status: PersistentVolumeStatus = msgspec.field(default_factory=PersistentVolumeStatus)


class PersistentVolumeClaimStatus(Projection):
    """How far binding is, and what was got."""

    access_modes: tuple[str, ...] = ()
    capacity: dict[str, str | int | float] = {}
    phase: str = ""


class PersistentVolumeClaim(Projection):
    """v1 PersistentVolumeClaim."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)
    status: PersistentVolumeClaimStatus = msgspec.field(default_factory=PersistentVolumeClaimStatus)


class StorageClass(Projection):
    """storage.k8s.io/v1 StorageClass."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    provisioner: str = ""
    parameters: dict[str, str] = {}
    reclaim_policy: str = "Delete"
    mount_options: tuple[str, ...] = ()
    volume_binding_mode: str = "Immediate"
