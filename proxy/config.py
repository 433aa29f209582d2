"""`KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1): the fields that we serve; others are refused by name."""

from ipaddress import ip_network

import msgspec

from kube.runtime import duration
from kube.runtime.config import ConfigError, Section

KIND = "KubeProxyConfiguration"
MODES = ("", "nftables", "iptables", "legacy")
PRIMARY = "primary"


class ClientConnection(Section, frozen=True, kw_only=True):
    """How the proxy reaches the API when it has credentials of its own."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0
    burst: int = 0


class KubeProxyConfiguration(Section, frozen=True, kw_only=True):
    """Upstream's kind; the mode `legacy`, iptables in the legacy tables, is ours.

    `sync_period` is how old a queued write may be before `/healthz` fails, doubled.
    """

    mode: str = ""
    cluster_cidr: str = msgspec.field(name="clusterCIDR", default="")
    health_address: str = msgspec.field(name="healthzBindAddress", default="0.0.0.0:10256")
    metrics_address: str = msgspec.field(name="metricsBindAddress", default="127.0.0.1:10249")
    hostname_override: str = ""
    client_connection: ClientConnection = ClientConnection()
    sync_period: str = "30s"
    node_port_addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is not served: use {', '.join(MODES[1:])} or none")
        for name, value in (("healthzBindAddress", self.health_address), ("metricsBindAddress", self.metrics_address)):
            split_address(value, name=name)
        duration.parse_duration(self.sync_period)
        for block in self.node_port_addresses:
            if block == PRIMARY and len(self.node_port_addresses) > 1:
                raise ValueError(f"nodePortAddresses: {PRIMARY!r} stands alone")
            if block != PRIMARY:
                _check_block(block, name="nodePortAddresses")

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        """The pod ranges, when configured: who is outside them is masqueraded towards cluster addresses."""
        return tuple(filter(None, self.cluster_cidr.split(",")))


def _check_block(text: str, *, name: str) -> None:
    try:
        ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} is not an address block: {error}") from error


def split_address(value: str, *, name: str) -> tuple[str, int]:
    """`address:port` as a pair. Raises ConfigError naming the field."""
    address, sign, port = value.rpartition(":")
    if not sign or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{KIND}: {name}: {value!r} is not address:port")
    return address.strip("[]"), int(port)
