"""The proxy's own words for Services: ports and endpoints as plain frozen values. PURE."""

from dataclasses import dataclass
from typing import NamedTuple

HEADLESS = "None"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ZONE_LABEL = "topology.kubernetes.io/zone"


class ServiceKey(NamedTuple):
    """A Service by namespace and name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisNode:
    """What the rules of this node depend on: its name, its zone, and the addresses NodePorts are served on."""

    name: str
    zone: str = ""
    node_port_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service with everything it is served on; `protocol` is `tcp`, `udp` or `sctp`.

    `title` is upstream's `namespace/name:port`. `affinity` is in seconds, 0 without. `sources` are the blocks that may
    use the load balancer's addresses; None is anybody.
    """

    title: str
    name: str
    protocol: str
    port: int
    node_port: int = 0
    cluster_addresses: tuple[str, ...] = ()
    external_addresses: tuple[str, ...] = ()
    balancer_addresses: tuple[str, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    affinity: int = 0
    sources: tuple[str, ...] | None = None
    health_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address and port behind a Service port, with the conditions and hints of its slice."""

    address: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    node: str
    for_zones: frozenset[str] = frozenset()
    for_nodes: frozenset[str] = frozenset()

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4
