"""Which of the kernel's events bring the overlay to compare itself with the kernel."""

import struct
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni import tables
from cni.netlink import addresses, interfaces, monitor, neighbours, routes, settings
from cni.netlink.monitor import Event
from cni.netlink.wire import Message, attribute, text
from cni.overlay import kernel, watch
from cni.overlay.plan import Forward, Neighbour, Route
from cni.overlay.watch import Concern, Interest
from cni.tables import Notice

END, MAC, OTHER = ip_address("10.244.1.0"), "ee:00:00:00:00:01", "10.9.9.0/24"
OURS = ip_network("10.244.1.0/24")
DEVICE, PARENT, ELSEWHERE = 7, 2, 9
GATEWAY = ip_interface("10.244.7.1/24")
INTEREST = Interest(
    ranges=(GATEWAY.network,),
    indexes=frozenset({DEVICE, PARENT}),
    bridge="cni0",
    entries=frozenset(
        {
            Route(OURS, END, "nodeagent.1"),
            Neighbour(END, MAC, "nodeagent.1"),
            Forward(MAC, ip_address("198.51.100.2"), "nodeagent.1"),
        }
    ),
)


def netconf(*, index: int, forwarding: int) -> bytes:
    return bytes(4) + attribute(1, struct.pack("=i", index)) + attribute(2, struct.pack("=i", forwarding))


def event(kind: int, message: Message) -> Event:
    return Event(kind, message.body)


def route(destination: str, *, protocol: int) -> Message:
    return routes.new_route(ip_network(destination), gateway=END, index=DEVICE, protocol=protocol, onlink=True)


@pytest.mark.parametrize(
    ("case", "happened", "expected"),
    [
        ("events were lost", monitor.LOST, True),
        ("our device went", event(interfaces.DELLINK, interfaces.delete_link("nodeagent.1")), True),
        ("a pod came", event(interfaces.NEWLINK, interfaces.get_link("veth12345678")), False),
        ("the parent changed", event(interfaces.NEWLINK, interfaces.link_up(PARENT)), True),
        (
            "the parent lost an address",
            event(addresses.DELADDR, addresses.new_address(ip_interface("192.0.2.1/24"), index=PARENT)),
            True,
        ),
        (
            "another interface got one",
            event(addresses.NEWADDR, addresses.new_address(ip_interface("192.0.2.1/24"), index=ELSEWHERE)),
            False,
        ),
        ("our route went", event(routes.DELROUTE, route(str(OURS), protocol=kernel.PROTOCOL)), True),
        ("our route came", event(routes.NEWROUTE, route(str(OURS), protocol=kernel.PROTOCOL)), False),
        ("another's took its place", event(routes.NEWROUTE, route(str(OURS), protocol=4)), True),
        ("a stranger's went", event(routes.DELROUTE, route(OTHER, protocol=4)), False),
        ("a neighbour went", event(neighbours.DELNEIGH, neighbours.delete_neighbour(END, index=DEVICE)), True),
        (
            "our neighbour came",
            event(neighbours.NEWNEIGH, neighbours.new_neighbour(END, mac=MAC, index=DEVICE)),
            False,
        ),
        ("a pod's ARP", event(neighbours.DELNEIGH, neighbours.delete_neighbour(END, index=ELSEWHERE)), False),
        (
            "a forwarding entry went",
            event(
                neighbours.DELNEIGH,
                neighbours.delete_forward(MAC, remote=ip_address("198.51.100.2"), index=DEVICE),
            ),
            True,
        ),
    ],
)
def test_an_event_matters_only_when_something_of_ours_may_be_gone(case: str, happened: Event, expected: bool) -> None:
    assert (watch.matters(happened, INTEREST) is Concern.OVERLAY) is expected, case


def test_a_notice_says_where_something_came_or_went() -> None:
    table, chain = attribute(1, b"nodeagent-cni\0"), attribute(3, b"postrouting\0")
    assert tables.parse(Event(0x0A02, b"\2\0\0\0" + table)) == Notice("ip", "nodeagent-cni", "", True)
    assert tables.parse(Event(0x0A03, b"\n\0\0\0" + table + chain)) == Notice(
        "ip6", "nodeagent-cni", "postrouting", False
    )
    assert tables.parse(Event(0x0A0C, b"\2\0\0\0" + table)) is None


def test_a_table_is_damaged_in_the_family_in_which_it_is_wanted() -> None:
    found = {("ip", "a"): True, ("ip", "b"): False, ("ip6", "b"): True}
    assert tables.damaged({"a": {"ip"}, "b": {"ip6"}}, found) == set()
    assert tables.damaged({"a": {"ip", "ip6"}, "b": {"ip"}, "c": ()}, found) == {"a", "b"}


@pytest.mark.parametrize(
    ("case", "happened", "expected"),
    [
        ("the bridge went", event(interfaces.DELLINK, interfaces.delete_link("cni0")), True),
        ("the bridge went down", event(interfaces.NEWLINK, interfaces.get_link("cni0")), True),
        (
            "the bridge changed, as with every pod",
            event(interfaces.NEWLINK, interfaces.new_bridge("cni0", mtu=0, mac=MAC)),
            False,
        ),
        ("a gateway went", event(addresses.DELADDR, addresses.new_address(GATEWAY, index=ELSEWHERE)), True),
        ("a gateway came", event(addresses.NEWADDR, addresses.new_address(GATEWAY, index=ELSEWHERE)), False),
        ("the host forwards no more", Event(settings.NEWNETCONF, netconf(index=-1, forwarding=0)), True),
        ("one interface forwards no more", Event(settings.NEWNETCONF, netconf(index=3, forwarding=0)), False),
        ("the host forwards", Event(settings.NEWNETCONF, netconf(index=-1, forwarding=1)), False),
    ],
)
def test_an_event_may_concern_the_pods_of_this_node(case: str, happened: Event, expected: bool) -> None:
    assert (watch.matters(happened, INTEREST) is Concern.PODS) is expected, case


def test_a_pods_port_is_loose_unless_it_is_up_and_in_a_bridge_or_gone() -> None:
    alone = interfaces.get_link("veth12345678")
    joined = Message(0, 0, interfaces.join(4, master=3).body + text(interfaces.IFLA_IFNAME, "veth12345678"), "")
    assert watch.loose(event(interfaces.NEWLINK, alone)) == ("veth12345678", True)
    assert watch.loose(event(interfaces.NEWLINK, joined)) == ("veth12345678", False)
    assert watch.loose(event(interfaces.DELLINK, alone)) == ("veth12345678", False)
    assert watch.loose(event(interfaces.NEWLINK, interfaces.get_link("vethforeign"))) is None
