"""The strategy of Services. Owns defaults, the agreement of their address fields, and what a type change drops.

Must not know which addresses are free: `service_allocation` hands them out after `prepare_*` and before `validate_*`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import field, service_columns, service_warnings, validate_service
from controlplane.apiserver.registry.strategy import JSON, Plain

NONE = "None"
_ADDRESSED = ("ClusterIP", "NodePort", "LoadBalancer")
_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
AFFINITY_SECONDS = 10800


class Services(Plain):
    """Services of a cluster whose addresses are IPv4."""

    columns = service_columns.COLUMNS
    name_rule = staticmethod(validate_service.name_rule)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec["type"] = spec.get("type") or "ClusterIP"
        _default_affinity(spec)
        for port in spec.get("ports") or ():
            port["protocol"] = port.get("protocol") or "TCP"
            if port.get("targetPort") in (None, 0, "") and "port" in port:
                port["targetPort"] = port["port"]
        if externally_accessible(spec) and not spec.get("externalTrafficPolicy"):
            spec["externalTrafficPolicy"] = "Cluster"
        if spec["type"] in _ADDRESSED:
            spec.setdefault("internalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
            for ingress in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                if ingress.get("ip"):
                    ingress["ipMode"] = ingress.get("ipMode") or "VIP"

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        families(spec)

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        super().prepare_update(obj, old)
        spec, before = obj.setdefault("spec", {}), old.get("spec") or {}
        _agree(spec, before)
        _keep_allocated(spec, before)
        _drop_for_type(spec, before)
        families(spec)

    def validate(self, obj: JSON) -> field.Errors:
        return validate_service.service(obj)

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return validate_service.changes(obj.get("spec") or {}, old.get("spec") or {})

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        return super().validate_status(obj, old) + validate_service.load_balancer(obj.get("status") or {})

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return service_warnings.of(obj)

    def field_values(self, obj: JSON) -> dict[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.clusterIP": spec.get("clusterIP") or "", "spec.type": spec.get("type") or ""}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return service_columns.cells(obj, now)


def _default_affinity(spec: JSON) -> None:
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}


def externally_accessible(spec: JSON) -> bool:
    """True when traffic from outside the cluster may reach it."""
    kind = spec.get("type")
    return kind in _WITH_NODE_PORTS or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: JSON) -> bool:
    """True when a load balancer must ask each node for local endpoints."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def needs_cluster_ip(spec: JSON) -> bool:
    """True for types that have an address (which may be None)."""
    return spec.get("type") in _ADDRESSED


def needs_node_ports(spec: JSON) -> bool:
    """True when every port also gets a port on the nodes."""
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts", True) is not False
    return spec.get("type") == "NodePort"


def families(spec: JSON) -> None:
    """Fill in the address families of a single-stack IPv4 cluster; a headless service without selector has both."""
    if spec.get("type") == "ExternalName":
        return
    loose = spec.get("clusterIP") == NONE and not spec.get("selector")
    chosen = spec.get("ipFamilies") or []
    if not spec.get("ipFamilyPolicy"):
        two = len(chosen) > 1 or len(spec.get("clusterIPs") or ()) > 1
        spec["ipFamilyPolicy"] = "RequireDualStack" if two or loose else "SingleStack"
    if not chosen:
        first = spec.get("clusterIP") or ""
        chosen = ["IPv6" if ":" in first else "IPv4"]
    if loose and len(chosen) < 2 and spec["ipFamilyPolicy"] != "SingleStack":
        chosen = [*chosen, "IPv6" if chosen[0] == "IPv4" else "IPv4"]
    spec["ipFamilies"] = chosen


def _agree(spec: JSON, before: JSON) -> None:
    """Whoever changed only `clusterIP` means `clusterIPs` too."""
    new, old = spec.get("clusterIP") or "", before.get("clusterIP") or ""
    many, were = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    if new == old:
        return
    if not old:
        if not many:
            spec["clusterIPs"] = [new]
    elif many == were:
        if new:
            spec["clusterIPs"] = [new, *many[1:]]
        else:
            spec.pop("clusterIPs", None)


def _keep_allocated(spec: JSON, before: JSON) -> None:
    """What was allocated stays when an update leaves it out."""
    if needs_cluster_ip(spec) and needs_cluster_ip(before):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP") and before.get("clusterIPs"):
            spec["clusterIPs"] = list(before["clusterIPs"])
        for key in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(key) and before.get(key):
                spec[key] = before[key]
    if needs_node_ports(spec) and needs_node_ports(before):
        _keep_node_ports(spec, before)
    if needs_health_check(spec) and needs_health_check(before) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before.get("healthCheckNodePort", 0)


def _keep_node_ports(spec: JSON, before: JSON) -> None:
    known = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in before.get("ports") or ()}
    used = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    for port in spec.get("ports") or ():
        kept = known.get((port.get("protocol"), port.get("port")))
        if not port.get("nodePort") and kept and kept not in used:
            port["nodePort"] = kept
            used.add(kept)


def _drop_for_type(spec: JSON, before: JSON) -> None:
    """Fields of the old type go when the type changes and nobody touched them."""
    if needs_cluster_ip(before) and not needs_cluster_ip(spec):
        _drop_same(spec, before, ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"))
    if before.get("type") in _WITH_NODE_PORTS and spec.get("type") not in _WITH_NODE_PORTS:
        were = {port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in were:
                port.pop("nodePort", None)
    if needs_health_check(before) and not needs_health_check(spec):
        _drop_same(spec, before, ("healthCheckNodePort",))
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        _drop_same(spec, before, ("allocateLoadBalancerNodePorts", "loadBalancerClass"))
    if externally_accessible(before) and not externally_accessible(spec):
        _drop_same(spec, before, ("externalTrafficPolicy",))


def _drop_same(spec: JSON, before: JSON, keys: tuple[str, ...]) -> None:
    for key in keys:
        if spec.get(key) == before.get(key):
            spec.pop(key, None)
