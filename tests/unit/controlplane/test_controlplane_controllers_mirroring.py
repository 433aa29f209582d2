"""Hand-made Endpoints as slices: what is shown, what is left alone, and how little is rewritten."""

from typing import Any

import msgspec
import pytest

from controlplane.controllers import mirroring, writes
from controlplane.projection import Endpoints, EndpointSlice, Service

PORTS = [{"name": "web", "port": 80}]


def service(**spec: Any) -> Service:
    meta = {"name": "db", "namespace": "default", "uid": "s"}
    return msgspec.convert({"metadata": meta, "spec": {"ports": PORTS, **spec}}, Service)


def endpoints(*addresses: str, ports: Any = PORTS, **meta: Any) -> Endpoints:
    known = {"name": "db", "namespace": "default", "uid": "e"} | meta
    subset = {"addresses": [{"ip": address} for address in addresses], "ports": ports}
    return msgspec.convert({"metadata": known, "subsets": [subset]}, Endpoints)


def made(planned: tuple[writes.Write, ...]) -> list[EndpointSlice]:
    """The slices as the API server holds them after the creations."""
    bodies = [write.body for write in planned if isinstance(write, writes.Create)]
    return [
        msgspec.convert({**body, "metadata": body["metadata"] | {"name": f"db-{n}", "uid": f"u{n}"}}, EndpointSlice)
        for n, body in enumerate(bodies)
    ]


def test_endpoints_of_a_service_without_selector_become_a_slice() -> None:
    (write,) = mirroring.plan(endpoints("10.1.2.3"), service(), ())
    assert isinstance(write, writes.Create)
    assert write.body["addressType"] == "IPv4"
    assert write.body["endpoints"] == [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}]
    assert write.body["ports"] == [{"name": "web", "port": 80, "protocol": "TCP"}]
    assert write.body["metadata"]["labels"]["kubernetes.io/service-name"] == "db"
    assert write.body["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"


def test_what_is_shown_already_is_not_written_and_a_change_is_one_write() -> None:
    first = made(mirroring.plan(endpoints("10.1.2.3"), service(), ()))
    assert mirroring.plan(endpoints("10.1.2.3"), service(), first) == ()
    (write,) = mirroring.plan(endpoints("10.2.3.4"), service(), first)
    assert isinstance(write, writes.Patch)
    assert write.body["endpoints"][0]["addresses"] == ["10.2.3.4"]


def test_both_ip_versions_and_each_set_of_ports_have_a_slice_of_their_own() -> None:
    given = endpoints("10.1.2.3", "fd00::1")
    given.subsets = (
        *given.subsets,
        {"notReadyAddresses": [{"ip": "10.1.2.3", "nodeName": "n1"}], "ports": [{"port": 9}]},
    )
    slices = made(mirroring.plan(given, service(), ()))
    assert sorted((each.address_type, each.ports[0]["port"]) for each in slices) == [
        ("IPv4", 9),
        ("IPv4", 80),
        ("IPv6", 80),
    ]
    (late,) = (each for each in slices if each.ports[0]["port"] == 9)
    assert late.endpoints == ({"addresses": ["10.1.2.3"], "conditions": {"ready": False}, "nodeName": "n1"},)
    assert mirroring.plan(given, service(), slices) == ()


@pytest.mark.parametrize(
    ("given", "of"),
    [
        (None, service()),
        (endpoints("10.1.2.3"), None),
        (endpoints("10.1.2.3"), service(selector={"app": "db"})),
        (endpoints("10.1.2.3", labels={mirroring.SKIP: "true"}), service()),
        (endpoints("10.1.2.3", annotations={mirroring.LEADER: "x"}), service()),
        (endpoints("10.1.2.3", deletionTimestamp="2026-01-01T00:00:00Z"), service()),
    ],
)
def test_slices_of_what_is_not_mirrored_any_more_go(given: Endpoints | None, of: Service | None) -> None:
    slices = made(mirroring.plan(endpoints("10.1.2.3"), service(), ()))
    assert [type(write) for write in mirroring.plan(given, of, slices)] == [writes.Delete]
    assert mirroring.plan(given, of, ()) == ()


def test_an_address_that_is_none_is_left_out_and_labels_are_taken_over() -> None:
    (found,) = made(mirroring.plan(endpoints("10.1.2.3", "x", labels={"app": "db"}), service(), ()))
    assert len(found.endpoints) == 1
    assert found.metadata.labels["app"] == "db"
