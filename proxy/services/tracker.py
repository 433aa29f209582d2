"""From Service and EndpointSlice objects to ports and endpoints. PURE.

Says which Services the proxy handles (contract: not headless, not ExternalName, not another proxy's) and joins the
slices of a Service. Must not choose among endpoints (see `endpoints.py`).
"""

from collections.abc import Iterable

from kube.types import EndpointSlice, Service
from proxy.services.model import HEADLESS, HEADLESS_LABEL, PROXY_NAME_LABEL, Endpoint, ServicePort

IP_FAMILIES = {"IPv4": 4, "IPv6": 6}


def ports(service: Service | None) -> tuple[ServicePort, ...]:
    """The ports to serve; none for a Service that is not the proxy's business."""
    if service is None or not _handled(service):
        return ()
    spec = service.spec
    addresses = tuple(ip for ip in spec.cluster_ips or (spec.cluster_ip,) if ip and ip != HEADLESS)
    return tuple(
        ServicePort(
            name=port.name,
            protocol=port.protocol.lower(),
            port=port.port,
            addresses=addresses,
            local_only=spec.internal_traffic_policy == "Local",
        )
        for port in spec.ports
    )


def endpoints(slices: Iterable[EndpointSlice], port: ServicePort) -> frozenset[Endpoint]:
    """Every endpoint of a Service port, over all its slices; equal ones are one."""
    return frozenset(found for each in slices if not _foreign(each) for found in _of_slice(each, port))


def _handled(service: Service) -> bool:
    spec = service.spec
    if spec.type == "ExternalName" or PROXY_NAME_LABEL in service.metadata.labels:
        return False
    return spec.cluster_ip not in ("", HEADLESS)


def _foreign(found: EndpointSlice) -> bool:
    labels = found.metadata.labels
    return HEADLESS_LABEL in labels or PROXY_NAME_LABEL in labels or found.address_type not in IP_FAMILIES


def _of_slice(found: EndpointSlice, port: ServicePort) -> Iterable[Endpoint]:
    for offered in found.ports:
        if (offered.name or "") != port.name or offered.protocol.lower() != port.protocol or not offered.port:
            continue
        for endpoint in found.endpoints:
            conditions = endpoint.conditions
            ready = conditions.ready is not False
            for address in endpoint.addresses[:1]:
                yield Endpoint(
                    address=address,
                    port=offered.port,
                    ready=ready,
                    serving=ready if conditions.serving is None else conditions.serving,
                    terminating=bool(conditions.terminating),
                    node=endpoint.node_name or "",
                )
