"""The PodSandboxConfig of a pod. PURE: plain values to one CRI message."""

import dataclasses
from typing import Final

from kube import types
from nodeagent.cri import labels
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.pods import dns, security
from nodeagent.resources import cgroups

PROTOCOLS: Final = {"TCP": cri.TCP, "UDP": cri.UDP, "SCTP": cri.SCTP}
IPC_SYSCTLS: Final = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")
SAFE_SYSCTLS: Final = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a sandbox needs to know about its node."""

    log_directory: str
    cgroup_parent: str
    resolver: dns.Resolver
    cluster: dns.Cluster
    seccomp_default: bool = False
    cfs_quota: bool = True
    first_id: int = 0


def config(pod: types.Pod, *, attempt: int, facts: Facts) -> cri.PodSandboxConfig:
    """The whole message, the same for the sandbox and for every container in it."""
    meta = pod.metadata
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=meta.name, uid=meta.uid, namespace=meta.namespace, attempt=attempt),
        hostname=dns.sandbox_hostname(pod, cluster=facts.cluster),
        log_directory=facts.log_directory,
        dns_config=dns.message(facts.resolver),
        port_mappings=[] if pod.spec.host_network else port_mappings(pod),
        labels={**meta.labels, **pod_labels(pod)},
        annotations=meta.annotations,
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=facts.cgroup_parent,
            security_context=security.sandbox(pod, seccomp_default=facts.seccomp_default, first_id=facts.first_id),
            sysctls={s.name: s.value for s in security.of_pod(pod).sysctls},
            resources=resources(cgroups.pod_limits(pod, cfs_quota=facts.cfs_quota)),
        ),
    )


def pod_labels(pod: types.Pod) -> dict[str, str]:
    """The labels by which this pod is found again."""
    meta = pod.metadata
    return {labels.POD_NAME: meta.name, labels.POD_NAMESPACE: meta.namespace, labels.POD_UID: meta.uid}


def port_mappings(pod: types.Pod) -> list[cri.PortMapping]:
    """Ports published on the node."""
    return [
        cri.PortMapping(
            protocol=PROTOCOLS.get(port.protocol, cri.TCP),
            container_port=port.container_port,
            host_port=port.host_port,
            host_ip=port.host_ip,
        )
        for container in (*pod.spec.init_containers, *pod.spec.containers)
        for port in container.ports
        if port.host_port
    ]


def resources(limits: cgroups.Limits, *, oom_score_adj: int = 0) -> cri.LinuxContainerResources:
    """Limits as CRI takes them."""
    return cri.LinuxContainerResources(
        cpu_shares=limits.shares,
        cpu_period=limits.period_us,
        cpu_quota=max(0, limits.quota_us),
        memory_limit_in_bytes=limits.memory_bytes,
        oom_score_adj=oom_score_adj,
    )


def forbidden_sysctls(pod: types.Pod, *, allowed: tuple[str, ...] = ()) -> list[str]:
    """Why settings of the pod are refused: neither safe nor `allowed` here (which may end in `*`), or the host's."""
    found = []
    for name in (s.name.replace("/", ".") for s in security.of_pod(pod).sysctls):
        of_network, of_ipc = name.startswith("net."), name.startswith(IPC_SYSCTLS)
        if name not in SAFE_SYSCTLS and not any(
            name == a or (a.endswith("*") and name.startswith(a[:-1])) for a in allowed
        ):
            found.append(f'forbidden sysctl: "{name}" not allowlisted')
        elif of_network and pod.spec.host_network:
            found.append(f'forbidden sysctl: "{name}" not allowed with host net enabled')
        elif of_ipc and pod.spec.host_ipc:
            found.append(f'forbidden sysctl: "{name}" not allowed with host ipc enabled')
    return found
