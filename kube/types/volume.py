"""Volumes of a pod and where their content comes from.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import LabelSelector, ObjectMeta


class KeyToPath(Projection):
    """One key of a ConfigMap or Secret, and the file it becomes."""

    key: str = ""
    mode: int | None = None
    path: str = ""


class ObjectFieldSelector(Projection):
    """A field of the pod itself, by path."""

    api_version: str = ""
    field_path: str = ""


class ResourceFieldSelector(Projection):
    """A resource figure of a container, in units of `divisor`."""

    container_name: str | None = None
    divisor: str | int | float | None = None
    resource: str = ""


class ConfigMapVolumeSource(Projection):
    """A ConfigMap shown as files."""

    default_mode: int | None = None
    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class SecretVolumeSource(Projection):
    """A Secret shown as files."""

    default_mode: int | None = None
    items: tuple[KeyToPath, ...] = ()
    optional: bool | None = None
    secret_name: str = ""


class DownwardAPIVolumeFile(Projection):
    """One fact about the pod, as a file."""

    field_ref: ObjectFieldSelector | None = None
    mode: int | None = None
    path: str = ""
    resource_field_ref: ResourceFieldSelector | None = None


class DownwardAPIVolumeSource(Projection):
    """Facts about the pod, as files."""

    default_mode: int | None = None
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class ConfigMapProjection(Projection):
    """A ConfigMap inside a projected volume."""

    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class SecretProjection(Projection):
    """A Secret inside a projected volume."""

    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class DownwardAPIProjection(Projection):
    """Facts about the pod inside a projected volume."""

    items: tuple[DownwardAPIVolumeFile, ...] = ()


class ServiceAccountTokenProjection(Projection):
    """A bound service account token inside a projected volume."""

    audience: str | None = None
    expiration_seconds: int | None = None
    path: str = ""


class ClusterTrustBundleProjection(Projection):
    """Trust anchors inside a projected volume."""

    label_selector: LabelSelector | None = None
    name: str | None = None
    optional: bool | None = None
    path: str = ""
    signer_name: str | None = None


class VolumeProjection(Projection):
    """One source of a projected volume; exactly one attribute is set."""

    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    config_map: ConfigMapProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(default=None, name="downwardAPI")
    secret: SecretProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None


class ProjectedVolumeSource(Projection):
    """Several sources in one folder."""

    default_mode: int | None = None
    sources: tuple[VolumeProjection, ...] = ()


class EmptyDirVolumeSource(Projection):
    """A folder that lives as long as the pod; `medium` "Memory" means tmpfs."""

    medium: str = ""
    size_limit: str | int | float | None = None


class HostPathVolumeSource(Projection):
    """A path of the node."""

    path: str = ""
    type: str = ""


class ImageVolumeSource(Projection):
    """An OCI image or artifact, mounted read-only."""

    pull_policy: str | None = None
    reference: str | None = None


class NFSVolumeSource(Projection):
    """A folder of an NFS server."""

    path: str = ""
    read_only: bool = False
    server: str = ""


class LocalObjectReference(Projection):
    """The name of an object in the same namespace."""

    name: str = ""


class CSIVolumeSource(Projection):
    """An inline volume of a CSI driver."""

    driver: str = ""
    fs_type: str | None = None
    node_publish_secret_ref: LocalObjectReference | None = None
    read_only: bool = False
    volume_attributes: dict[str, str] = {}


class PersistentVolumeClaimVolumeSource(Projection):
    """A claim in the pod's namespace."""

    claim_name: str = ""
    read_only: bool = False


class TypedLocalObjectReference(Projection):
    """An object of the same namespace, with its group and kind."""

    kind: str = ""
    api_group: str | None = None
    name: str = ""


class TypedObjectReference(Projection):
    """An object, with its group, kind and perhaps namespace."""

    kind: str = ""
    api_group: str | None = None
    name: str = ""
    namespace: str | None = None


class VolumeResourceRequirements(Projection):
    """Storage asked for and the most allowed."""

    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}


class PersistentVolumeClaimSpec(Projection):
    """What a claim asks for."""

    access_modes: tuple[str, ...] = ()
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    resources: VolumeResourceRequirements = msgspec.field(default_factory=VolumeResourceRequirements)
    selector: LabelSelector | None = None
    storage_class_name: str | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    volume_name: str | None = None


class PersistentVolumeClaimTemplate(Projection):
    """The claim an ephemeral volume makes for its pod."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)


class EphemeralVolumeSource(Projection):
    """A claim made for, and deleted with, the pod."""

    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class Volume(Projection):
    """A named volume; exactly one source is set."""

    config_map: ConfigMapVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = msgspec.field(default=None, name="downwardAPI")
    empty_dir: EmptyDirVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    image: ImageVolumeSource | None = None
    name: str = ""
    nfs: NFSVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    secret: SecretVolumeSource | None = None


class VolumeMount(Projection):
    """Where a container sees a volume."""

    mount_path: str = ""
    mount_propagation: str | None = None
    name: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    sub_path: str = ""
    sub_path_expr: str = ""


class VolumeDevice(Projection):
    """Where a container sees a raw block volume."""

    device_path: str = ""
    name: str = ""
