"""Which names a Service has in the cluster's zone, and what they say. PURE.

Follows the Kubernetes DNS specification 1.1.0. Names are dotted text without the final dot, lower case; `zone` is such
a name. Must not know the wire format of messages (record data is made by `wire`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from kube.types import EndpointSlice, Service
from proxy.dns import wire
from proxy.services.model import HEADLESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record: its name, type and data."""

    name: str
    type: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One endpoint address of a headless Service with the name it has below the Service's."""

    name: str
    address: str


def service_name(service: Service, zone: str) -> str:
    """`<svc>.<ns>.svc.<zone>`."""
    return f"{service.metadata.name}.{service.metadata.namespace}.svc.{zone}"


def reverse_name(address: str) -> str:
    """`4.3.2.1.in-addr.arpa` or its IPv6 form."""
    return ip_address(address).reverse_pointer


def records(service: Service, slices: Iterable[EndpointSlice], *, zone: str) -> Iterator[Record]:
    """Every record of a Service; also those of names that only lead to others are the caller's to derive."""
    if service.spec.type == "ExternalName":
        yield from _external(service, zone=zone)
    elif service.spec.cluster_ip == HEADLESS:
        yield from _headless(service, tuple(slices), zone=zone)
    else:
        yield from _with_address(service, zone=zone)


def endpoint_name(hostname: str | None, address: str) -> str:
    """The endpoint's hostname, else its address with dashes."""
    return hostname.lower() if hostname else address.replace(".", "-").replace(":", "-")


def _external(service: Service, *, zone: str) -> Iterator[Record]:
    target = service.spec.external_name.rstrip(".")
    if target:
        yield Record(name=service_name(service, zone), type=wire.CNAME, data=wire.encode_name(target))


def _with_address(service: Service, *, zone: str) -> Iterator[Record]:
    name = service_name(service, zone)
    target = wire.encode_name(name)
    for address in service.spec.cluster_ips or (service.spec.cluster_ip,):
        if address:
            kind, data = wire.address_data(address)
            yield Record(name=name, type=kind, data=data)
            yield Record(name=reverse_name(address), type=wire.PTR, data=target)
    for port in service.spec.ports:
        if port.name:
            owner = f"_{port.name}._{port.protocol.lower()}.{name}"
            yield Record(name=owner, type=wire.SRV, data=wire.srv_data(port.port, target))


def _headless(service: Service, slices: tuple[EndpointSlice, ...], *, zone: str) -> Iterator[Record]:
    name = service_name(service, zone)
    found: dict[Record, None] = {}
    for each in slices:
        if each.address_type == "FQDN":
            continue
        for address in _addresses(each, all_of_them=service.spec.publish_not_ready_addresses):
            kind, data = wire.address_data(address.address)
            own = f"{address.name}.{name}"
            found[Record(name=name, type=kind, data=data)] = None
            found[Record(name=own, type=kind, data=data)] = None
            found[Record(name=reverse_name(address.address), type=wire.PTR, data=wire.encode_name(own))] = None
            for port in each.ports:
                if port.name and port.port:
                    owner = f"_{port.name}._{port.protocol.lower()}.{name}"
                    srv = wire.srv_data(port.port, wire.encode_name(own))
                    found[Record(name=owner, type=wire.SRV, data=srv)] = None
    yield from found


def _addresses(each: EndpointSlice, *, all_of_them: bool) -> Iterator[Address]:
    for endpoint in each.endpoints:
        if endpoint.conditions.ready is False and not all_of_them:
            continue
        for address in endpoint.addresses:
            yield Address(name=endpoint_name(endpoint.hostname, address), address=address)


def name_server(service: Service, *, zone: str) -> Iterator[Record]:
    """The address of `ns.dns.<zone>`: the cluster DNS Service's."""
    for address in service.spec.cluster_ips or (service.spec.cluster_ip,):
        if address and address != HEADLESS:
            kind, data = wire.address_data(address)
            yield Record(name=f"ns.dns.{zone}", type=kind, data=data)
