"""The table of Services. Owns the texts of addresses and ports. Must not know how tables are sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns
from controlplane.apiserver.registry.columns import Column

COLUMNS: tuple[Column, ...] = (
    columns.NAME,
    Column("Type", "How the service is exposed."),
    Column("Cluster-IP", "Address inside the cluster."),
    Column("External-IP", "Addresses outside the cluster."),
    Column("Port(s)", "Ports, with node ports and protocols."),
    columns.AGE,
    columns.SELECTOR,
)


def cells(obj: Mapping[str, Any], now: datetime) -> list[Any]:
    """One service's row."""
    spec = obj.get("spec") or {}
    ips = spec.get("clusterIPs") or ()
    return [
        columns.name(obj),
        spec.get("type") or "",
        spec.get("clusterIP") or (ips[0] if ips else columns.UNSET),
        _external(obj, spec),
        _ports(spec),
        columns.age(obj, now),
        columns.joined(spec.get("selector")),
    ]


def _ports(spec: Mapping[str, Any]) -> str:
    found = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        found.append(f"{port.get('port')}{node}/{port.get('protocol')}")
    return ",".join(found) or columns.UNSET


def _external(obj: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    kind, outside = spec.get("type"), ",".join(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return str(spec.get("externalName") or "")
    if kind != "LoadBalancer":
        return outside or columns.UNSET
    found = balanced((obj.get("status") or {}).get("loadBalancer") or {})
    if outside:
        return f"{found},{outside}" if found else outside
    return found or "<pending>"


def balanced(status: Mapping[str, Any]) -> str:
    """The addresses of a load balancer's status, joined by commas."""
    return ",".join(
        sorted({item.get("ip") or item.get("hostname") or "" for item in status.get("ingress") or ()} - {""})
    )
