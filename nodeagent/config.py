"""The agent's configuration: `AgentConfiguration` (our own kind) and the fields of `KubeletConfiguration` it honours.

Owns names, defaults and their checks. A field that is not here is refused by name: it would have no effect.
"""

import dataclasses
import ipaddress
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from kube import quantity
from kube.runtime import config as documents
from kube.runtime import duration
from nodeagent import errors
from nodeagent.eviction import plan as eviction
from nodeagent.shutdown import plan as shutdown

AGENT_KIND: Final = "AgentConfiguration"
KUBELET_KIND: Final = "KubeletConfiguration"
NODE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DEFAULT_ENDPOINT: Final = "unix:///run/containerd/containerd.sock"


class AgentConfiguration(documents.Section, frozen=True, kw_only=True):
    """`nodeagent/v1`: who this node is, and where its files are."""

    node_name: str = ""
    node_ip: str = msgspec.field(name="nodeIP", default="")
    node_labels: dict[str, str] = {}
    kubeconfig: str = "/etc/nodeagent/kubelet.kubeconfig"
    root_dir: str = "/var/lib/kubelet"
    state_dir: str = "/var/lib/nodeagent"
    log_dir: str = "/var/log"
    standalone: bool = False
    container_runtime_endpoint: str = ""
    serving_cert: str = ""
    serving_key: str = ""
    client_ca: str = msgspec.field(name="clientCA", default="")


class X509(documents.Section, frozen=True, kw_only=True):
    """Client certificates on the kubelet's own port."""

    client_ca_file: str = msgspec.field(name="clientCAFile", default="")


class Authentication(documents.Section, frozen=True, kw_only=True):
    """Who may speak to the kubelet's own port."""

    x509: X509 = X509()


class PriorityShare(documents.Section, frozen=True, kw_only=True):
    """How long pods of at least this priority are given when the machine stops."""

    priority: int
    shutdown_grace_period_seconds: int


class Taint(documents.Section, frozen=True, kw_only=True):
    """A taint put on the Node when it is first registered."""

    key: str
    effect: str
    value: str = ""


class CrashLoopBackOff(documents.Section, frozen=True, kw_only=True):
    """The cap on the delay between restarts of a crashing container."""

    max_container_restart_period: str = "300s"


class KubeletConfiguration(documents.Section, frozen=True, kw_only=True):
    """`kubelet.config.k8s.io/v1beta1`, in upstream's names and with upstream's defaults."""

    address: str = "0.0.0.0"
    port: int = 10250
    healthz_bind_address: str = "127.0.0.1"
    healthz_port: int = 10248
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    rotate_certificates: bool = False
    server_tls_bootstrap: bool = msgspec.field(name="serverTLSBootstrap", default=False)
    authentication: Authentication = Authentication()
    container_runtime_endpoint: str = ""
    cluster_dns: list[str] = msgspec.field(name="clusterDNS", default_factory=list)
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    cgroup_root: str = "/"
    cgroup_driver: str = "cgroupfs"
    cpu_cfs_quota: bool = msgspec.field(name="cpuCFSQuota", default=True)
    single_process_oom_kill: bool = msgspec.field(name="singleProcessOOMKill", default=False)
    max_pods: int = 110
    pod_pids_limit: int = -1
    container_log_max_size: str = "10Mi"
    container_log_max_files: int = 5
    seccomp_default: bool = False
    static_pod_path: str = ""
    file_check_frequency: str = "20s"
    sync_frequency: str = "1m"
    crash_loop_back_off: CrashLoopBackOff = CrashLoopBackOff()
    node_status_update_frequency: str = "10s"
    node_status_report_frequency: str = "5m"
    node_lease_duration_seconds: int = 40
    register_with_taints: list[Taint] = []
    provider_id: str = msgspec.field(name="providerID", default="")
    kube_reserved: dict[str, str] = {}
    system_reserved: dict[str, str] = {}
    eviction_hard: dict[str, str] = msgspec.field(default_factory=lambda: dict(eviction.HARD))
    eviction_soft: dict[str, str] = {}
    eviction_soft_grace_period: dict[str, str] = {}
    eviction_max_pod_grace_period: int = 0
    eviction_pressure_transition_period: str = "5m"
    image_gc_high_threshold_percent: int = msgspec.field(name="imageGCHighThresholdPercent", default=85)
    image_gc_low_threshold_percent: int = msgspec.field(name="imageGCLowThresholdPercent", default=80)
    image_minimum_gc_age: str = msgspec.field(name="imageMinimumGCAge", default="2m")
    allowed_unsafe_sysctls: list[str] = []
    shutdown_grace_period: str = "0s"
    shutdown_grace_period_critical_pods: str = "0s"
    shutdown_grace_period_by_pod_priority: list[PriorityShare] = []


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Both documents after their checks, with durations in seconds and paths as paths."""

    agent: AgentConfiguration
    kubelet: KubeletConfiguration
    node_name: str
    root: Path
    pod_logs: Path
    container_logs: Path
    runtime_endpoint: str
    serving_cert: str
    serving_key: str
    client_ca: str
    sync_frequency: float
    restart_cap: float
    log_max_bytes: int
    status_update: float
    status_report: float
    thresholds: tuple[eviction.Threshold, ...]
    pressure_transition: float
    image_age: float
    static_pods: Path | None
    file_check: float
    shutdown_shares: tuple[shutdown.Share, ...]
    standalone: bool
    """Without any API server: static pods only, nothing is reported."""


def read(folder: Path) -> Settings:
    """Settings from a file or folder of YAML; `ConfigError` names file, field and reason."""
    return build(load(folder), source=str(folder))


def load(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All documents by kind, of every package; `ConfigError` names file and reason."""
    try:
        return documents.load(folder)
    except documents.ConfigError as e:
        raise errors.ConfigError(str(e)) from e


