"""Entries of the connection table out of the kernel's bytes."""

import struct
from ipaddress import ip_address

import pytest

from kube.runtime import conntrack
from kube.runtime.conntrack import Side
from kube.runtime.netlink import NESTED, attribute


def tuple_of(source: str, destination: str, *, protocol: int = 17, ports: tuple[int, int] = (4000, 53)) -> bytes:
    first, second = (1, 2) if ip_address(source).version == 4 else (3, 4)
    ends = attribute(first, ip_address(source).packed) + attribute(second, ip_address(destination).packed)
    transport = attribute(1, bytes([protocol]))
    if protocol != 1:
        transport += b"".join(
            attribute(kind, struct.pack(">H", port)) for kind, port in zip((2, 3), ports, strict=True)
        )
    return attribute(1 | NESTED, ends) + attribute(2 | NESTED, transport)


def entry(version: int, client: str, service: str, endpoint: str, *, protocol: int = 17) -> conntrack.Entry:
    there, back = tuple_of(client, service, protocol=protocol), tuple_of(endpoint, client, ports=(5353, 4000))
    return conntrack.parse(version, attribute(1 | NESTED, there) + attribute(2 | NESTED, back))


@pytest.mark.parametrize(
    ("version", "client", "service", "endpoint"),
    [(4, "10.0.0.9", "10.96.0.10", "10.0.0.1"), (6, "fd00::9", "fd96::10", "fd00::1")],
)
def test_an_entry_says_who_asked_for_what_and_who_answers(
    version: int, client: str, service: str, endpoint: str
) -> None:
    found = entry(version, client, service, endpoint)
    assert found.original == Side(source=client, destination=service, source_port=4000, destination_port=53)
    assert (found.reply.source, found.reply.source_port, found.protocol) == (endpoint, 5353, 17)
    assert found.addresses == {client, service, endpoint}
    assert found.name == tuple_of(client, service)


def test_a_protocol_without_ports_has_none() -> None:
    assert entry(4, "10.0.0.9", "10.0.0.1", "10.0.0.1", protocol=1).original.destination_port == 0
