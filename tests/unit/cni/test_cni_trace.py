"""The CNI's part of a connection's way, from what `ip` and `bridge` print."""

from collections.abc import Mapping, Sequence
from typing import Any

from cni import trace

Rows = Sequence[Mapping[str, Any]]


def looking(answers: Mapping[str, Rows | str]) -> trace.Look:
    """Answers a command by the first key that is in it; text is an error."""

    def look(argv: Sequence[str]) -> Rows:
        said = next((answer for key, answer in answers.items() if key in " ".join(argv)), [])
        if isinstance(said, str):
            raise trace.Blind(said)
        return said

    return look


VETH = {"ifindex": 9, "ifname": "veth1", "master": "cni0", "operstate": "UP"}
POD: dict[str, Rows | str] = {
    "ip -j route get": [{"dst": "10.96.0.9", "gateway": "10.244.0.1", "dev": "eth0"}],
    "link show eth0": [{"ifname": "eth0", "link_index": 9}],
    "link show type veth": [VETH],
}


def test_a_pod_is_left_by_its_route_and_the_pair_that_ends_at_the_bridge() -> None:
    route, pair = trace.out_of_pod(7, "10.96.0.9", look=looking(POD))
    assert route.found == "10.96.0.9 via 10.244.0.1 dev eth0"
    assert route.command == "nsenter --net=/proc/7/ns/net ip route get 10.96.0.9"
    assert pair.found == "eth0 of the pod is veth1 here, a port of cni0, UP"
    assert not pair.stops


def test_a_pod_without_a_route_or_with_a_dead_pair_stops() -> None:
    unreachable = looking({"route get": "Network is unreachable"})
    assert trace.out_of_pod(7, "10.96.0.9", look=unreachable)[-1].stops == "Network is unreachable"
    down = looking(POD | {"link show type veth": [VETH | {"operstate": "DOWN"}]})
    assert trace.out_of_pod(7, "10.96.0.9", look=down)[-1].stops == "the link is DOWN"
    assert trace.out_of_pod(7, "10.96.0.9", look=looking(POD | {"type veth": []} | {"link show type veth": []}))[
        -1
    ].stops


def test_a_peer_on_the_link_is_reached_through_its_neighbour_entry() -> None:
    answers: dict[str, Rows | str] = {
        "route get": [{"dst": "10.244.1.2", "gateway": "192.168.77.12", "dev": "eth0"}],
        "neigh show": [{"lladdr": "02:00", "state": ["REACHABLE"]}],
        "link show dev": [{"ifname": "eth0", "linkinfo": {"info_kind": "veth"}}],
    }
    route, neighbour = trace.onward("10.244.1.2", look=looking(answers))
    assert (route.found, neighbour.onward) == ("10.244.1.2 via 192.168.77.12 dev eth0", ("192.168.77.12",))
    dead = looking(answers | {"neigh show": [{"state": ["FAILED"]}]})
    assert trace.onward("10.244.1.2", look=dead)[-1].stops == "nobody answers for 192.168.77.12 on eth0"


VXLAN: dict[str, Rows | str] = {
    "route get": [{"dst": "10.244.1.2", "gateway": "10.244.1.0", "dev": "nodeagent.1"}],
    "neigh show": [{"lladdr": "aa:bb", "state": ["PERMANENT"]}],
    "link show dev": [{"ifname": "nodeagent.1", "linkinfo": {"info_kind": "vxlan"}}],
    "fdb show": [{"mac": "cc:dd", "dst": "192.0.2.9"}, {"mac": "aa:bb", "dst": "192.0.2.12"}],
}


def test_a_peer_behind_vxlan_is_found_by_its_forwarding_entry() -> None:
    hops = trace.onward("10.244.1.2", look=looking(VXLAN))
    assert [hop.place for hop in hops] == ["route", "neighbour", "VXLAN entry"]
    assert hops[-1].onward == ("192.0.2.12",)
    assert hops[-1].command == "bridge fdb show dev nodeagent.1"
    lost = trace.onward("10.244.1.2", look=looking(VXLAN | {"fdb show": []}))
    assert lost[-1].stops == "nodeagent.1 knows no machine for aa:bb"


def test_a_route_that_says_no_stops_and_one_that_stays_here_does_not() -> None:
    blackhole = looking({"route get": [{"type": "unreachable", "dst": "10.9.0.1", "dev": "lo"}]})
    assert trace.onward("10.9.0.1", look=blackhole)[-1].stops == "the route says unreachable"
    (here,) = trace.onward("10.244.0.3", look=looking({"route get": [{"dst": "10.244.0.3", "dev": "cni0"}]}))
    assert (here.onward, here.stops) == ((), "")


ARRIVAL: dict[str, Rows | str] = {
    "route get": [{"dst": "10.244.1.2", "dev": "cni0"}],
    "neigh show": [{"lladdr": "0a:58", "state": ["REACHABLE"]}],
    "fdb show": [{"mac": "0a:58", "ifname": "veth7"}, {"mac": "0a:58", "ifname": "cni0"}],
}


def test_a_pod_is_arrived_at_through_the_bridges_port() -> None:
    hops = trace.into_pod("10.244.1.2", look=looking(ARRIVAL))
    assert [hop.place for hop in hops] == ["route", "neighbour", "bridge entry"]
    assert hops[-1].found == "0a:58 is behind veth7, the pod's veth"
    dead = trace.into_pod("10.244.1.2", look=looking(ARRIVAL | {"neigh show": [{"state": ["FAILED"]}]}))
    assert dead[-1].stops == "nobody answers for 10.244.1.2"
    own = trace.into_pod("192.168.77.11", look=looking({"route get": [{"type": "local", "dev": "lo"}]}))
    assert [hop.stops for hop in own] == [""]


def test_what_is_entered_is_unknown_until_something_was_sent() -> None:
    quiet = trace.into_pod("10.244.1.2", look=looking(ARRIVAL | {"neigh show": []}))
    assert quiet[-1].found == "nothing was sent to 10.244.1.2 lately"


def pod(name: str, ip: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def test_a_policy_that_denies_stops_the_way_and_is_named() -> None:
    deny = {
        "metadata": {"name": "deny", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
    }
    objects = {
        "pods": [pod("client", "10.244.0.2"), pod("web", "10.244.1.2")],
        "namespaces": [{"metadata": {"name": "default", "labels": {}}}],
        "networkpolicies": [deny],
    }
    hop = trace.policy(objects, source="10.244.0.2", to="10.244.1.2", port=80, protocol="tcp")
    assert (hop.stops, "default/deny" in hop.found) == ("a policy denies it", True)
    assert hop.command == "nodeagent policy explain 10.244.0.2 10.244.1.2 80/tcp"
    free = trace.policy(
        objects | {"networkpolicies": []}, source="10.244.0.2", to="10.244.1.2", port=80, protocol="tcp"
    )
    assert free.stops == ""
