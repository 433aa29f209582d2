"""`DNSConfiguration` (nodeagent/v1): where the DNS server listens, what it serves, whom it asks for other names."""

import msgspec

from kube.runtime.config import Section
from proxy.dns import zone

KIND = "DNSConfiguration"
MAX_TTL = 3600


class DNSConfiguration(Section, frozen=True, kw_only=True):
    """`forward`: upstream servers, else those of resolv.conf; `ttl` in seconds; `address` defaults to the node's."""

    node_name: str
    node_ip: str = msgspec.field(name="nodeIP", default="")
    kubeconfig: str
    cluster_domain: str = "cluster.local"
    address: str = ""
    port: int = 10053
    service: str = "kube-dns"
    namespace: str = "kube-system"
    ttl: int = 5
    pods: str = zone.INSECURE
    forward: tuple[str, ...] = ()
    health_address: str = "127.0.0.1:8080"
    ready_address: str = "127.0.0.1:8181"
    metrics_address: str = "127.0.0.1:9153"

    def __post_init__(self) -> None:
        if not 0 <= self.ttl <= MAX_TTL:
            raise ValueError(f"ttl: {self.ttl} is not between 0 and {MAX_TTL}")
        if self.pods not in (zone.INSECURE, zone.DISABLED):
            raise ValueError(f"pods: {self.pods!r} is neither {zone.INSECURE!r} nor {zone.DISABLED!r}")
        if not 0 < self.port < 65536:
            raise ValueError(f"port: {self.port} is not a port")
