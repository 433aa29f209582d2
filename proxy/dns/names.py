"""Which names a Service has in the cluster's zone, and what they say. PURE.

Follows the Kubernetes DNS specification 1.1.0. Names are given as dotted text and handed out in wire format. What
cannot be a name or an address is left out, never an error: one malformed object costs the others nothing.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from proxy.dns import wire
from proxy.dns.views import HEADLESS, EndpointSlice, Pod, Port, Service


class Record(NamedTuple):
    """One record: its name in wire format, type (0: the name just exists) and data."""

    name: bytes
    type: int
    data: bytes


def service_name(service: Service, zone: str) -> str:
    """`<svc>.<ns>.svc.<zone>`."""
    return f"{service.metadata.name}.{service.metadata.namespace}.svc.{zone}"


def records(service: Service, slices: Iterable[EndpointSlice], *, zone: str) -> Iterator[Record]:
    """Every record of a Service, each once."""
    found = [*of_service(service, zone=zone), *(each for one in slices for each in of_slice(service, one, zone=zone))]
    yield from dict.fromkeys(found)


def of_service(service: Service, *, zone: str) -> Iterator[Record]:
    """The records that a Service has whatever its endpoints."""
    if service.spec.type == "ExternalName":
        yield from _external(service, zone=zone)
    elif service.spec.cluster_ip != HEADLESS:
        yield from _with_address(service, zone=zone)


def of_slice(service: Service, found: EndpointSlice, *, zone: str) -> Iterator[Record]:
    """The records that one slice adds: of a headless Service only."""
    if service.spec.type == "ExternalName" or service.spec.cluster_ip != HEADLESS:
        return
    name = service_name(service, zone)
    for endpoint, address in _addresses(found, all_of_them=service.spec.publish_not_ready_addresses):
        own = f"{endpoint}.{name}"
        yield from _address(name, address)
        yield from _address(own, address)
        yield from _pointer(address, own)
        for port in found.ports:
            yield from _service_record(port, owner=name, target=own)


def all_ports(service: Service, slices: Iterable[EndpointSlice], *, zone: str) -> Iterator[bytes]:
    """SRV data of a question for the bare Service name: every port, named or not, as CoreDNS answers."""
    name = service_name(service, zone)
    if service.spec.type == "ExternalName":
        return
    if service.spec.cluster_ip != HEADLESS:
        for port in service.spec.ports:
            if port.port and (target := _name(name)):
                yield wire.srv_data(port.port, target)
        return
    for each in slices:
        for endpoint, _ in _addresses(each, all_of_them=service.spec.publish_not_ready_addresses):
            for port in each.ports:
                if port.port and (target := _name(f"{endpoint}.{name}")):
                    yield wire.srv_data(port.port, target)


def pod_records(pod: Pod, *, zone: str) -> Iterator[Record]:
    """`a-b-c-d.<ns>.pod.<zone>` of a pod that runs, for mode verified."""
    if pod.status.phase in ("Succeeded", "Failed"):
        return
    for address in pod.status.pod_ips:
        name = f"{dashed(address.ip)}.{pod.metadata.namespace}.pod.{zone}"
        yield from _address(name, address.ip)


def endpoint_name(hostname: str | None, address: str) -> str:
    """The endpoint's hostname, else its address with dashes."""
    return hostname.lower() if hostname else dashed(address)


def dashed(address: str) -> str:
    """An address as one label."""
    return address.replace(".", "-").replace(":", "-")


def name_server(service: Service, *, zone: str) -> Iterator[Record]:
    """The address of `ns.dns.<zone>`: the cluster DNS Service's."""
    for address in addresses(service):
        yield from _address(f"ns.dns.{zone}", address)


def addresses(service: Service) -> list[str]:
    """The cluster addresses of a Service."""
    found = service.spec.cluster_ips or (service.spec.cluster_ip,)
    return [address for address in found if address and address != HEADLESS]


def marker(name: str) -> Record | None:
    """What makes a name exist without any record."""
    return Record(found, 0, b"") if (found := _name(name)) else None


def _external(service: Service, *, zone: str) -> Iterator[Record]:
    name, target = _name(service_name(service, zone)), _name(service.spec.external_name.rstrip("."))
    if name and target and len(target) > 1:
        yield Record(name, wire.CNAME, target)


def _with_address(service: Service, *, zone: str) -> Iterator[Record]:
    name = service_name(service, zone)
    for address in addresses(service):
        yield from _address(name, address)
        yield from _pointer(address, name)
    for port in service.spec.ports:
        yield from _service_record(port, owner=name, target=name)


def _addresses(each: EndpointSlice, *, all_of_them: bool) -> Iterator[tuple[str, str]]:
    """(endpoint name, address) of what may be named."""
    if each.address_type == "FQDN":
        return
    for endpoint in each.endpoints:
        if endpoint.conditions.ready is not False or all_of_them:
            for address in endpoint.addresses:
                yield endpoint_name(endpoint.hostname, address), address


def _address(name: str, address: str) -> Iterator[Record]:
    owner = _name(name)
    try:
        kind, data = wire.address_data(address)
    except ValueError:
        return
    if owner:
        yield Record(owner, kind, data)


def _pointer(address: str, name: str) -> Iterator[Record]:
    try:
        owner = _name(ip_address(address).reverse_pointer)
    except ValueError:
        return
    target = _name(name)
    if owner and target:
        yield Record(owner, wire.PTR, target)


def _service_record(port: Port, *, owner: str, target: str) -> Iterator[Record]:
    if port.name and port.port:
        name, end = _name(f"_{port.name}._{port.protocol.lower()}.{owner}"), _name(target)
        if name and end:
            yield Record(name, wire.SRV, wire.srv_data(port.port, end))


def _name(text: str) -> bytes | None:
    try:
        return wire.encode_name(text)
    except ValueError:
        return None
