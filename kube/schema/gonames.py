"""Names of upstream's Go types that its decoder tells and the schemas do not: embedded structs, named maps."""

from __future__ import annotations

_EMBEDDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "EphemeralContainer": ("EphemeralContainerCommon", ("targetContainerName",)),
    "PersistentVolumeSpec": (
        "PersistentVolumeSource",
        (
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ),
    ),
    "Volume": ("VolumeSource", ("name",)),
}
_PROBE_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_NAMED_BY_REFERENCE = (
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
)


def path(struct: str, field: str) -> str:
    """The field as the decoder's path names it: led by the struct it is embedded with."""
    if struct in _EMBEDDED:
        embedded, own = _EMBEDDED[struct]
        return field if field in own else f"{embedded}.{field}"
    if struct == "Probe" and field in _PROBE_HANDLERS:
        return f"ProbeHandler.{field}"
    if struct in _NAMED_BY_REFERENCE and field == "name":
        return f"LocalObjectReference.{field}"
    return field


def map_of(item: str) -> str:
    """The Go type of a map with text keys: the one of quantities has a name."""
    return "v1.ResourceList" if item == "resource.Quantity" else f"map[string]{item}"
