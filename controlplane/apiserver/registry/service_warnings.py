"""What is legal in a Service and has no effect, or will not have one for long. Refuses nothing."""

from __future__ import annotations

from controlplane.apiserver.registry.field import JSON

_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def of(obj: JSON) -> list[str]:
    """The hints on a Service."""
    spec = obj.get("spec") or {}
    found: list[str] = []
    if _HINTS in ((obj.get("metadata") or {}).get("annotations") or {}):
        found.append(f"annotation {_HINTS} is deprecated, please use {_MODE} instead")
    headless = spec.get("type") == "ClusterIP" and spec.get("clusterIP") == "None"
    renamed = spec.get("type") == "ExternalName"
    if headless:
        found += _headless(spec)
    if spec.get("externalIPs"):
        if renamed:
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
        elif not headless:
            found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.get("externalName") and not renamed:
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _headless(spec: JSON) -> list[str]:
    used = {
        "loadBalancerIP": bool(spec.get("loadBalancerIP")),
        "externalIPs": bool(spec.get("externalIPs")),
        "SessionAffinity": spec.get("sessionAffinity", "None") != "None",
    }
    return [f"spec.{key} is ignored for headless services" for key, is_used in used.items() if is_used]
