"""Which routes lead to other nodes' pods."""

from ipaddress import ip_address, ip_network

import msgspec

from cni import masquerade
from cni.config import CNIConfiguration, conflist
from cni.overlay import plan
from cni.overlay.plan import Change, Route
from kube.types import Node


def node(name: str, cidr: str, address: str) -> Node:
    document = {
        "metadata": {"name": name},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr] if cidr else []},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }
    return msgspec.convert(document, Node)


def route(destination: str, gateway: str) -> Route:
    return Route(ip_network(destination), ip_address(gateway))


def test_every_other_node_has_a_route_by_its_internal_address() -> None:
    nodes = [node("a", "10.244.0.0/24", "192.168.77.11"), node("b", "10.244.1.0/24", "192.168.77.12")]
    assert plan.desired(nodes, own="a") == {"b": {route("10.244.1.0/24", "192.168.77.12")}}


def test_a_node_without_a_range_has_no_route_yet() -> None:
    assert plan.routes_to(node("b", "", "192.168.77.12")) == frozenset()


def test_a_route_needs_an_address_of_its_own_ip_version() -> None:
    assert plan.routes_to(node("b", "fd00::/64", "192.168.77.12")) == frozenset()


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
