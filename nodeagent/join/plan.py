"""May this machine be a node of that cluster, and with which settings? PURE."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

Json = Mapping[str, Any]
OURS: Final = (1, 36)
OLDER: Final = 3
"""Minor versions a kubelet may be behind its API server (Kubernetes' version skew policy); never ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Who wants to join."""

    name: str
    machine_id: str
    ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What all nodes of a cluster agree upon."""

    dns: tuple[str, ...] = ("10.96.0.10",)
    domain: str = "cluster.local"
    pod_cidr: str = ""


def refusals(me: Machine, nodes: Iterable[Json]) -> list[str]:
    """Why this machine must not join beside these nodes, each with the other node's name; none: it may."""
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        status = node.get("status") or {}
        machine_id = (status.get("nodeInfo") or {}).get("machineID", "")
        addresses = [each["address"] for each in status.get("addresses") or () if each["type"] == "InternalIP"]
        same_machine = bool(me.machine_id) and machine_id == me.machine_id
        if name == me.name:
            if machine_id and not same_machine:
                found.append(
                    f"node {name} exists and is another machine (machine id {machine_id}, address "
                    f"{', '.join(addresses) or 'unknown'}; this one is {me.machine_id}, {me.ip}): join with another "
                    f"--node-name, or, if this machine replaces that one, first run: kubectl delete node {name}"
                )
            continue
        if me.ip in addresses:
            found.append(
                f"node {name} has the address {me.ip} already: every node needs its own; join with --node-ip and the "
                "address by which the other nodes reach this one (ip -4 address)"
            )
        elif same_machine:
            found.append(
                f"node {name} has the same machine id {machine_id}: this machine is a clone of it, or was it. Give it "
                "an id of its own (rm /etc/machine-id; systemd-machine-id-setup; reboot), or, if the name changed, "
                f"first run: kubectl delete node {name}"
            )
    return found


def version_problem(server: str) -> str | None:
    """Why this kubelet may not serve an API server of that version ("v1.36.2"); None when it may."""
    found = re.match(r"v?(\d+)\.(\d+)", server)
    if found is None:
        return f"the server does not say its version ({server!r})"
    major, minor = int(found[1]), int(found[2])
    if (major, minor) < OURS:
        return f"the server is {server}, older than this agent ({OURS[0]}.{OURS[1]}): upgrade the server first"
    if major != OURS[0] or minor > OURS[1] + OLDER:
        return f"the server is {server}, more than {OLDER} minor versions ahead of this agent: install a newer one"
    return None


def cluster(kubelet: str | None, proxy: str | None) -> Cluster:
    """The settings from the cluster's own ConfigMaps (kubelet-config, kube-proxy), which others may have written."""
    settings, ranges = _document(kubelet), _document(proxy)
    dns = settings.get("clusterDNS")
    return Cluster(
        dns=tuple(str(each) for each in dns) if isinstance(dns, list) and dns else Cluster().dns,
        domain=str(settings.get("clusterDomain") or Cluster().domain),
        pod_cidr=str(ranges.get("clusterCIDR") or ""),
    )


def _document(text: str | None) -> Json:
    try:
        found = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}
