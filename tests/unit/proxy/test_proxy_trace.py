"""The proxy's part of a connection's way, as data."""

import struct
from collections.abc import Mapping
from ipaddress import ip_address

import pytest

from fakes.iptables import FakeXtables
from fakes.nft import FakeNft
from kube.runtime.conntrack import Entry, Side
from proxy import trace
from proxy.backends.iptables import IptablesBackend
from proxy.backends.nftables import NftablesBackend
from proxy.backends.protocol import Backend
from proxy.dns import wire
from proxy.dns.cache import Reply
from proxy.dns.wire import Query
from proxy.rules import plan
from proxy.rules.plan import Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

WEB, EMPTY, LOCAL, PUBLIC = (Frontend("10.96.0.1", "tcp", port) for port in (80, 81, 82, 83))
POD = plan.Backend("10.0.0.7", 8080)
OTHER = plan.Backend("10.0.0.8", 8080)


def rules() -> RuleSet:
    found = RuleSet()
    node = Frontend("192.0.2.1", "tcp", 30080)
    ports = {
        WEB: PortRules(backends=(POD, OTHER), title="ns/web:a", affinity=10800),
        EMPTY: PortRules(title="ns/web:b"),
        LOCAL: PortRules(drop=True, title="ns/web:c"),
        node: PortRules(backends=(POD, OTHER), local_only=True, local=(POD,), kind=plan.NODE_PORT, title="ns/web:a"),
    }
    found.replace(ServiceKey("ns", "web"), ports)
    return found


@pytest.fixture(params=["nftables", "iptables"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return NftablesBackend(FakeNft()) if request.param == "nftables" else IptablesBackend(FakeXtables())


async def test_a_services_rule_leads_to_its_endpoints(backend: Backend) -> None:
    await backend.replace(rules())
    hop = trace.service(WEB, await backend.held(), mode="m")
    assert hop.onward == ("10.0.0.7:8080", "10.0.0.8:8080")
    assert hop.found.startswith("10.96.0.1:80/tcp -> 10.0.0.7:8080 (0 connections)")
    assert not hop.stops


async def test_a_node_ports_rule_says_who_is_for_clients_outside(backend: Backend) -> None:
    await backend.replace(rules())
    hop = trace.service(Frontend("192.0.2.1", "tcp", 30080), await backend.held(), mode="m")
    assert "10.0.0.7:8080 (0 connections, from outside)" in hop.found
    assert hop.onward == ("10.0.0.7:8080", "10.0.0.8:8080")


async def test_a_service_that_leads_nowhere_says_why(backend: Backend) -> None:
    await backend.replace(rules())
    held = await backend.held()
    assert trace.service(EMPTY, held, mode="m").stops == "refused: no endpoint, or no such port"
    assert trace.service(LOCAL, held, mode="m").stops == "dropped: no endpoint here under a Local policy"


async def test_an_address_without_a_rule_is_passed_on_as_it_is(backend: Backend) -> None:
    await backend.replace(rules())
    assert trace.service(Frontend("8.8.8.8", "tcp", 443), await backend.held(), mode="m").onward == ("8.8.8.8:443",)


class Answers:
    """A DNS server of these names."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = known

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        address = self.known.get(wire.decode_name(query.name))
        if address is None:
            return Reply(rcode=wire.NXDOMAIN, counts=(0, 0, 0), body=b"", ttls=())
        packed = ip_address(address).packed
        body = wire.NAME_OF_QUESTION + struct.pack("!HHIH", query.type, wire.IN, 5, len(packed)) + packed
        return Reply(rcode=wire.NOERROR, counts=(1, 0, 0), body=body, ttls=())


async def test_a_name_is_asked_for_as_a_resolver_does_until_one_has_an_address() -> None:
    network = Answers({"web.ns.svc.cluster.local.": "10.96.0.1"})
    search = ("other.svc.cluster.local", "svc.cluster.local")
    hops = await trace.name("web.ns", server="10.96.0.10", search=search, network=network)
    assert [hop.stops for hop in hops] == ["there is no such name", ""]
    assert hops[-1].onward == ("10.96.0.1",)
    assert hops[-1].command == "dig @10.96.0.10 web.ns.svc.cluster.local. A"


async def test_a_name_that_nobody_knows_and_one_that_is_none_say_so() -> None:
    hops = await trace.name("nobody.", server="10.96.0.10", search=("a",), network=Answers({}))
    assert [hop.stops for hop in hops] == ["there is no such name"]
    (hop,) = await trace.name("a..b.", server="10.96.0.10", network=Answers({}))
    assert "bad name" in hop.stops


def test_connection_tracking_tells_who_answers_and_what_they_see() -> None:
    original = Side(source="10.244.0.2", destination="10.96.0.1", source_port=4242, destination_port=80)
    reply = Side(source="10.0.0.7", destination="10.244.0.1", source_port=8080, destination_port=4242)
    entry = Entry(version=4, protocol=6, original=original, reply=reply, name=b"")
    hop = trace.tracked([entry], source="10.244.0.2", source_port=4242, frontend=WEB)
    assert hop.onward == ("10.0.0.7:8080",)
    assert hop.found.endswith("is answered by 10.0.0.7:8080, who sees 10.244.0.1")
    assert hop.command == "conntrack -L -p tcp --orig-src 10.244.0.2 --sport 4242"
    other = trace.tracked([entry], source="10.244.0.2", source_port=4243, frontend=WEB)
    assert (other.onward, other.stops, other.found[:8]) == ((), "", "no entry")
