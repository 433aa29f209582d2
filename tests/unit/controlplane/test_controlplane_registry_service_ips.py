"""Cluster addresses and node ports: which are handed out, which are refused and why, and what goes back."""

from typing import Any

import pytest

from controlplane.apiserver.registry import node_ports, service_allocation, service_ips
from kube.status import ApiError

CIDR = "10.96.0.0/16"


def first(_limit: int) -> int:
    return 0


def refused(ips: service_ips.ClusterIPs, text: str) -> str:
    with pytest.raises(service_ips.AllocationError) as caught:
        ips.allocate(text)
    return str(caught.value)


def test_dynamic_addresses_come_from_above_the_lower_band() -> None:
    ips = service_ips.ClusterIPs(CIDR, choose=first)
    assert [ips.allocate(), ips.allocate()] == ["10.96.1.1", "10.96.1.2"]


def test_the_lower_band_is_used_when_nothing_else_is_free() -> None:
    ips = service_ips.ClusterIPs("10.0.0.0/27", choose=first)
    found = [ips.allocate() for _ in range(30)]
    assert (found[0], found[13], found[14], len(set(found))) == ("10.0.0.17", "10.0.0.30", "10.0.0.1", 30)
    with pytest.raises(service_ips.AllocationError, match="range is full"):
        ips.allocate()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.96.0.1", "provided IP is already allocated"),
        ("10.97.0.1", "the provided network does not match the current range"),
        ("fd00::1", "the provided network does not match the current range"),
        (
            "10.96.0.0",
            "the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_had_says_why(text: str, why: str) -> None:
    ips = service_ips.ClusterIPs(CIDR)
    ips.allocate("10.96.0.1")
    assert refused(ips, text) == why


def test_a_released_address_is_free_again() -> None:
    ips = service_ips.ClusterIPs(CIDR)
    ips.allocate("10.96.0.1")
    ips.release("10.96.0.1")
    ips.release("nonsense")
    assert ips.allocate("10.96.0.1") == "10.96.0.1"


def test_addresses_are_learnt_from_the_stored_services() -> None:
    ips = service_ips.ClusterIPs(CIDR)
    ips.rebuild([{"spec": {"clusterIPs": ["10.96.0.7"]}}, {"spec": {"clusterIPs": ["None"]}}, {"spec": {}}])
    assert "10.96.0.7" in ips
    assert refused(ips, "10.96.0.7") == service_ips.ALLOCATED


def test_an_address_taken_elsewhere_is_passed_over() -> None:
    ips = service_ips.ClusterIPs(CIDR, choose=first)
    assert ips.allocate(taken=["10.96.1.1"]) == "10.96.1.2"


def test_node_ports_are_learnt_handed_out_and_refused() -> None:
    ports = node_ports.NodePorts(choose=first)
    ports.rebuild([{"spec": {"ports": [{"nodePort": 30100}], "healthCheckNodePort": 30200}}])
    assert ports.allocate() == 30086
    assert 30200 in ports
    with pytest.raises(service_ips.AllocationError, match="provided port is already allocated"):
        ports.allocate(30100)
    with pytest.raises(service_ips.AllocationError) as caught:
        ports.allocate(80)
    assert str(caught.value) == ("provided port is not in the valid range. The range of valid ports is 30000-32767")


class Cluster:
    """Both allocators with predictable choices."""

    def __init__(self) -> None:
        self.ips = service_ips.ClusterIPs(CIDR, choose=first)
        self.ports = node_ports.NodePorts(choose=first)
        self.allocation = service_allocation.ServiceAllocation(self.ips, self.ports)

    def prepare(self, spec: dict[str, Any], old: dict[str, Any] | None = None) -> service_allocation.Lease:
        before = None if old is None else {"spec": old}
        return self.allocation.prepare({"metadata": {"name": "web"}, "spec": spec}, old=before)


def test_a_service_gets_an_address() -> None:
    spec: dict[str, Any] = {"type": "ClusterIP", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
    Cluster().prepare(spec)
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("10.96.1.1", ["10.96.1.1"])


def test_a_failed_write_gives_everything_back() -> None:
    cluster = Cluster()
    spec: dict[str, Any] = {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}
    cluster.prepare(spec).undo()
    assert spec["clusterIP"] not in cluster.ips
    assert spec["ports"][0]["nodePort"] not in cluster.ports


def test_an_update_keeps_its_address_and_takes_none() -> None:
    cluster = Cluster()
    held = {"type": "ClusterIP", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]}
    cluster.allocation.rebuild([{"spec": held}])
    cluster.prepare(dict(held), old=held).undo()
    assert "10.96.0.5" in cluster.ips


def test_becoming_another_name_frees_the_address_once_stored() -> None:
    cluster = Cluster()
    held = {"type": "ClusterIP", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]}
    cluster.allocation.rebuild([{"spec": held}])
    lease = cluster.prepare({"type": "ExternalName", "externalName": "x"}, old=held)
    assert "10.96.0.5" in cluster.ips
    lease.commit()
    assert "10.96.0.5" not in cluster.ips


def test_two_protocols_share_a_node_port() -> None:
    cluster = Cluster()
    ports = [{"port": 53, "protocol": protocol, "nodePort": 30053} for protocol in ("TCP", "UDP")]
    cluster.prepare({"type": "NodePort", "ports": ports})
    assert 30053 in cluster.ports


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]},
            'spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: '
            "provided IP is already allocated",
        ),
        (
            {"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"},
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
            "this cluster is not configured for dual-stack services",
        ),
        (
            {"type": "ClusterIP", "ipFamilies": ["IPv6"]},
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. "
            "The range of valid ports is 30000-32767",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_an_invalid_service(spec: dict[str, Any], message: str) -> None:
    cluster = Cluster()
    cluster.ips.allocate("10.96.0.1")
    with pytest.raises(ApiError) as caught:
        cluster.prepare(spec)
    assert (caught.value.code, caught.value.message) == (422, f'Service "web" is invalid: {message}')
    assert cluster.ips.allocate() == "10.96.1.1"


def test_a_deleted_service_frees_all_it_held() -> None:
    cluster = Cluster()
    obj = {"spec": {"clusterIPs": ["10.96.0.5"], "ports": [{"nodePort": 30001}]}}
    cluster.allocation.rebuild([obj])
    cluster.allocation.release(obj)
    assert "10.96.0.5" not in cluster.ips
    assert 30001 not in cluster.ports
