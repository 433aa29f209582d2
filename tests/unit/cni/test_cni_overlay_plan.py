"""Which routes lead to other nodes' pods."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cni import masquerade
from cni.config import CNIConfiguration, conflist
from cni.overlay import peers, plan
from cni.overlay.plan import Change, Parent, Route
from kube.types import Node


def node(name: str, cidr: str, address: str, notes: dict[str, str] | None = None) -> Node:
    document = {
        "metadata": {"name": name, "annotations": notes or {}},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr] if cidr else []},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }
    return msgspec.convert(document, Node)


def route(destination: str, gateway: str) -> Route:
    return Route(ip_network(destination), ip_address(gateway))


PARENTS = {4: Parent(index=2, mtu=1500, networks=(ip_network("192.168.77.0/24"),))}
FLANNEL = {
    "flannel.alpha.coreos.com/backend-type": "vxlan",
    "flannel.alpha.coreos.com/backend-data": '{"VNI":1,"VtepMAC":"EE:00:00:00:00:01"}',
    "flannel.alpha.coreos.com/public-ip": "192.168.77.12",
}
OURS = FLANNEL | {"nodeagent/overlay": "auto"}
DIRECT = frozenset({route("10.244.1.0/24", "192.168.77.12")})


def through_vxlan(remote: str) -> frozenset[plan.Entry]:
    end, mac, device = ip_address("10.244.1.0"), "ee:00:00:00:00:01", "nodeagent.1"
    return frozenset(
        {
            Route(ip_network("10.244.1.0/24"), end, device),
            plan.Neighbour(end, mac, device),
            plan.Forward(mac, ip_address(remote), device),
        }
    )


@pytest.mark.parametrize(
    ("case", "mode", "notes", "expected"),
    [
        ("a node on the link that has said nothing yet", "auto", {}, DIRECT),
        ("a node of ours on the link", "auto", OURS, DIRECT),
        ("a flannel node on the link, which expects VXLAN", "auto", FLANNEL, through_vxlan("192.168.77.12")),
        (
            "a flannel node with direct routes",
            "auto",
            {"flannel.alpha.coreos.com/backend-type": "host-gw"},
            DIRECT,
        ),
        (
            "a node of ours on the link that takes VXLAN only",
            "auto",
            FLANNEL | {"nodeagent/overlay": "vxlan"},
            through_vxlan("192.168.77.12"),
        ),
        ("VXLAN only", "vxlan", OURS, through_vxlan("192.168.77.12")),
        ("direct routes only", "host-gw", FLANNEL, DIRECT),
        (
            "a node behind a router",
            "auto",
            OURS | {"flannel.alpha.coreos.com/public-ip": "203.0.113.9"},
            through_vxlan("203.0.113.9"),
        ),
    ],
)
def test_the_way_to_a_peer(case: str, mode: str, notes: dict[str, str], expected: frozenset[plan.Entry]) -> None:
    peer = peers.read(node("b", "10.244.1.0/24", "192.168.77.12", notes))
    assert plan.way_to(peer, mode=mode, parents=PARENTS, present={"nodeagent.1"}) == plan.Way(entries=expected), case


@pytest.mark.parametrize(
    ("mode", "notes", "present", "reason"),
    [
        ("auto", {}, {"nodeagent.1"}, "has not announced"),
        ("auto", {"flannel.alpha.coreos.com/backend-type": "host-gw"}, {"nodeagent.1"}, "direct routes only"),
        ("host-gw", OURS | {"flannel.alpha.coreos.com/public-ip": "203.0.113.9"}, {"nodeagent.1"}, "host-gw only"),
        ("auto", OURS | {"flannel.alpha.coreos.com/public-ip": "203.0.113.9"}, set(), "no VXLAN device"),
        ("auto", {"flannel.alpha.coreos.com/backend-data": "{"}, {"nodeagent.1"}, "has not announced"),
        (
            "auto",
            {"flannel.alpha.coreos.com/backend-data": '{"VNI":7,"VtepMAC":"ee:00:00:00:00:01"}'},
            {"nodeagent.1"},
            "has not announced",
        ),
    ],
)
def test_a_peer_that_cannot_be_reached_is_told_with_the_reason(
    mode: str, notes: dict[str, str], present: set[str], reason: str
) -> None:
    peer = peers.read(node("b", "10.244.1.0/24", "203.0.113.9", notes))
    way = plan.way_to(peer, mode=mode, parents=PARENTS, present=present)
    assert not way.entries
    assert reason in way.missing[0]


def test_a_node_without_a_range_has_no_entries_yet() -> None:
    peer = peers.read(node("b", "", "192.168.77.12"))
    assert plan.way_to(peer, mode="auto", parents=PARENTS, present=()) == plan.Way()


def test_a_route_needs_an_address_of_its_own_ip_version() -> None:
    way = plan.way_to(peers.read(node("b", "fd00::/64", "192.168.77.12")), mode="auto", parents=PARENTS, present=())
    assert way.entries == frozenset()
    assert "IPv6" in way.missing[0]


def test_pods_leave_room_for_the_outer_headers_only_where_vxlan_is_used() -> None:
    assert plan.pod_mtu(PARENTS, DIRECT, mode="auto") == 1500
    assert plan.pod_mtu(PARENTS, through_vxlan("203.0.113.9"), mode="auto") == 1450
    assert plan.pod_mtu(PARENTS, (), mode="vxlan") == 1450


def test_host_gw_needs_no_device_and_an_address_that_is_on_no_interface_gives_none() -> None:
    own = peers.own(node("a", "10.244.0.0/24", "192.168.77.11"))
    assert [device.name for device in plan.devices(own, PARENTS, mode="auto")] == ["nodeagent.1"]
    assert plan.devices(own, PARENTS, mode="host-gw") == ()
    assert plan.devices(own, {4: Parent()}, mode="auto") == ()


def test_nothing_changes_when_all_is_as_desired() -> None:
    same = [route("10.244.1.0/24", "192.168.77.12")]
    assert plan.change(same, same) == Change()


def test_a_node_that_moved_has_its_route_replaced_without_a_gap() -> None:
    new, old = route("10.244.1.0/24", "192.168.77.13"), route("10.244.1.0/24", "192.168.77.12")
    assert plan.change([new], [old]) == Change(add=(new,), remove=())


def test_a_node_that_left_loses_its_route() -> None:
    old = route("10.244.1.0/24", "192.168.77.12")
    assert plan.change([], [old]) == Change(remove=(old,))


def test_masquerading_leaves_pods_on_all_nodes_alone() -> None:
    text = masquerade.ruleset(own=["10.244.0.0/24"], pods=["10.244.1.0/24", "10.244.0.0/24"])
    assert "elements = { 10.244.0.0/24, 10.244.1.0/24 }" in text
    assert "ip saddr { 10.244.0.0/24 } ip daddr != @pods ip daddr != 224.0.0.0/4 masquerade" in text
    assert "ip6" not in text


def test_the_configuration_list_has_one_range_set_per_pod_range() -> None:
    document = conflist(CNIConfiguration(), pod_cidrs=["10.244.0.0/24", "fd00::/64"], mtu=1400)
    plugin = document["plugins"][0]
    assert plugin["mtu"] == 1400
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00::/64"}]]


def test_no_two_nodes_have_the_same_vxlan_mac() -> None:
    ranges = [*ip_network("10.88.0.0/16").subnets(new_prefix=24), *ip_network("fd00::/56").subnets(new_prefix=64)]
    assert len({peers.vtep_mac(network) for network in ranges}) == len(ranges)