def build(found: Mapping[str, list[dict[str, Any]]], *, source: str) -> Settings:
    """Settings from loaded documents, of which only the agent's two kinds are read here."""
    try:
        agent = documents.one(found, AGENT_KIND, AgentConfiguration)
        kubelet = documents.one(found, KUBELET_KIND, KubeletConfiguration)
    except documents.ConfigError as e:
        raise errors.ConfigError(str(e)) from e
    for problem in problems(agent, kubelet):
        raise errors.ConfigError(f"{source}: {problem}")
    if agent.standalone and not kubelet.static_pod_path:
        text = "AgentConfiguration.standalone: there is nothing to run without KubeletConfiguration.staticPodPath"
        raise errors.ConfigError(f"{source}: {text}")
    return Settings(
        agent=agent,
        kubelet=kubelet,
        node_name=agent.node_name or socket.gethostname().lower(),
        root=Path(agent.root_dir),
        pod_logs=Path(agent.log_dir) / "pods",
        container_logs=Path(agent.log_dir) / "containers",
        runtime_endpoint=agent.container_runtime_endpoint or kubelet.container_runtime_endpoint or DEFAULT_ENDPOINT,
        serving_cert=agent.serving_cert or kubelet.tls_cert_file,
        serving_key=agent.serving_key or kubelet.tls_private_key_file,
        client_ca=agent.client_ca or kubelet.authentication.x509.client_ca_file,
        sync_frequency=duration.parse_duration(kubelet.sync_frequency),
        log_max_bytes=quantity.parse(kubelet.container_log_max_size).value(),
        restart_cap=duration.parse_duration(kubelet.crash_loop_back_off.max_container_restart_period),
        status_update=duration.parse_duration(kubelet.node_status_update_frequency),
        status_report=duration.parse_duration(kubelet.node_status_report_frequency),
        thresholds=thresholds(kubelet),
        pressure_transition=duration.parse_duration(kubelet.eviction_pressure_transition_period),
        image_age=duration.parse_duration(kubelet.image_minimum_gc_age),
        static_pods=Path(kubelet.static_pod_path) if kubelet.static_pod_path else None,
        file_check=duration.parse_duration(kubelet.file_check_frequency),
        shutdown_shares=shutdown_shares(kubelet),
        standalone=agent.standalone,
    )


def problems(agent: AgentConfiguration, kubelet: KubeletConfiguration) -> list[str]:
    """What is wrong with the values, each as `Kind.field: reason`."""
    found = [*agent_problems(agent), *address_problems(kubelet), *duration_problems(kubelet)]
    for field in ("kube_reserved", "system_reserved"):
        for resource, amount in getattr(kubelet, field).items():
            if not is_quantity(amount):
                found.append(f"KubeletConfiguration.{camel(field)}.{resource}: {amount!r} is not a quantity")
    if kubelet.cgroup_driver not in ("cgroupfs", "systemd"):
        found.append(f"KubeletConfiguration.cgroupDriver: {kubelet.cgroup_driver!r}: supported: cgroupfs, systemd")
    if not kubelet.cgroup_root.startswith("/"):
        found.append(f"KubeletConfiguration.cgroupRoot: {kubelet.cgroup_root!r} is not an absolute path")
    if kubelet.max_pods < 0:
        found.append(f"KubeletConfiguration.maxPods: {kubelet.max_pods} is negative")
    if not is_quantity(kubelet.container_log_max_size):
        found.append(f"KubeletConfiguration.containerLogMaxSize: {kubelet.container_log_max_size!r} is not a quantity")
    if kubelet.container_log_max_files < 2:
        found.append(f"KubeletConfiguration.containerLogMaxFiles: {kubelet.container_log_max_files} is less than 2")
    return [*found, *eviction_problems(kubelet), *shutdown_problems(kubelet)]


def shutdown_shares(kubelet: KubeletConfiguration) -> tuple[shutdown.Share, ...]:
    """How the time before a shutdown is shared out among pods."""
    return shutdown.shares(
        whole=duration.parse_duration(kubelet.shutdown_grace_period),
        critical=duration.parse_duration(kubelet.shutdown_grace_period_critical_pods),
        by_priority=[
            shutdown.Share(priority=each.priority, seconds=each.shutdown_grace_period_seconds)
            for each in kubelet.shutdown_grace_period_by_pod_priority
        ],
    )


