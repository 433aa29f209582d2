"""The proxy's own words for Services: ports and endpoints as plain frozen values. PURE."""

from dataclasses import dataclass
from typing import NamedTuple

HEADLESS = "None"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class ServiceKey(NamedTuple):
    """A Service by namespace and name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service with the cluster addresses it is served on; `protocol` is `tcp`, `udp` or `sctp`."""

    name: str
    protocol: str
    port: int
    addresses: tuple[str, ...]
    local_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address and port behind a Service port, with the conditions of its slice."""

    address: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    node: str
