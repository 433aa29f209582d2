"""What an installed host has: every file with its content, every unit, in order. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from nodeagent.install import containerd, layout, units
from nodeagent.join.plan import Cluster

OWN: Final = "nodeagent/v1"
MODULES: Final = ("overlay", "br_netfilter", "nf_conntrack", "nf_tables", "vxlan")
SYSCTLS: Final = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
    "fs.inotify.max_user_instances": "8192",
    "fs.inotify.max_user_watches": "524288",
}
INTERFACES: Final = ("cni0", "veth*", "nodeagent.*", "kube-dns*")
_ROUTES = "# The routes between nodes are the agent's; networkd would take them away.\n"
_UNMANAGED = "# Pods' interfaces are the agent's.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file; `mode` is its permissions."""

    path: Path
    content: bytes = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found on the host, as far as the plan depends on it."""

    containerd: str
    containerd_version: tuple[int, int]
    containerd_config: Mapping[str, Any]
    systemd_cgroup: bool
    restrict_oom_score: bool = False
    resolv_conf: str = "/etc/resolv.conf"
    networkd: bool = False
    network_manager: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What this host is to be."""

    name: str
    ip: str = ""
    cluster: Cluster
    sandbox_image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the cluster is to be."""

    advertise: str
    service_cidr: str = "10.96.0.0/16"
    cluster_cidr: str = "10.244.0.0/16"
    domain: str = "cluster.local"
    dns: str = "10.96.0.10"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Files first, then the units in this order."""

    files: tuple[File, ...]
    units: tuple[str, ...]

    def __add__(self, other: "Plan") -> "Plan":
        return Plan(files=self.files + other.files, units=self.units + other.units)


def server(wanted: Server) -> Plan:
    """The control plane's part."""
    document = {
        "dataDir": str(layout.STATE / "server"),
        "pkiDir": str(layout.ETC / "pki"),
        "listen": ["0.0.0.0:6443"],
        "advertiseAddress": wanted.advertise,
        "serviceCIDR": wanted.service_cidr,
        "clusterCIDR": wanted.cluster_cidr,
        "clusterDomain": wanted.domain,
        "clusterDNS": wanted.dns,
        "extraSANs": list(wanted.names),
        "kubeconfig": str(layout.ADMIN),
    }
    files = (
        _yaml("server", OWN, "ServerConfiguration", document),
        File(path=layout.UNITS / layout.SERVER_UNIT, content=units.server().encode()),
    )
    return Plan(files=files, units=(layout.SERVER_UNIT,))


def node(wanted: Node, facts: Facts) -> Plan:
    """The agent's part: the same on the server's host and on every other."""
    return Plan(
        files=(*_host(facts), *_containerd(wanted, facts), *_settings(wanted, facts), *_units()),
        units=(layout.AGENT_UNIT, layout.DNS_UNIT),
    )


def _host(facts: Facts) -> list[File]:
    sysctls = "".join(f"{name} = {value}\n" for name, value in SYSCTLS.items())
    found = [
        File(path=layout.MODULES, content="".join(f"{each}\n" for each in MODULES).encode()),
        File(path=layout.SYSCTLS, content=sysctls.encode()),
    ]
    if facts.networkd:
        text = f"{_ROUTES}[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"
        found.append(File(path=layout.NETWORKD, content=text.encode()))
    if facts.network_manager:
        names = ";".join(f"interface-name:{each}" for each in INTERFACES)
        found.append(
            File(path=layout.NETWORK_MANAGER, content=f"{_UNMANAGED}[keyfile]\nunmanaged-devices={names}\n".encode())
        )
    return found


def _containerd(wanted: Node, facts: Facts) -> list[File]:
    document = containerd.adjusted(
        facts.containerd_config,
        version=facts.containerd_version,
        systemd_cgroup=facts.systemd_cgroup,
        sandbox_image=wanted.sandbox_image,
        restrict_oom_score=facts.restrict_oom_score,
    )
    text = f"# Made from {layout.CONTAINERD_MAIN} by nodeagent install; change that one, then install again.\n"
    drop_in = layout.UNITS / f"{layout.CONTAINERD_UNIT}.d" / "90-nodeagent.conf"
    return [
        File(path=layout.CONTAINERD_OURS, content=(text + containerd.render(document)).encode()),
        File(path=drop_in, content=units.containerd(facts.containerd).encode()),
    ]


def _settings(wanted: Node, facts: Facts) -> list[File]:
    cluster, address = wanted.cluster, {"nodeIP": wanted.ip} if wanted.ip else {}
    kubelet = {
        "authentication": {"x509": {"clientCAFile": str(layout.CA)}},
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
        "clusterDNS": list(cluster.dns),
        "clusterDomain": cluster.domain,
        "cgroupDriver": "systemd" if facts.systemd_cgroup else "cgroupfs",
        "resolvConf": facts.resolv_conf,
        "staticPodPath": str(layout.MANIFESTS),
    }
    dns = {"kubeconfig": str(layout.KUBECONFIG), "clusterDomain": cluster.domain, "nodeLocal": True}
    me = {"nodeName": wanted.name, **address}
    return [
        _yaml("agent", OWN, "AgentConfiguration", {**me, "kubeconfig": str(layout.KUBECONFIG)}),
        _yaml("kubelet", "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", kubelet),
        _yaml("proxy", "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", {"clusterCIDR": cluster.pod_cidr}),
        _yaml("cni", OWN, "CNIConfiguration", {}),
        _yaml("dns", OWN, "DNSConfiguration", {**me, **dns}),
    ]


def _units() -> list[File]:
    texts = {layout.AGENT_UNIT: units.agent(), layout.DNS_UNIT: units.dns()}
    return [File(path=layout.UNITS / name, content=text.encode()) for name, text in texts.items()]


def _yaml(name: str, api_version: str, kind: str, fields: Mapping[str, Any]) -> File:
    document = {"apiVersion": api_version, "kind": kind, **fields}
    text = "# Written by nodeagent install, and again by the next; put your own settings into another file here.\n"
    content = text + yaml.safe_dump(document, sort_keys=False)
    # Ours come first in name order: what others say later counts.
    return File(path=layout.ETC / f"00-{name}.yaml", content=content.encode())


def advertised(addresses: Mapping[str, str], default: str) -> str:
    """The address a server is reached by, of {address: interface}; ValueError when a person has to say.

    VirtualBox gives every machine 10.0.2.15 on its first interface: it leads nowhere, whatever the default route says.
    """
    useful = [each for each in addresses if not each.startswith(("127.", "169.254.", "10.0.2."))]
    if default in useful:
        return default
    if len(useful) == 1:
        return useful[0]
    if not useful and default:
        return default
    listed = ", ".join(f"{address} ({interface})" for address, interface in addresses.items()) or "none"
    raise ValueError(f"which address do the other machines reach this one by? --advertise-address; there are: {listed}")
