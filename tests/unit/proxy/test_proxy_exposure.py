"""Services seen from outside and near: external addresses, NodePorts, policies, affinity, hints, health checks."""

import asyncio
import contextlib
import socket
from typing import Any

import msgspec
import pytest

from kube.types import EndpointSlice, Node, Service
from proxy import health_checks, host
from proxy.health_checks import Check, HealthChecks
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, Rules, RuleSet
from proxy.services.model import ServiceKey, ThisNode

HERE = ThisNode(name="node-1", zone="z1", node_port_addresses=("192.168.7.1", "fd00::1"))
BALANCER = "198.51.100.7"


def service(name: str = "web", *, status: dict[str, Any] | None = None, **spec: Any) -> Service:
    ports = [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]
    body = {"type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": ports} | spec
    ingress = {"loadBalancer": {"ingress": [{"ip": BALANCER, "ipMode": "VIP"}]}}
    return msgspec.convert(
        {"metadata": {"name": name, "namespace": "default"}, "spec": body, "status": status or ingress}, Service
    )


def endpoint(address: str, *, node: str = "node-1", hints: dict[str, Any] | None = None, **conditions: bool) -> Any:
    return {"addresses": [address], "nodeName": node, "conditions": conditions, "hints": hints}


def slices(*endpoints: Any) -> list[EndpointSlice]:
    body = {
        "metadata": {"name": "web-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    return [msgspec.convert(body, EndpointSlice)]


def rules(found: Service, *endpoints: Any, node: ThisNode = HERE) -> Rules:
    return plan.plan(found, slices(*endpoints), node=node, before={})


def at(found: Rules, address: str, port: int = 80) -> PortRules:
    return found[Frontend(address, "tcp", port)]


def addresses(found: PortRules) -> list[str]:
    return [backend.address for backend in found.backends]


def test_a_load_balanced_service_is_served_on_all_its_addresses() -> None:
    found = rules(service(externalIPs=["203.0.113.5"]), endpoint("10.0.0.1"))
    assert {(frontend.address, frontend.port): port.kind for frontend, port in found.items()} == {
        ("10.96.0.10", 80): plan.CLUSTER,
        (BALANCER, 80): plan.BALANCER,
        ("203.0.113.5", 80): plan.EXTERNAL,
        ("192.168.7.1", 30080): plan.NODE_PORT,
        ("fd00::1", 30080): plan.NODE_PORT,
    }
    assert {port.title for port in found.values()} == {"default/web:http"}


def test_an_address_that_the_balancer_itself_answers_is_left_to_it() -> None:
    proxied = {"loadBalancer": {"ingress": [{"ip": BALANCER, "ipMode": "Proxy"}, {"hostname": "lb.example"}]}}
    assert Frontend(BALANCER, "tcp", 80) not in rules(service(status=proxied))


def test_what_is_no_address_costs_itself_only() -> None:
    found = rules(service(externalIPs=["nonsense", "203.0.113.5"]), endpoint("999.0.0.1"), endpoint("10.0.0.1"))
    assert addresses(at(found, "203.0.113.5")) == ["10.0.0.1"]


def test_source_ranges_hold_for_the_balancers_address_only_and_by_ip_version() -> None:
    found = rules(service(loadBalancerSourceRanges=["10.0.0.0/8", " 192.168.1.1/32", "fd00::/8", "junk"]))
    assert at(found, BALANCER).sources == ("10.0.0.0/8", "192.168.1.1/32")
    assert at(found, "10.96.0.10").sources is None
    assert at(found, "192.168.7.1", 30080).sources is None


def test_source_ranges_inside_one_another_are_one() -> None:
    found = rules(service(loadBalancerSourceRanges=["10.1.0.0/16", "10.0.0.0/8", "10.0.0.1/8"]))
    assert at(found, BALANCER).sources == ("10.0.0.0/8",)


def test_source_ranges_that_cannot_be_read_let_nobody_in() -> None:
    assert at(rules(service(loadBalancerSourceRanges=["junk"])), BALANCER).sources == ()


def test_an_external_local_policy_keeps_all_endpoints_for_pods_and_local_ones_for_strangers() -> None:
    local = service(externalTrafficPolicy="Local")
    found = rules(local, endpoint("10.0.0.1"), endpoint("10.0.0.2", node="node-2"))
    outside = at(found, BALANCER)
    assert (outside.local_only, outside.local) == (True, (Backend("10.0.0.1", 8080),))
    assert addresses(outside) == ["10.0.0.1", "10.0.0.2"]
    assert not at(found, "10.96.0.10").local_only


def test_an_internal_local_policy_says_nothing_about_external_addresses() -> None:
    found = rules(service(internalTrafficPolicy="Local"), endpoint("10.0.0.2", node="node-2"))
    assert at(found, "10.96.0.10").drop
    assert addresses(at(found, BALANCER)) == ["10.0.0.2"]


@pytest.mark.parametrize(("config", "seconds"), [(None, 10800), (60, 60), (0, 1), (999999, 86400)])
def test_affinity_lasts_as_long_as_asked_within_bounds(config: int | None, seconds: int) -> None:
    settings = None if config is None else {"clientIP": {"timeoutSeconds": config}}
    found = rules(service(sessionAffinity="ClientIP", sessionAffinityConfig=settings))
    assert {port.affinity for port in found.values()} == {seconds}


def hinted(address: str, *zones: str, node: str = "") -> Any:
    hints = {"forZones": [{"name": zone} for zone in zones], "forNodes": [{"name": node}] if node else []}
    return endpoint(address, hints=hints)


def test_hints_for_our_zone_choose_near_endpoints() -> None:
    assert addresses(at(rules(service(), hinted("10.0.0.1", "z1"), hinted("10.0.0.2", "z2")), BALANCER)) == ["10.0.0.1"]


def test_hints_are_ignored_when_an_endpoint_lacks_them_or_none_is_for_us() -> None:
    both = ["10.0.0.1", "10.0.0.2"]
    assert addresses(at(rules(service(), hinted("10.0.0.1", "z1"), endpoint("10.0.0.2")), BALANCER)) == both
    assert addresses(at(rules(service(), hinted("10.0.0.1", "z8"), hinted("10.0.0.2", "z9")), BALANCER)) == both


def test_hints_for_our_node_come_before_those_for_our_zone() -> None:
    found = rules(service(), hinted("10.0.0.1", "z1", node="node-1"), hinted("10.0.0.2", "z1", node="node-2"))
    assert addresses(at(found, BALANCER)) == ["10.0.0.1"]
    found = rules(service(), hinted("10.0.0.1", "z1", node="node-3"), hinted("10.0.0.2", "z2", node="node-2"))
    assert addresses(at(found, BALANCER)) == ["10.0.0.1"]


def test_a_frontend_belongs_to_who_has_it_and_then_to_the_first_by_name() -> None:
    frontend = Frontend("203.0.113.5", "tcp", 80)
    first, second = ServiceKey("default", "a"), ServiceKey("default", "b")
    wanted = {second: {frontend: PortRules()}, first: {frontend: PortRules()}}
    settled, contested = plan.settle(RuleSet(), wanted)
    assert (list(settled[first]), list(settled[second]), contested) == ([frontend], [], [frontend])
    applied = RuleSet()
    applied.replace(second, {frontend: PortRules()})
    settled, _ = plan.settle(applied, wanted)
    assert (list(settled[first]), list(settled[second])) == ([], [frontend])
    settled, _ = plan.settle(applied, {first: {frontend: PortRules()}})
    assert list(settled[first]) == []
    settled, _ = plan.settle(applied, {first: {frontend: PortRules()}, second: {}})
    assert list(settled[first]) == [frontend]


def node(*given: tuple[str, str], **more: Any) -> Node:
    status = {"addresses": [{"type": kind, "address": address} for kind, address in given]}
    return msgspec.convert({"metadata": {"name": "node-1"} | more.pop("metadata", {}), "status": status} | more, Node)


def test_node_ports_are_served_on_the_nodes_own_addresses_unless_blocks_are_named() -> None:
    found = node(("Hostname", "n"), ("InternalIP", "192.168.7.1"), ("ExternalIP", "8.8.8.8"), ("InternalIP", "fd00::1"))
    by_default = host.this_node("node-1", found, blocks=(), addresses=(), ip="192.168.7.9")
    assert by_default.node_port_addresses == ("192.168.7.1", "fd00::1")
    assert host.this_node("node-1", None, blocks=(), addresses=(), ip="192.168.7.9").node_port_addresses == (
        "192.168.7.9",
    )
    machine = ("127.0.0.1", "fe80::1", "10.1.2.3", "192.168.7.1")
    every = host.this_node("node-1", found, blocks=("0.0.0.0/0", "::/0"), addresses=machine, ip="")
    assert every.node_port_addresses == ("10.1.2.3", "192.168.7.1")


def test_a_node_that_is_being_deleted_is_leaving() -> None:
    assert not host.leaving(node())
    assert host.leaving(node(metadata={"deletionTimestamp": "2026-11-23T16:00:00Z"}))
    assert host.leaving(node(spec={"taints": [{"key": host.DELETION_TAINT, "effect": "NoSchedule"}]}))


def test_a_health_check_answers_by_ready_endpoints_here() -> None:
    check = Check(service=ServiceKey("default", "web"), local_endpoints=2)
    good = health_checks.answer(check, healthy=True)
    assert (good.status, good.headers["X-Load-Balancing-Endpoint-Weight"]) == (200, "2")
    assert msgspec.json.decode(good.body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert health_checks.answer(check, healthy=False).status == 503
    nobody = Check(service=check.service, local_endpoints=0)
    assert health_checks.answer(nobody, healthy=True).status == 503


def test_endpoints_that_end_do_not_count_for_the_health_check() -> None:
    ending = endpoint("10.0.0.2", ready=False, serving=True, terminating=True)
    found = slices(endpoint("10.0.0.1", ready=True), ending, endpoint("10.0.0.3", node="node-2"))
    assert plan.ready_here(service(), found, node="node-1") == 1


async def ask(port: int) -> tuple[int, bytes]:
    # asyncio forgets a connection that it accepts while its server closes: nobody would ever answer.
    async with asyncio.timeout(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    if not head:
        raise ConnectionResetError("closed without an answer")
    return int(head.split()[1]), body


async def once_there(port: int) -> tuple[int, bytes]:
    """The answer, as soon as somebody listens."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ConnectionError):
                return await ask(port)
            await asyncio.sleep(0.01)


async def test_health_checks_are_listened_on_as_services_come_and_go() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    complaints: list[str] = []
    checks = HealthChecks(healthy=lambda: True, complain=lambda key, text: complaints.append(text))
    web, other = ServiceKey("default", "web"), ServiceKey("default", "other")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(checks.run())
        checks.replace(web, port, 1)
        checks.replace(other, port, 5)  # the port is web's
        status, body = await once_there(port)
        assert (status, msgspec.json.decode(body)["localEndpoints"]) == (200, 1)
        checks.replace(web, port, 0)
        assert (await ask(port))[0] == 503
        checks.replace(web, 0, 0)
        with pytest.raises(OSError):
            while True:  # as long as somebody answers
                await ask(port)
        running.cancel()
    assert not complaints
