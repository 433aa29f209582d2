"""From Service and EndpointSlice objects to ports and endpoints. PURE.

Says which Services the proxy handles (contract: not headless, not ExternalName, not another proxy's), on which
addresses, and joins the slices of a Service. What is not an address, a block or a port is left out: one wrong object
costs itself only. Must not choose among endpoints (see `endpoints.py`).
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

from kube.types import EndpointSlice, Service
from proxy.services.model import (
    HEADLESS,
    HEADLESS_LABEL,
    PROXY_NAME_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    ServiceKey,
    ServicePort,
)

IP_FAMILIES = {"IPv4": 4, "IPv6": 6}
PROTOCOLS = ("tcp", "udp", "sctp")
DEFAULT_AFFINITY_SECONDS = 10800
MAX_AFFINITY_SECONDS = 86400


def ports(service: Service | None) -> tuple[ServicePort, ...]:
    """The ports to serve; none for a Service that is not the proxy's business."""
    if service is None or not _handled(service):
        return ()
    spec, meta = service.spec, service.metadata
    key = f"{meta.namespace}/{meta.name}"
    balancer = _balancer(service)
    return tuple(
        ServicePort(
            title=f"{key}:{port.name}" if port.name else key,
            name=port.name,
            protocol=port.protocol.lower(),
            port=port.port,
            node_port=port.node_port if 0 < port.node_port < 65536 and spec.type != "ClusterIP" else 0,
            cluster_addresses=_addresses(spec.cluster_ips or (spec.cluster_ip,)),
            external_addresses=_addresses(spec.external_ips),
            balancer_addresses=balancer,
            internal_local=spec.internal_traffic_policy == "Local",
            external_local=spec.external_traffic_policy == "Local",
            affinity=_affinity(service),
            sources=_blocks(spec.load_balancer_source_ranges),
            health_port=health_check(service) or 0,
        )
        for port in spec.ports
        if 0 < port.port < 65536 and port.protocol.lower() in PROTOCOLS
    )


def endpoints(slices: Iterable[EndpointSlice], port: ServicePort) -> frozenset[Endpoint]:
    """Every endpoint of a Service port, over all its slices; equal ones are one."""
    return frozenset(found for each in slices if not _foreign(each) for found in _of_slice(each, port))


def health_check(service: Service | None) -> int | None:
    """The Service's healthCheckNodePort, when it has one that counts."""
    if service is None or not _handled(service) or service.spec.external_traffic_policy != "Local":
        return None
    port = service.spec.health_check_node_port
    return port if 0 < port < 65536 and service.spec.type == "LoadBalancer" else None


def service_of(found: EndpointSlice) -> ServiceKey | None:
    """The Service a slice belongs to."""
    name = found.metadata.labels.get(SERVICE_NAME_LABEL)
    return ServiceKey(found.metadata.namespace, name) if name else None


def _handled(service: Service) -> bool:
    spec = service.spec
    if spec.type == "ExternalName" or PROXY_NAME_LABEL in service.metadata.labels:
        return False
    return spec.cluster_ip not in ("", HEADLESS)


def _balancer(service: Service) -> tuple[str, ...]:
    if service.spec.type != "LoadBalancer":
        return ()
    ingress = service.status.load_balancer.ingress
    return _addresses(each.ip or "" for each in ingress if each.ip_mode in (None, "VIP"))


def _affinity(service: Service) -> int:
    if service.spec.session_affinity != "ClientIP":
        return 0
    settings = service.spec.session_affinity_config
    seconds = settings.client_ip.timeout_seconds if settings and settings.client_ip else None
    return min(max(1, DEFAULT_AFFINITY_SECONDS if seconds is None else seconds), MAX_AFFINITY_SECONDS)


def _addresses(texts: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in texts:
        try:
            if "%" not in text:  # a scope may be any text, and means nothing to rules
                found[str(ip_address(text))] = None
        except ValueError:
            continue
    return tuple(found)


def _blocks(texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """None is anybody; blocks that cannot be read let nobody in."""
    if not texts:
        return None
    found: dict[int, list[IPv4Network | IPv6Network]] = {4: [], 6: []}
    for text in texts:
        try:
            network = ip_network(text.strip().replace("%", "?"), strict=False)
        except ValueError:
            continue
        found[network.version].append(network)
    # The kernel refuses a block inside another one.
    return tuple(str(block) for version in found for block in collapse_addresses(found[version]))  # type: ignore[type-var]


def _foreign(found: EndpointSlice) -> bool:
    labels = found.metadata.labels
    return HEADLESS_LABEL in labels or PROXY_NAME_LABEL in labels or found.address_type not in IP_FAMILIES


def _of_slice(found: EndpointSlice, port: ServicePort) -> Iterable[Endpoint]:
    version = IP_FAMILIES[found.address_type]
    for offered in found.ports:
        matches = (offered.name or "") == port.name and offered.protocol.lower() == port.protocol
        if not matches or not 0 < offered.port < 65536:
            continue
        for endpoint in found.endpoints:
            conditions, hints = endpoint.conditions, endpoint.hints
            ready = conditions.ready is not False
            for address in _addresses(endpoint.addresses[:1]):
                if ip_address(address).version != version:
                    continue
                yield Endpoint(
                    address=address,
                    port=offered.port,
                    ready=ready,
                    serving=ready if conditions.serving is None else conditions.serving,
                    terminating=bool(conditions.terminating),
                    node=endpoint.node_name or "",
                    for_zones=frozenset(hint.name for hint in hints.for_zones) if hints else frozenset(),
                    for_nodes=frozenset(hint.name for hint in hints.for_nodes) if hints else frozenset(),
                )
