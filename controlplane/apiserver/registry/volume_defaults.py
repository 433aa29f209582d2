"""Defaults of pod volumes. Owns them per source. Must not know validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from controlplane.apiserver.registry import images, quantities
from controlplane.apiserver.registry.field import JSON

FILE_MODE = 0o644
TOKEN_SECONDS = 3600


def volume(value: JSON) -> None:
    """One volume: a volume without a source is an emptyDir."""
    sources = [key for key in value if key != "name"]
    if not sources:
        value["emptyDir"] = {}
        return
    for key in sources:
        if fill := _BY_SOURCE.get(key):
            fill(value[key])


def _mode(source: JSON) -> None:
    source.setdefault("defaultMode", FILE_MODE)


def _downward(source: JSON) -> None:
    _mode(source)
    downward_items(source)


def downward_items(source: JSON) -> None:
    """Field references of a downward API source speak v1."""
    for item in source.get("items") or ():
        if "fieldRef" in item and not item["fieldRef"].get("apiVersion"):
            item["fieldRef"]["apiVersion"] = "v1"
        if "resourceFieldRef" in item:
            quantities.default_divisor(item["resourceFieldRef"])


def _projected(source: JSON) -> None:
    _mode(source)
    for part in source.get("sources") or ():
        if "serviceAccountToken" in part:
            part["serviceAccountToken"].setdefault("expirationSeconds", TOKEN_SECONDS)
        if "downwardAPI" in part:
            downward_items(part["downwardAPI"])


def _host_path(source: JSON) -> None:
    source.setdefault("type", "")


def _empty_dir(source: JSON) -> None:
    quantities.canonical_field(source, "sizeLimit")


def _ephemeral(source: JSON) -> None:
    spec = (source.get("volumeClaimTemplate") or {}).get("spec")
    if spec is not None:
        claim_spec(spec)


def claim_spec(spec: JSON) -> None:
    """The spec of a PersistentVolumeClaim."""
    spec.setdefault("volumeMode", "Filesystem")
    quantities.canonical_requirements(spec.get("resources") or {})


def _iscsi(source: JSON) -> None:
    source["iscsiInterface"] = source.get("iscsiInterface") or "default"


def _rbd(source: JSON) -> None:
    source["pool"] = source.get("pool") or "rbd"
    source["user"] = source.get("user") or "admin"
    source["keyring"] = source.get("keyring") or "/etc/ceph/keyring"


def _image(source: JSON) -> None:
    source["pullPolicy"] = source.get("pullPolicy") or images.pull_policy(source.get("reference") or "")


def _azure_disk(source: JSON) -> None:
    for key, value in (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4"), ("readOnly", False)):
        source.setdefault(key, value)


def _scale_io(source: JSON) -> None:
    source["storageMode"] = source.get("storageMode") or "ThinProvisioned"
    source["fsType"] = source.get("fsType") or "xfs"


_BY_SOURCE: Mapping[str, Callable[[JSON], None]] = MappingProxyType(
    {
        "azureDisk": _azure_disk,
        "configMap": _mode,
        "downwardAPI": _downward,
        "emptyDir": _empty_dir,
        "ephemeral": _ephemeral,
        "hostPath": _host_path,
        "image": _image,
        "iscsi": _iscsi,
        "projected": _projected,
        "rbd": _rbd,
        "scaleIO": _scale_io,
        "secret": _mode,
    }
)
