"""Cluster DNS in packets: questions made and answers read by another implementation (dnspython)."""

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dns import names, resolvconf, wire
from proxy.dns.resolvconf import LoopError
from proxy.dns.resolver import Resolver
from proxy.dns.upstream import Upstream
from proxy.dns.views import EndpointSlice, Service
from proxy.dns.zone import Zone

ZONE = "cluster.local"


def service(name: str = "web", namespace: str = "default", **spec: Any) -> Service:
    body = {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 81}]} | spec
    return msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": body}, Service)


def slice_of(*endpoints: tuple[str, str | None, bool], kind: str = "IPv4") -> EndpointSlice:
    found = [{"addresses": [a], "hostname": h, "conditions": {"ready": r}} for a, h, r in endpoints]
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return msgspec.convert(
        {"metadata": {"name": "s"}, "addressType": kind, "endpoints": found, "ports": ports}, EndpointSlice
    )


class Server:
    """A resolver with a zone and no upstream."""

    def __init__(self, *, pods: str = "insecure") -> None:
        self.zone = Zone(ZONE, ttl=5, pods=pods)
        self.zone.synced = True
        self.resolver = Resolver(self.zone, Upstream([], now=lambda: 0.0))
        self.put(service())
        self.zone.put_namespace("default", present=True)

    def put(self, found: Service, *slices: EndpointSlice) -> None:
        key = f"{found.metadata.namespace}/{found.metadata.name}"
        self.zone.put(key, names.records(found, slices, zone=ZONE))

    def ask(self, name: str, kind: str = "A", proto: str = "udp", **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        reply, later, *_ = self.resolver.local(query.to_wire(), proto=proto)
        assert later is None
        assert reply is not None
        message = dns.message.from_wire(reply)
        assert query.is_response(message)
        return message

    def texts(self, name: str, kind: str = "A", **options: Any) -> list[str]:
        return sorted(str(item) for rrset in self.ask(name, kind, **options).answer for item in rrset)


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_service_name_has_its_cluster_address(server: Server) -> None:
    reply = server.ask("web.default.svc.cluster.local")
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.flags & dns.flags.AA
    assert server.texts("web.default.svc.cluster.local") == ["10.96.0.7"]
    assert reply.answer[0].ttl == 5


def test_the_answer_repeats_the_case_of_the_question(server: Server) -> None:
    reply = server.ask("WeB.dEfault.SVC.cluster.LOCAL")
    assert str(reply.answer[0].name) == "WeB.dEfault.SVC.cluster.LOCAL."


def test_the_other_address_family_is_nodata_and_never_nxdomain(server: Server) -> None:
    reply = server.ask("web.default.svc.cluster.local", "AAAA")
    assert reply.rcode() == dns.rcode.NOERROR
    assert not reply.answer
    assert reply.authority[0].rdtype == dns.rdatatype.SOA


def test_a_service_of_two_families_answers_both(server: Server) -> None:
    server.put(service(clusterIPs=["10.96.0.7", "fd00::7"]))
    assert server.texts("web.default.svc.cluster.local", "AAAA") == ["fd00::7"]


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        ("other.default.svc.cluster.local", "NXDOMAIN"),
        ("web.nowhere.svc.cluster.local", "NXDOMAIN"),
        ("nowhere.svc.cluster.local", "NXDOMAIN"),
        ("x.web.default.svc.cluster.local", "NXDOMAIN"),
        ("cluster.local", "NOERROR"),
        ("svc.cluster.local", "NOERROR"),
        ("pod.cluster.local", "NOERROR"),
        ("default.svc.cluster.local", "NOERROR"),
        ("default.pod.cluster.local", "NOERROR"),
        ("_tcp.web.default.svc.cluster.local", "NOERROR"),
        ("_http._udp.web.default.svc.cluster.local", "NXDOMAIN"),
    ],
)
def test_a_name_exists_when_it_or_a_longer_one_has_a_record(server: Server, name: str, rcode: str) -> None:
    reply = server.ask(name, "SRV")
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert reply.authority[0].rdtype == dns.rdatatype.SOA


