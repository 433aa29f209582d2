"""The configuration each machine's services read, as documents. Pure.

Owns which kinds go into which file and what a lab sets in them. Must not know how a service reads them.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from nodeagent.lab import plan

Document = Mapping[str, Any]
PKI = plan.ETC + "/pki"
OWN = "nodeagent/v1"


def server(lab: plan.Lab, *, api_port: int) -> dict[str, Document]:
    """File name -> document for the control plane. The sockets it inherits stand for `listen`."""
    return {
        "server.yaml": {
            "apiVersion": OWN,
            "kind": "ServerConfiguration",
            "dataDir": "/var/lib/nodeagent",
            "pkiDir": PKI,
            "listen": [f"{lab.server.ip}:{plan.API_PORT}"],
            "advertiseAddress": lab.server.ip,
            "serviceCIDR": plan.SERVICE_CIDR,
            "clusterCIDR": plan.POD_CIDR,
            "nodeCIDRMaskSize": 24,
            "clusterDomain": plan.ZONE,
            "clusterDNS": plan.DNS_SERVICE,
            "kubeconfig": plan.ETC + "/admin.kubeconfig",
            "kubeconfigServer": f"https://127.0.0.1:{api_port}",
        }
    }


def node(machine: plan.Machine) -> dict[str, Document]:
    """File name -> document for a node's agent."""
    return {
        "agent.yaml": {
            "apiVersion": OWN,
            "kind": "AgentConfiguration",
            "nodeName": machine.name,
            "nodeIP": machine.ip,
            "kubeconfig": plan.ETC + "/kubelet.kubeconfig",
            "servingCert": PKI + "/kubelet.crt",
            "servingKey": PKI + "/kubelet.key",
            "clientCA": PKI + "/ca.crt",
        },
        "kubelet.yaml": {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "clusterDNS": [plan.DNS_SERVICE],
            "clusterDomain": plan.ZONE,
            "cgroupRoot": machine.cgroup,
            "cgroupDriver": "cgroupfs",
            "staticPodPath": plan.ETC + "/manifests",
            # The disk is the host's, and no registry could bring an image back.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
        },
        "proxy.yaml": {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": plan.POD_CIDR,
        },
        "balancer.yaml": {
            "apiVersion": OWN,
            "kind": "LoadBalancerConfiguration",
            "addresses": [plan.BALANCER_ADDRESSES],
            "kubeconfig": plan.ETC + "/balancer.kubeconfig",
        },
        "cni.yaml": {"apiVersion": OWN, "kind": "CNIConfiguration"},
    }


def dns(machine: plan.Machine, *, resolvers: Sequence[str]) -> dict[str, Document]:
    """File name -> document for a node's DNS process."""
    return {
        "dns.yaml": {
            "apiVersion": OWN,
            "kind": "DNSConfiguration",
            "nodeName": machine.name,
            "nodeIP": machine.ip,
            "kubeconfig": plan.ETC + "/dns.kubeconfig",
            "clusterDomain": plan.ZONE,
            "forward": list(resolvers),
            "lameduckSeconds": 1,
            "nodeLocal": True,
        }
    }


def etc_files(machine: plan.Machine, *, resolvers: Sequence[str]) -> dict[str, bytes]:
    """The machine's own files of general use: who it is, and whom it asks for names."""
    name_servers = "".join(f"nameserver {address}\n" for address in resolvers)
    identity = uuid.uuid5(uuid.NAMESPACE_URL, machine.cgroup).hex
    return {
        "/etc/hostname": f"{machine.name}\n".encode(),
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{machine.ip} {machine.name}\n".encode(),
        "/etc/machine-id": f"{identity}\n".encode(),
        "/etc/resolv.conf": name_servers.encode(),
    }
