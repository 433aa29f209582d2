"""A connection's way: the question in words, listening sockets, the joining of hops; where it stops."""

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from kube.hop import Hop
from nodeagent.trace import follow, legs, question, sockets
from nodeagent.trace.question import ADDRESS, NAME, NODE, POD, SERVICE


def pod(name: str, ip: str, node: str, *, port: int = 0, phase: str = "Running") -> dict[str, Any]:
    ports = [{"containerPort": port}] if port else []
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": ports}]},
        "status": {"podIP": ip, "phase": phase},
    }


def node(name: str, ip: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}


def service(name: str, ip: str, port: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": ip, "ports": [{"port": port}]}}


OBJECTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "pods": [
        pod("client", "10.244.0.2", "node-1"),
        pod("web-0", "10.244.1.2", "node-2", port=8080),
        pod("slow", "", "node-1", phase="Pending"),
    ],
    "nodes": [node("node-1", "192.168.77.11"), node("node-2", "192.168.77.12")],
    "services": [service("web", "10.96.0.9", 80), service("bare", "None", 80)],
}


def asked(*words: str) -> question.Question:
    return question.ask(words, OBJECTS, namespace="default", protocol="tcp")


@pytest.mark.parametrize(
    ("words", "kind", "name", "port"),
    [
        (("client -> web",), NAME, "web", 80),
        (("client", "->", "web:81"), NAME, "web", 81),
        (("client", "web.default.svc.cluster.local"), NAME, "web.default.svc.cluster.local", 80),
        (("client", "svc/web"), SERVICE, "web", 80),
        (("client", "web-0"), POD, "web-0", 8080),
        (("pod/client", "pod/default/web-0:81"), POD, "web-0", 81),
        (("client", "node/node-2:10250"), NODE, "node-2", 10250),
        (("client", "node-2:10250"), NODE, "node-2", 10250),
        (("node-1", "web"), SERVICE, "web", 80),
        (("client", "10.244.1.2:99"), POD, "web-0", 99),
        (("client", "192.168.77.12:22"), NODE, "node-2", 22),
        (("client", "8.8.8.8:53"), ADDRESS, "8.8.8.8", 53),
        (("client", "[2001:db8::1]:53"), ADDRESS, "2001:db8::1", 53),
        (("client", "example.org:443"), NAME, "example.org", 443),
    ],
)
def test_a_question_in_words_is_about_objects(words: tuple[str, ...], kind: str, name: str, port: int) -> None:
    found = asked(*words)
    assert (found.target.kind, found.target.name, found.port) == (kind, name, port)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("client",), "say: nodeagent trace"),
        (("nobody", "web"), "no pod default/nobody and no node nobody"),
        (("client", "example.org"), "no port is known for example.org"),
        (("client", "pod/gone:80"), "no pod default/gone"),
        (("client", "svc/bare"), "service default/bare has no address"),
        (("client", "web-0:99999"), "no port is known"),
    ],
)
def test_a_question_that_cannot_be_asked_says_what_to_say(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(question.QuestionError, match=why):
        asked(*words)


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000
   1: 0000000000000000FFFF00000200F40A:0051 00000000000000000000000000000000:0000 0A 00000000
"""


def test_listening_sockets_are_read_from_the_kernels_tables() -> None:
    found = sockets.listening({"tcp": TCP, "tcp6": TCP6})
    assert found == [(ip_address("127.0.0.1"), 8080), (ip_address("::"), 80), (ip_address("10.244.0.2"), 81)]
    assert sockets.listening({"udp": TCP.replace(" 0A ", " 07 ")}) == [(ip_address("127.0.0.1"), 8080)]


def test_a_port_that_only_loopback_listens_on_stops_the_way() -> None:
    bound = sockets.listening({"tcp": TCP, "tcp6": TCP6})
    assert not sockets.hop(bound, pid=7, to="10.244.0.2", port=80, protocol="tcp").stops
    assert not sockets.hop(bound, pid=7, to="10.244.0.2", port=81, protocol="tcp").stops
    stopped = sockets.hop(bound, pid=7, to="10.244.0.2", port=8080, protocol="tcp")
    assert stopped.stops == "nobody listens on tcp port 8080"
    assert "127.0.0.1:8080" in stopped.found
    assert stopped.command == "nsenter -t 7 -n ss -ltn sport = :8080"


def hop(place: str, *, stops: str = "", onward: tuple[str, ...] = ()) -> Hop:
    return Hop(place=place, found="", command="", stops=stops, onward=onward)


class FakeParts:
    """Every part answers; those named in `stopping` stop."""

    def __init__(self, *stopping: str, names: Sequence[str] = ()) -> None:
        self.stopping, self.names = stopping, names
        self.connected: tuple[str, int] = ("", 0)

    def _hop(self, place: str, *onward: str) -> Hop:
        return hop(place, stops=f"{place} ends" if place in self.stopping else "", onward=onward)

    @contextlib.contextmanager
    def inside(self, pid: int) -> Iterator[None]:
        yield

    def name(self, asked: str, *, server: str, search: Sequence[str], version: int) -> list[Hop]:
        return [hop("first form", stops="no such name"), self._hop("name", *self.names)]

    def service(self, address: str, port: int, protocol: str) -> Hop:
        return self._hop("service", f"{address}:{port}")

    def tracked(self, source: tuple[str, int], to: tuple[str, int], protocol: str) -> Hop:
        self.connected = source
        return self._hop("conntrack", "10.244.1.2:8080")

    def out_of_pod(self, pid: int, destination: str) -> list[Hop]:
        return [self._hop("pod route")]

    def onward(self, destination: str) -> list[Hop]:
        return [self._hop(f"route to {destination}")]

    def into_pod(self, address: str) -> list[Hop]:
        return [self._hop("bridge")]

    def policy(self, objects: follow.Objects, *, source: str, to: str, port: int, protocol: str) -> Hop:
        return self._hop("policy")


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound.getsockname()[1]


def depart(parts: FakeParts, port: int, *, ip: str = "127.0.0.1") -> dict[str, Any]:
    return legs.depart({"uid": "", "name": "web", "ip": ip, "port": port, "protocol": "tcp"}, parts)


def places(answer: Mapping[str, Any]) -> list[str]:
    return [found["place"] for found in answer["hops"]]


def test_the_leg_that_leaves_opens_the_connection_and_goes_where_it_was_led(listener: int) -> None:
    parts = FakeParts(names=["127.0.0.1"])
    answer = depart(parts, listener, ip="")
    assert places(answer) == ["first form", "name", "service", "conntrack", "route to 10.244.1.2"]
    assert (answer["end"], answer["outcome"]) == ("10.244.1.2:8080", "reached")
    assert parts.connected[0] == "127.0.0.1"


def test_a_name_without_an_address_and_a_rule_that_refuses_end_the_leg(listener: int) -> None:
    assert places(depart(FakeParts("name"), listener, ip="")) == ["first form", "name"]
    answer = depart(FakeParts("service"), listener)
    assert (places(answer), answer["end"]) == (["service"], "")


def test_a_refused_connection_is_an_outcome_and_no_hop(listener: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert depart(FakeParts(), unused.getsockname()[1])["outcome"] == "connection refused"


def test_the_leg_that_arrives_ends_at_the_socket(listener: int) -> None:
    document = {"uid": "", "ip": "127.0.0.1", "port": listener, "protocol": "tcp"}
    tables = {"tcp": f"head\n 0: 0100007F:{listener:04X} 00000000:0000 0A\n"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets, "tables", lambda pid, protocol: tables)
        assert places(legs.arrive(document, FakeParts())) == ["listening socket"]


def walked(*, depart: Sequence[Hop], arrive: Sequence[Hop], outcome: str = "reached") -> follow.Walk:
    from dataclasses import asdict

    answers = {
        follow.DEPART: {"hops": list(map(asdict, depart)), "end": "10.244.1.2:8080", "outcome": outcome},
        follow.ARRIVE: {"hops": list(map(asdict, arrive)), "end": "", "outcome": ""},
    }
    return lambda machine, leg, document: answers[leg]


def way(parts: FakeParts, walk: follow.Walk, *words: str) -> follow.Way:
    return follow.follow(asked(*(words or ("client", "web"))), OBJECTS, parts, walk=walk)


def test_the_hops_of_both_machines_are_joined_and_end_with_the_connection() -> None:
    found = way(FakeParts(), walked(depart=[hop("service")], arrive=[hop("listening socket")]))
    assert [(machine, each.place) for machine, each in found.hops] == [
        ("", "pod default/client"),
        ("node-1", "service"),
        ("", "pod default/web-0"),
        ("node-2", "policy"),
        ("node-2", "listening socket"),
        ("node-1", "connection"),
    ]
    assert found.stops == ""


@pytest.mark.parametrize(
    ("parts", "depart", "arrive", "last"),
    [
        (FakeParts(), [hop("service", stops="refused")], [], "service"),
        (FakeParts("policy"), [hop("service")], [hop("listening socket")], "policy"),
        (FakeParts(), [hop("service")], [hop("listening socket", stops="nobody")], "listening socket"),
    ],
)
def test_the_way_ends_where_it_stops(parts: FakeParts, depart: list[Hop], arrive: list[Hop], last: str) -> None:
    found = way(parts, walked(depart=depart, arrive=arrive, outcome="connection refused"))
    assert found.hops[-1][1].place == last
    assert found.stops


def test_a_way_without_a_fault_whose_connection_fails_stops_at_the_connection() -> None:
    found = way(FakeParts(), walked(depart=[hop("service")], arrive=[hop("socket")], outcome="no answer within 2 s"))
    assert (found.hops[-1][1].place, found.stops) == ("connection", "no answer within 2 s")


def test_a_name_whose_first_forms_fail_does_not_stop_there() -> None:
    before = [hop("first form", stops="no such name"), hop("name", onward=("10.96.0.9",)), hop("service")]
    assert way(FakeParts(), walked(depart=before, arrive=[hop("socket")])).stops == ""


def test_a_pod_that_does_not_run_stops_at_once() -> None:
    found = way(FakeParts(), walked(depart=[], arrive=[]), "slow", "web")
    assert found.stops == "the pod is not running"


def test_a_machine_that_cannot_be_looked_into_is_named() -> None:
    found = way(FakeParts(), lambda machine, leg, document: None)
    assert found.hops[-1][1].found == "node-1 cannot be looked into from here"


def test_the_text_has_the_command_of_each_hop_and_says_where_it_stops() -> None:
    found = way(FakeParts(), walked(depart=[hop("service", stops="refused")], arrive=[]))
    assert follow.text(found).splitlines()[-1].strip() == "STOPS: refused"
    assert "$ kubectl -n default get pod client -o wide" in follow.text(found)
    assert follow.document(found)["hops"][-1]["machine"] == "node-1"