def shutdown_problems(kubelet: KubeletConfiguration) -> list[str]:
    """Times before a shutdown that make no sense."""
    name = "KubeletConfiguration.shutdownGracePeriod"
    try:
        whole = duration.parse_duration(kubelet.shutdown_grace_period)
        critical = duration.parse_duration(kubelet.shutdown_grace_period_critical_pods)
    except ValueError as e:
        return [f"{name}: {e}"]
    found = []
    if critical > whole:
        found.append(f"{name}CriticalPods: {critical:g} s is more than shutdownGracePeriod has, {whole:g} s")
    if kubelet.shutdown_grace_period_by_pod_priority and whole:
        found.append(f"{name}ByPodPriority: may not be set beside shutdownGracePeriod")
    return found


def thresholds(kubelet: KubeletConfiguration) -> tuple[eviction.Threshold, ...]:
    """Hard and soft thresholds; one of 0 is switched off."""
    graces = kubelet.eviction_soft_grace_period
    hard = [eviction.Threshold(signal=signal, value=value) for signal, value in kubelet.eviction_hard.items()]
    soft = [
        eviction.Threshold(signal=signal, value=value, grace=duration.parse_duration(graces[signal]))
        for signal, value in kubelet.eviction_soft.items()
    ]
    return tuple(t for t in (*hard, *soft) if t.value not in ("0", "0%"))


def eviction_problems(kubelet: KubeletConfiguration) -> list[str]:
    """Thresholds that cannot be, and marks of disk use that make no sense."""
    found = [
        f"KubeletConfiguration.{field}.{signal}: {problem}"
        for field, values in (("evictionHard", kubelet.eviction_hard), ("evictionSoft", kubelet.eviction_soft))
        for signal, value in values.items()
        if (problem := eviction.problem(signal, value))
    ]
    found += [
        f"KubeletConfiguration.evictionSoftGracePeriod.{signal}: required for a soft threshold"
        for signal in kubelet.eviction_soft.keys() - kubelet.eviction_soft_grace_period.keys()
    ]
    low, high = kubelet.image_gc_low_threshold_percent, kubelet.image_gc_high_threshold_percent
    if not 0 <= low <= high <= 100:
        found.append(f"KubeletConfiguration.imageGCLowThresholdPercent: {low} is not in 0-{high}")
    return found


def agent_problems(agent: AgentConfiguration) -> list[str]:
    """Name, address and endpoint."""
    found = []
    if agent.node_name and (len(agent.node_name) > 253 or not NODE_NAME.fullmatch(agent.node_name)):
        found.append(f"AgentConfiguration.nodeName: {agent.node_name!r} is not a DNS name in lower case")
    if agent.node_ip and not is_address(agent.node_ip):
        found.append(f"AgentConfiguration.nodeIP: {agent.node_ip!r} is not an IP address")
    endpoint = agent.container_runtime_endpoint
    if endpoint and not endpoint.startswith("unix:///"):
        found.append(f"AgentConfiguration.containerRuntimeEndpoint: {endpoint!r}: only unix:///path is supported")
    return found


def address_problems(kubelet: KubeletConfiguration) -> list[str]:
    """Addresses and ports."""
    found = [
        f"KubeletConfiguration.clusterDNS: {address!r} is not an IP address"
        for address in kubelet.cluster_dns
        if not is_address(address)
    ]
    for field in ("address", "healthz_bind_address"):
        if not is_address(getattr(kubelet, field)):
            found.append(f"KubeletConfiguration.{camel(field)}: {getattr(kubelet, field)!r} is not an IP address")
    for field in ("port", "healthz_port"):
        if not 0 <= getattr(kubelet, field) <= 65535:
            found.append(f"KubeletConfiguration.{field}: {getattr(kubelet, field)} is not in 0-65535")
    return found


def duration_problems(kubelet: KubeletConfiguration) -> list[str]:
    """Durations that do not parse or make no sense."""
    values = {
        "fileCheckFrequency": kubelet.file_check_frequency,
        "syncFrequency": kubelet.sync_frequency,
        "evictionPressureTransitionPeriod": kubelet.eviction_pressure_transition_period,
        "imageMinimumGCAge": kubelet.image_minimum_gc_age,
        **{f"evictionSoftGracePeriod.{s}": text for s, text in kubelet.eviction_soft_grace_period.items()},
        "nodeStatusUpdateFrequency": kubelet.node_status_update_frequency,
        "nodeStatusReportFrequency": kubelet.node_status_report_frequency,
        "crashLoopBackOff.maxContainerRestartPeriod": kubelet.crash_loop_back_off.max_container_restart_period,
    }
    found = []
    for field, text in values.items():
        try:
            if duration.parse_duration(text) <= 0:
                found.append(f"KubeletConfiguration.{field}: {text!r} is not longer than nothing")
        except ValueError as e:
            found.append(f"KubeletConfiguration.{field}: {e}")
    return found


def camel(name: str) -> str:
    """`node_ip` -> `nodeIp`: for messages."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def is_address(text: str) -> bool:
    """Whether this is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_quantity(text: str) -> bool:
    """Whether this is a Kubernetes quantity."""
    try:
        quantity.parse(text)
    except quantity.QuantityError:
        return False
    return True