def test_named_ports_have_srv_records_and_unnamed_ones_have_none(server: Server) -> None:
    assert server.texts("_http._tcp.web.default.svc.cluster.local", "SRV") == [
        "0 100 80 web.default.svc.cluster.local."
    ]
    assert (
        server.ask("_._tcp.web.default.svc.cluster.local".replace("_._", "_x._"), "SRV").rcode() == dns.rcode.NXDOMAIN
    )


def test_a_cluster_address_has_its_name(server: Server) -> None:
    assert server.texts("7.0.96.10.in-addr.arpa", "PTR") == ["web.default.svc.cluster.local."]


def test_a_headless_service_answers_with_its_ready_endpoints(server: Server) -> None:
    server.put(
        service(clusterIP="None"),
        slice_of(("10.1.0.1", "one", True), ("10.1.0.2", None, True), ("10.1.0.3", None, False)),
    )
    name = "web.default.svc.cluster.local"
    assert server.texts(name) == ["10.1.0.1", "10.1.0.2"]
    assert server.texts(f"one.{name}") == ["10.1.0.1"]
    assert server.texts(f"10-1-0-2.{name}") == ["10.1.0.2"]
    assert server.texts(f"_http._tcp.{name}", "SRV") == [f"0 100 8080 10-1-0-2.{name}.", f"0 100 8080 one.{name}."]
    assert server.texts("1.0.1.10.in-addr.arpa", "PTR") == [f"one.{name}."]
    assert server.ask(f"10-1-0-3.{name}").rcode() == dns.rcode.NXDOMAIN


def test_publish_not_ready_addresses_counts_all_as_ready(server: Server) -> None:
    server.put(service(clusterIP="None", publishNotReadyAddresses=True), slice_of(("10.1.0.3", None, False)))
    assert server.texts("web.default.svc.cluster.local") == ["10.1.0.3"]


def test_a_headless_service_without_ready_endpoints_is_nxdomain(server: Server) -> None:
    server.put(service(clusterIP="None"), slice_of(("10.1.0.3", None, False)))
    assert server.ask("web.default.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN


def test_an_external_name_is_an_alias_also_for_other_types(server: Server) -> None:
    server.put(service("ext", type="ExternalName", clusterIP="", externalName="example.com"))
    reply = server.ask("ext.default.svc.cluster.local")
    assert [str(item) for item in reply.answer[0]] == ["example.com."]
    assert reply.answer[0].rdtype == dns.rdatatype.CNAME


def test_an_external_name_in_the_zone_is_followed_and_a_circle_ends(server: Server) -> None:
    server.put(service("ext", type="ExternalName", clusterIP="", externalName="web.default.svc.cluster.local"))
    reply = server.ask("ext.default.svc.cluster.local")
    assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.CNAME, dns.rdatatype.A]
    server.put(service("a", type="ExternalName", clusterIP="", externalName="b.default.svc.cluster.local"))
    server.put(service("b", type="ExternalName", clusterIP="", externalName="a.default.svc.cluster.local"))
    assert server.ask("a.default.svc.cluster.local").rcode() == dns.rcode.NOERROR


