"""`KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1): the fields that we serve; others are refused by name.

Fields of upstream's that we do not serve may stand there empty or with upstream's default, as in the files its tools
write.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any

import msgspec

from kube.runtime import config as documents
from kube.runtime import duration
from kube.runtime.config import ConfigError, Document, Section

KIND = "KubeProxyConfiguration"
MODES = ("", "nftables", "iptables", "legacy")
PRIMARY = "primary"
EMPTY = (None, "", 0, False, "0s", "0")
DEFAULTS: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "bindAddress": ("0.0.0.0", "::"),
        "bindAddressHardFail": (),
        "configSyncPeriod": ("15m", "15m0s"),
        "conntrack.udpStreamTimeout": (),
        "conntrack.udpTimeout": (),
        "detectLocal": (),
        "detectLocalMode": ("ClusterCIDR",),
        "enableProfiling": (),
        "featureGates": (),
        "iptables.masqueradeAll": (),
        "iptables.masqueradeBit": (14,),
        "iptables.minSyncPeriod": ("1s",),
        "iptables.syncPeriod": ("30s",),
        "ipvs": (),
        "logging.flushFrequency": (5000000000, "5s"),
        "logging.format": ("text",),
        "logging.options": (),
        "logging.verbosity": (),
        "nftables.masqueradeAll": (),
        "nftables.masqueradeBit": (14,),
        "nftables.minSyncPeriod": ("1s",),
        "nftables.syncPeriod": ("30s",),
        "oomScoreAdj": (-999,),
        "portRange": (),
        "showHiddenMetricsForVersion": (),
        "windowsRunAsService": (),
        "winkernel": (),
    }
)
"""Upstream's fields that we do not serve, with the values, besides empty ones, that they may have."""


class ClientConnection(Section, frozen=True, kw_only=True):
    """How the proxy reaches the API when it has credentials of its own."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0
    burst: int = 0


class Iptables(Section, frozen=True, kw_only=True):
    """What concerns the iptables modes alone."""

    localhost_node_ports: bool = True


class Conntrack(Section, frozen=True, kw_only=True):
    """The kernel's connection table; larger values of the host's are left alone. `max_per_core` 0 leaves its size."""

    max_per_core: int = 32768
    min: int = 131072
    tcp_established_timeout: str = "24h"
    tcp_close_wait_timeout: str = "1h"
    tcp_be_liberal: bool = False

    def __post_init__(self) -> None:
        for name, value in (("maxPerCore", self.max_per_core), ("min", self.min)):
            if value < 0:
                raise ValueError(f"{name}: {value} is negative")
        for text in (self.tcp_established_timeout, self.tcp_close_wait_timeout):
            duration.parse_duration(text)


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
    iptables: Iptables = Iptables()
    conntrack: Conntrack = Conntrack()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is not served: use {', '.join(MODES[1:])} or none")
        for name, value in (("healthzBindAddress", self.health_address), ("metricsBindAddress", self.metrics_address)):
            split_address(value, name=name)
        duration.parse_duration(self.sync_period)
        for block in self.cluster_cidrs:
            _check_block(block, name="clusterCIDR")
        for block in self.node_port_addresses:
            if block == PRIMARY and len(self.node_port_addresses) > 1:
                raise ValueError(f"nodePortAddresses: {PRIMARY!r} stands alone")
            if block != PRIMARY:
                _check_block(block, name="nodePortAddresses")

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        """The pod ranges, when configured: who is outside them is masqueraded towards cluster addresses."""
        return tuple(filter(None, self.cluster_cidr.split(",")))


def read(kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> KubeProxyConfiguration:
    """The configuration among these documents, or the defaults. Raises ConfigError."""
    found = documents.merged(kinds.get(KIND) or [{"kind": KIND}])
    return documents.decode(Document(_said(found, ""), source=found.source), KubeProxyConfiguration)


def _said(body: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that say something, and those that we must refuse."""
    kept = {}
    for name, value in body.items():
        place = where + name
        if isinstance(value, dict):
            below = _said(value, place + ".")
            if below or not _known(place):
                kept[name] = below
        elif not _silent(place, value):
            kept[name] = value
    return kept


def _silent(place: str, value: Any) -> bool:
    known = next(
        (values for field, values in DEFAULTS.items() if place == field or place.startswith(field + ".")), None
    )
    if known is None:
        return value is None or (value == "" and _served(place))
    return (not isinstance(value, list) and value in EMPTY) or value == [] or value in known


def _known(place: str) -> bool:
    return _served(place) or any(f"{place}.".startswith(f"{f}.") or f.startswith(f"{place}.") for f in DEFAULTS)


def _served(place: str) -> bool:
    return place.partition(".")[0] in {field.encode_name for field in msgspec.structs.fields(KubeProxyConfiguration)}


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
