"""The server's configuration: one YAML kind, checked before anything is opened. Knows no component."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from controlplane import errors
from kube.runtime import config, duration

KIND = "ServerConfiguration"
API_VERSION = "nodeagent/v1"


class ServerConfiguration(config.Section, frozen=True, kw_only=True):
    """`nodeagent/v1 ServerConfiguration`; every field has a default that suits one machine."""

    data_dir: str = "/var/lib/nodeagent/server"
    pki_dir: str = "/etc/nodeagent/pki"
    listen: list[str] = msgspec.field(default_factory=lambda: ["0.0.0.0:6443"])
    advertise_address: str = ""
    service_cidr: str = msgspec.field(default="10.96.0.0/16", name="serviceCIDR")
    cluster_cidr: str = msgspec.field(default="10.244.0.0/16", name="clusterCIDR")
    node_cidr_mask_size: int = msgspec.field(default=24, name="nodeCIDRMaskSize")
    cluster_domain: str = "cluster.local"
    cluster_dns: str = msgspec.field(default="10.96.0.10", name="clusterDNS")
    extra_sans: list[str] = msgspec.field(default_factory=list, name="extraSANs")
    node_monitor_grace_period: str = "50s"
    """How long a node may be silent before it is NotReady (kube-controller-manager's --node-monitor-grace-period)."""
    kubeconfig: str = ""
    kubeconfig_server: str = ""
    verify_kubelets: bool = True
    """Check kubelets' serving certificates against the cluster's CA; off for those with certificates of their own."""
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration, checked, with what follows from it."""

    raw: ServerConfiguration
    data: Path
    pki: Path
    listen: tuple[str, ...]
    advertise: str
    port: int
    services: ipaddress.IPv4Network
    cluster: ipaddress.IPv4Network
    mask: int
    zone: str
    dns: str
    grace: float
    """Seconds a node may be silent."""

    @property
    def service_ip(self) -> str:
        """The address of the Service default/kubernetes: the first of the range."""
        return str(self.services[1])

    @property
    def issuer(self) -> str:
        """Issuer and default audience of service account tokens."""
        return f"https://kubernetes.default.svc.{self.zone}"


def load(path: Path) -> Settings:
    """Read and check the configuration; ConfigurationError names file, field and reason."""
    try:
        raw = config.one(config.load(path), KIND, ServerConfiguration)
    except config.ConfigError as e:
        raise errors.ConfigurationError(str(e)) from e
    return check(raw)


def check(raw: ServerConfiguration) -> Settings:
    """The configuration as usable values; ConfigurationError names the field and the reason."""
    services = _network("serviceCIDR", raw.service_cidr)
    cluster = _network("clusterCIDR", raw.cluster_cidr)
    if services.overlaps(cluster):
        raise _refused("clusterCIDR", raw.cluster_cidr, f"overlaps serviceCIDR {services}")
    if not cluster.prefixlen < raw.node_cidr_mask_size <= 30:
        raise _refused("nodeCIDRMaskSize", raw.node_cidr_mask_size, f"must be above {cluster.prefixlen} and at most 30")
    dns = _address("clusterDNS", raw.cluster_dns)
    if dns not in services or dns == services[1]:
        raise _refused("clusterDNS", raw.cluster_dns, f"must be in serviceCIDR {services}, and not its first address")
    if not raw.listen:
        raise _refused("listen", raw.listen, "name at least one ip:port")
    ports = [_listen(text) for text in raw.listen]
    advertise = raw.advertise_address or _advertised(raw.listen)
    address = _address("advertiseAddress", advertise)
    return Settings(
        raw,
        Path(raw.data_dir),
        Path(raw.pki_dir),
        tuple(raw.listen),
        str(address),
        ports[0],
        services,
        cluster,
        raw.node_cidr_mask_size,
        raw.cluster_domain.strip("."),
        str(dns),
        _seconds("nodeMonitorGracePeriod", raw.node_monitor_grace_period),
    )


def _seconds(field: str, text: str) -> float:
    try:
        seconds = duration.parse_duration(text)
    except ValueError as e:
        raise _refused(field, text, str(e)) from e
    if seconds < 1:
        raise _refused(field, text, "must be at least 1s")
    return seconds


def _advertised(listen: list[str]) -> str:
    hosts = [text.rpartition(":")[0].strip("[]") for text in listen]
    named = [host for host in hosts if not ipaddress.ip_address(host).is_unspecified]
    outside = [host for host in named if not ipaddress.ip_address(host).is_loopback]
    if not named:
        raise _refused("advertiseAddress", "", "required, since `listen` names no address of this machine")
    return (outside or named)[0]


def _listen(text: str) -> int:
    host, _, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as e:
        raise _refused("listen", text, "want ip:port") from e
    if not 0 < number < 65536:
        raise _refused("listen", text, "the port must be between 1 and 65535")
    return number


def _network(field: str, text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as e:
        raise _refused(field, text, str(e)) from e
    if not 8 <= network.prefixlen <= 28:
        raise _refused(field, text, "the prefix must be between /8 and /28")
    return network


def _address(field: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as e:
        raise _refused(field, text, "want an IP address") from e


def _refused(field: str, value: object, reason: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(f"{KIND}: {field}: {value!r}: {reason}")