def test_pod_names_echo_the_address_in_existing_namespaces(server: Server) -> None:
    assert server.texts("10-1-2-3.default.pod.cluster.local") == ["10.1.2.3"]
    assert server.ask("10-1-2-3.nowhere.pod.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert server.ask("web.default.pod.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert Server(pods="disabled").ask("10-1-2-3.default.pod.cluster.local").rcode() == dns.rcode.NXDOMAIN


def test_the_zone_names_its_version_and_its_server(server: Server) -> None:
    assert server.texts("dns-version.cluster.local", "TXT") == ['"1.1.0"']
    assert server.texts("cluster.local", "NS") == ["ns.dns.cluster.local."]
    assert str(server.ask("cluster.local", "SOA").answer[0][0]).startswith(
        "ns.dns.cluster.local. hostmaster.cluster.local."
    )


def test_a_deleted_service_is_gone_and_so_are_the_names_above_it() -> None:
    server = Server()
    server.put(service("x", "lonely"))
    assert server.ask("lonely.svc.cluster.local").rcode() == dns.rcode.NOERROR
    server.zone.put("lonely/x", ())
    assert server.ask("x.lonely.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert server.ask("lonely.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN


def test_before_the_first_sync_the_zone_answers_servfail() -> None:
    server = Server()
    server.zone.synced = False
    assert server.ask("web.default.svc.cluster.local").rcode() == dns.rcode.SERVFAIL


def test_a_long_answer_is_cut_at_whole_records_and_says_so_and_tcp_has_all(server: Server) -> None:
    server.put(service(clusterIP="None"), slice_of(*((f"10.1.{n}.1", None, True) for n in range(100))))
    name = "web.default.svc.cluster.local"
    short = server.ask(name)
    assert short.flags & dns.flags.TC
    assert len(short.to_wire()) <= 512
    assert len(server.ask(name, use_edns=0, payload=4096).answer[0]) == 100
    assert len(server.ask(name, proto="tcp").answer[0]) == 100


def test_answers_take_turns(server: Server) -> None:
    server.put(service(clusterIP="None"), slice_of(("10.1.0.1", None, True), ("10.1.0.2", None, True)))
    first = {str(server.ask("web.default.svc.cluster.local").answer[0][0]) for _ in range(4)}
    assert first == {"10.1.0.1", "10.1.0.2"}


def test_edns_is_answered_only_when_asked_and_an_unknown_version_is_badvers(server: Server) -> None:
    assert server.ask("web.default.svc.cluster.local").edns == -1
    assert server.ask("web.default.svc.cluster.local", use_edns=0).edns == 0
    assert server.ask("web.default.svc.cluster.local", use_edns=1).rcode() == dns.rcode.BADVERS


def test_transfers_are_refused_and_other_operations_not_implemented(server: Server) -> None:
    assert server.ask("cluster.local", "AXFR").rcode() == dns.rcode.REFUSED
    update = bytearray(dns.message.make_query("web.default.svc.cluster.local", "A").to_wire())
    update[2] |= 0x28
    reply, *_ = server.resolver.local(bytes(update), proto="udp")
    assert reply is not None
    assert reply[3] & 0xF == wire.NOTIMP


def test_two_questions_are_a_format_error(server: Server) -> None:
    message = bytearray(dns.message.make_query("web.default.svc.cluster.local", "A").to_wire())
    message[5] = 2
    reply, *_ = server.resolver.local(bytes(message), proto="udp")
    assert reply is not None
    assert reply[3] & 0xF == wire.FORMERR


@given(st.binary(max_size=80))
def test_no_packet_whatever_makes_the_server_fail(packet: bytes) -> None:
    reply, query, *_ = Server().resolver.local(packet, proto="udp")
    assert reply is None or reply[:2] == packet[:2] or query is None


def test_other_names_are_left_to_upstream(server: Server) -> None:
    resolver = Resolver(server.zone, Upstream(["192.0.2.1"], now=lambda: 0.0))
    for name in ("example.com", "notcluster.local", "4.3.2.1.in-addr.arpa"):
        reply, later, *_ = resolver.local(dns.message.make_query(name, "A").to_wire(), proto="udp")
        assert reply is None
        assert later is not None
    assert server.ask("example.com").rcode() == dns.rcode.SERVFAIL


def test_a_stub_resolver_on_this_machine_is_replaced_or_refused() -> None:
    assert resolvconf.choose("nameserver 127.0.0.53\n", "nameserver 10.0.0.53\n") == ["10.0.0.53"]
    assert resolvconf.choose("# none\n", None) == []
    with pytest.raises(LoopError, match=r"127\.0\.0\.53"):
        resolvconf.choose("nameserver 127.0.0.53\n", None)
