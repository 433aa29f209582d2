"""The rarer rows of the DNS specification: additional records, bare names, aliases that lead outside, odd objects."""

import asyncio
from collections.abc import Mapping
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dns import cache, names, wire
from proxy.dns.cache import Reply
from proxy.dns.hosts import Hosts
from proxy.dns.resolver import Resolver
from proxy.dns.rewrite import rule
from proxy.dns.upstream import Upstream
from proxy.dns.views import EndpointSlice, Pod, Service
from proxy.dns.wire import Query
from proxy.dns.zone import Zone

ZONE = "cluster.local"
WEB = "web.default.svc.cluster.local"


def service(name: str = "web", **spec: Any) -> Service:
    body = {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}, {"port": 81}]} | spec
    return msgspec.convert({"metadata": {"name": name, "namespace": "default"}, "spec": body}, Service)


def slice_of(*endpoints: Mapping[str, Any], kind: str = "IPv4") -> EndpointSlice:
    ports = [{"name": "http", "port": 8080}]
    return msgspec.convert({"addressType": kind, "endpoints": list(endpoints), "ports": ports}, EndpointSlice)


class Answers:
    """An exchange that knows addresses by name; anything else does not exist."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        name = wire.decode_name(query.name)
        self.asked.append(name)
        message = dns.message.make_query(name, dns.rdatatype.RdataType(query.type))
        reply = dns.message.make_response(message)
        address = self.known.get(name.rstrip(".").replace(".", "_").replace("-", "_"))
        if address is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif query.type == wire.A:
            real = dns.name.from_text("real." + name)
            reply.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "CNAME", str(real)))
            reply.answer.append(dns.rrset.from_text(real, 60, "IN", "A", address))
        return cache.read(reply.to_wire(), question=query.question)


class Server:
    """A resolver; `known` is what its upstream knows."""

    def __init__(self, *, pods: str = "insecure", known: Answers | None = None, **options: Any) -> None:
        self.zone = Zone(ZONE, ttl=5, pods=pods)
        self.zone.synced = True
        self.zone.put_namespace("default", present=True)
        servers = ["192.0.2.1"] if known else []
        self.resolver = Resolver(self.zone, Upstream(servers, now=lambda: 0.0, exchange=known), **options)

    def put(self, found: Service, *slices: EndpointSlice) -> None:
        self.zone.put(found.metadata.name, names.records(found, slices, zone=ZONE))

    async def ask(self, name: str, kind: str = "A", client: str = "") -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        reply, later, *_ = self.resolver.local(query.to_wire(), proto="tcp", client=client)
        if later is not None:
            reply = await self.resolver.later(later, proto="tcp", client=client)
        assert reply is not None
        message = dns.message.from_wire(reply)
        assert query.is_response(message)
        return message


def texts(section: list[dns.rrset.RRset]) -> list[str]:
    return sorted(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {item}" for rrset in section for item in rrset)


async def test_srv_answers_bring_the_addresses_of_their_targets() -> None:
    server = Server()
    server.put(service(clusterIP="None"), slice_of({"addresses": ["10.1.0.1"], "hostname": "One"}))
    reply = await server.ask(f"_http._tcp.{WEB}", "SRV")
    assert texts(reply.additional) == [f"one.{WEB}. A 10.1.0.1"]


async def test_srv_of_the_bare_name_answers_with_all_ports_also_unnamed_ones() -> None:
    server, web = Server(), service()
    server.put(web)
    server.zone.all_ports = lambda name: names.all_ports(web, (), zone=ZONE) if name == wire.encode_name(WEB) else ()
    assert texts((await server.ask(WEB, "SRV")).answer) == [
        f"{WEB}. SRV 0 100 80 {WEB}.",
        f"{WEB}. SRV 0 100 81 {WEB}.",
    ]
    assert (await server.ask(f"other.{WEB}", "SRV")).rcode() == dns.rcode.NXDOMAIN


async def test_the_name_server_comes_with_its_address() -> None:
    server = Server()
    server.zone.put("ns", names.name_server(service("kube-dns"), zone=ZONE))
    reply = await server.ask(ZONE, "NS")
    assert texts(reply.additional) == ["ns.dns.cluster.local. A 10.96.0.7"]
    assert reply.flags & dns.flags.AA


async def test_any_tells_all_records_of_a_name() -> None:
    server = Server()
    server.put(service(clusterIPs=["10.96.0.7", "fd00::7"]))
    assert texts((await server.ask(WEB, "ANY")).answer) == [f"{WEB}. A 10.96.0.7", f"{WEB}. AAAA fd00::7"]
    assert (await server.ask("default.svc.cluster.local", "ANY")).rcode() == dns.rcode.NOERROR


async def test_one_hostname_may_have_several_addresses() -> None:
    server = Server()
    both = ({"addresses": ["10.1.0.1"], "hostname": "one"}, {"addresses": ["10.1.0.2"], "hostname": "one"})
    server.put(service(clusterIP="None"), slice_of(*both), slice_of({"addresses": ["fd00::1"]}, kind="IPv6"))
    assert texts((await server.ask(f"one.{WEB}")).answer) == [f"one.{WEB}. A 10.1.0.1", f"one.{WEB}. A 10.1.0.2"]
    assert texts((await server.ask(f"fd00--1.{WEB}", "AAAA")).answer) == [f"fd00--1.{WEB}. AAAA fd00::1"]


async def test_an_alias_that_leads_outside_brings_the_targets_addresses() -> None:
    server = Server(known=Answers(example_com="192.0.2.9"))
    server.put(service("ext", type="ExternalName", externalName="Example.com."))
    reply = await server.ask("ext.default.svc.cluster.local")
    assert texts(reply.answer) == [
        "example.com. CNAME real.example.com.",
        "ext.default.svc.cluster.local. CNAME example.com.",
        "real.example.com. A 192.0.2.9",
    ]
    assert reply.flags & dns.flags.AA


async def test_an_alias_whose_target_is_silent_is_answered_alone() -> None:
    server = Server()
    server.put(service("ext", type="ExternalName", externalName="example.com"))
    reply = await server.ask("ext.default.svc.cluster.local")
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(reply.answer) == 1


async def test_verified_pod_names_exist_for_pods_that_run() -> None:
    server = Server(pods="verified")
    pod = msgspec.convert(
        {
            "metadata": {"name": "p", "namespace": "default"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.1.2.3"}]},
        },
        Pod,
    )
    server.zone.put("pod", names.pod_records(pod, zone=ZONE))
    assert texts((await server.ask("10-1-2-3.default.pod.cluster.local")).answer)
    assert (await server.ask("10-1-2-4.default.pod.cluster.local")).rcode() == dns.rcode.NXDOMAIN


async def test_reverse_names_that_may_be_ours_fail_until_the_zone_is_complete() -> None:
    server = Server(known=Answers())
    server.zone.synced = False
    assert (await server.ask("1.0.96.10.in-addr.arpa", "PTR")).rcode() == dns.rcode.SERVFAIL
    server.zone.synced = True
    assert (await server.ask("1.0.96.10.in-addr.arpa", "PTR")).rcode() == dns.rcode.NXDOMAIN


async def test_types_that_no_name_of_ours_has_are_nodata() -> None:
    server = Server()
    server.put(service())
    for kind in ("HTTPS", "SVCB", "MX", "TXT", "SOA"):
        reply = await server.ask(WEB, kind)
        assert (reply.rcode(), len(reply.answer)) == (dns.rcode.NOERROR, 0)
        assert [rrset[0].minimum for rrset in reply.authority] == [5]


async def test_hosts_entries_win_and_answer_backwards() -> None:
    server = Server(hosts=Hosts(["192.0.2.5 db.example.com db # mine"], ttl=7))
    reply = await server.ask("DB.example.com")
    assert texts(reply.answer) == ["DB.example.com. A 192.0.2.5"]
    assert reply.answer[0].ttl == 7
    assert texts((await server.ask("5.2.0.192.in-addr.arpa", "PTR")).answer) == [
        "5.2.0.192.in-addr.arpa. PTR db.example.com."
    ]
    assert (await server.ask("db", "AAAA")).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("line", ["nowhere db", "192.0.2.5", "192.0.2.5 " + "x" * 64])
def test_a_hosts_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=line.split()[-1][:20]):
        Hosts([line])


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("shop.example.com web.default.svc.cluster.local", "shop.example.com"),
        ("suffix .shop.internal .default.svc.cluster.local", "web.shop.internal"),
        ("prefix shop- we", "shop-b.default.svc.cluster.local"),
        ("substring corp cluster", "web.default.svc.corp.local"),
        (r"regex ^(\w+)-in-(\w+)\.corp\.$ {1}.{2}.svc.cluster.local", "web-in-default.corp"),
    ],
)
async def test_a_rewritten_name_is_answered_under_the_name_asked_for(text: str, asked: str) -> None:
    server = Server(rewrites=[rule(text)])
    server.put(service())
    assert texts((await server.ask(asked)).answer) == [f"{asked}. A 10.96.0.7"]


async def test_a_rewritten_name_outside_keeps_the_rest_of_the_chain() -> None:
    server = Server(known=Answers(example_com="192.0.2.9"), rewrites=[rule("old.org example.com")])
    assert texts((await server.ask("old.org")).answer) == [
        "old.org. CNAME real.example.com.",
        "real.example.com. A 192.0.2.9",
    ]


@pytest.mark.parametrize("text", ["a", "regex ( b", "exact a b c"])
def test_a_rewrite_rule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        rule(text)


async def test_a_completed_search_path_answers_at_the_first_question() -> None:
    first = wire.encode_name("default.svc.cluster.local")

    def search(client: str, name: bytes) -> list[bytes]:
        if client != "10.1.0.9" or not name.endswith(first):
            return []
        return [name[: -len(first)] + wire.encode_name(rest) for rest in ("svc.cluster.local", "cluster.local", ".")]

    known = Answers(example_com="192.0.2.9")
    server = Server(known=known, search=search)
    server.put(service())
    reply = await server.ask("example.com.default.svc.cluster.local", client="10.1.0.9")
    assert texts(reply.answer) == [
        "example.com. CNAME real.example.com.",
        "example.com.default.svc.cluster.local. CNAME example.com.",
        "real.example.com. A 192.0.2.9",
    ]
    inside = await server.ask("web.default.default.svc.cluster.local", client="10.1.0.9")
    assert f"{WEB}. A 10.96.0.7" in texts(inside.answer)
    stranger = await server.ask("example.com.default.svc.cluster.local", client="10.1.0.8")
    assert stranger.rcode() == dns.rcode.NXDOMAIN
    missing = await server.ask("nothing.default.svc.cluster.local", client="10.1.0.9")
    assert missing.rcode() == dns.rcode.NXDOMAIN


def with_opt(message: dns.message.Message, times: int, *, owner: bytes = b"\0") -> bytes:
    data = bytearray(message.to_wire())
    data[11] += times
    return bytes(data) + (owner + wire.opt(0, dnssec_ok=True)[1:]) * times


def rcode(packet: bytes) -> int | None:
    reply = Server().resolver.local(packet, proto="udp").reply
    return None if reply is None else reply[3] & 0xF


def test_edns_is_found_wherever_it_stands_and_only_once() -> None:
    query = dns.message.make_query(ZONE, "SOA")
    other = b"\x01x\0" + (16).to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(4) + b"\0\0"
    data = bytearray(query.to_wire())
    data[11] = 2
    reply = Server().resolver.local(bytes(data) + other + wire.opt(0, dnssec_ok=True), proto="udp").reply
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert message.edns == 0
    assert message.ednsflags & dns.flags.DO
    assert rcode(with_opt(query, 1)) == wire.NOERROR
    assert rcode(with_opt(query, 2)) == wire.FORMERR
    assert rcode(with_opt(query, 1, owner=b"\x01x\0")) == wire.FORMERR
    assert rcode(query.to_wire()[:-2]) == wire.FORMERR
    assert rcode(b"\0\1") is None


def test_a_small_size_in_edns_counts_as_512() -> None:
    server = Server()
    server.put(service(clusterIP="None"), slice_of(*({"addresses": [f"10.1.{n}.1"]} for n in range(60))))
    query = dns.message.make_query(WEB, "A", use_edns=0, payload=100)
    reply = server.resolver.local(query.to_wire(), proto="udp").reply
    assert reply is not None
    assert 400 < len(reply) <= 512
    assert dns.message.from_wire(reply).flags & dns.flags.TC


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "not-an-address"},
        {"type": "ExternalName", "externalName": "ä.example"},
        {"type": "ExternalName", "externalName": "a..b"},
        {"type": "ExternalName", "externalName": ""},
        {"ports": [{"name": "x" * 80, "port": 1}]},
    ],
)
async def test_an_object_that_makes_no_sense_costs_only_its_own_name(spec: dict[str, Any]) -> None:
    server = Server()
    server.put(service("odd", **spec))
    server.put(service())
    assert texts((await server.ask(WEB)).answer) == [f"{WEB}. A 10.96.0.7"]


text = st.text(max_size=70)


@given(
    st.lists(
        st.fixed_dictionaries({"addresses": st.lists(text, max_size=2), "hostname": st.none() | text}), max_size=3
    ),
    text,
    st.sampled_from(["None", "10.96.0.1", "x"]),
)
def test_whatever_the_objects_say_records_can_be_put_and_taken_away(
    endpoints: list[dict[str, Any]], name: str, address: str
) -> None:
    zone = Zone(ZONE, ttl=5)
    before = len(zone)
    zone.put("a", names.records(service(name, clusterIP=address), [slice_of(*endpoints)], zone=ZONE))
    zone.put("a", ())
    assert len(zone) == before


@given(st.binary(max_size=200))
def test_no_reply_whatever_breaks_the_answer(body: bytes) -> None:
    query = wire.parse(dns.message.make_query("example.com", "A").to_wire())
    head = wire.HEADER.pack(1, wire.QR, 1, 2, 1, 0)
    try:
        reply = cache.read(head + query.question + body, question=query.question)
    except wire.FormatError:
        return

    class Odd:
        async def ask(self, server: tuple[str, int], query: Query) -> Reply:
            return reply

    zone = Zone(ZONE, ttl=5)
    zone.synced = True
    resolver = Resolver(
        zone, Upstream(["192.0.2.1"], now=lambda: 0.0, exchange=Odd()), rewrites=[rule("a.org example.com")]
    )
    other = wire.parse(dns.message.make_query("a.org", "A").to_wire())
    assert asyncio.run(resolver.later(other, proto="udp"))[:2] == other.id.to_bytes(2, "big")


@given(st.integers(0, 0xFFFF), st.lists(st.integers(0, 2), min_size=4, max_size=4), st.binary(max_size=120))
def test_every_reply_to_whatever_packet_can_be_read_and_has_its_id(flags: int, counts: list[int], body: bytes) -> None:
    server = Server(hosts=Hosts(["192.0.2.5 db"]), rewrites=[rule("suffix .x .cluster.local")])
    server.put(service())
    packet = wire.HEADER.pack(77, flags & ~wire.QR, *counts) + body
    for proto in ("udp", "tcp"):
        reply = server.resolver.local(packet, proto=proto).reply
        assert reply is not None
        assert dns.message.from_wire(reply, ignore_trailing=False).id == 77


async def test_an_endpoint_in_two_slices_is_answered_once_and_stays_when_one_of_them_goes() -> None:
    server, web = Server(), service(clusterIP="None")
    for owner in ("one", "two"):
        moving = slice_of({"addresses": ["10.1.0.1"], "hostname": "a"})
        server.zone.put(owner, names.of_slice(web, moving, zone=ZONE))
    assert texts((await server.ask(WEB)).answer) == [f"{WEB}. A 10.1.0.1"]
    server.zone.put("one", ())
    assert texts((await server.ask(f"a.{WEB}")).answer) == [f"a.{WEB}. A 10.1.0.1"]
    server.zone.put("two", ())
    assert (await server.ask(WEB)).rcode() == dns.rcode.NXDOMAIN
