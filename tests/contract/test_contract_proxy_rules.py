"""One suite for the proxy's backends, in packets: who answers a pod, seen from whom.

It runs on the fake, which follows packets through the rules' text, and in the kernel, where pods in namespaces really
connect; over IPv4 and IPv6. A backend that is added later is one more parameter.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from proxy_worlds import NETS, FakeWorld, KernelWorld, World

from proxy.backends import flows
from proxy.backends.protocol import Backend, BackendError
from proxy.rules import plan
from proxy.rules.plan import Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

WEB, OTHER = ServiceKey("default", "web"), ServiceKey("default", "other")
NODE_PORT = 30080
TITLE = "default/web:80-tcp"


MODES = ("nftables", "iptables", "legacy")


def params(*modes: str) -> list[str]:
    return [f"{mode}-{kind}-ipv{version}" for mode in modes for kind in ("fake", "kernel") for version in (4, 6)]


@pytest.fixture(params=params(*MODES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from _world(request)


@pytest.fixture(params=params("nftables"))
def flat_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """For what only flat maps promise, or ask for."""
    yield from _world(request)


@pytest.fixture(params=params("iptables", "legacy"))
def iptables_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """For what only iptables promises."""
    yield from _world(request)


@pytest.fixture(params=[name for name in params("iptables", "legacy") if name.endswith("ipv4")])
def loopback_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Where NodePorts are served on 127.0.0.1."""
    yield from _world(request)


@pytest.fixture(params=[name for name in params(*MODES) if "kernel" in name])
def tracking_world(request: pytest.FixtureRequest) -> Iterator[KernelWorld]:
    """Where connections are tracked."""
    for made in _world(request):
        assert isinstance(made, KernelWorld)
        yield made


@pytest.fixture(params=params("nftables", "iptables"))
def telling_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Where the kernel tells of changes."""
    yield from _world(request)


def _world(request: pytest.FixtureRequest) -> Iterator[World]:
    mode, kind, version = request.param.split("-")
    net = NETS[int(version[-1])]
    if kind == "fake":
        yield FakeWorld(net, mode)
        return
    request.getfixturevalue("inside_host")
    kernel = KernelWorld(net, mode, request.getfixturevalue("new_namespace"))
    try:
        yield kernel
    finally:
        kernel.close()


class Cluster:
    """Applies Services one change at a time, as the syncer does."""

    def __init__(self, world: World) -> None:
        self.net = world.net
        self.backend: Backend = world.backend
        self.applied = RuleSet()

    async def start(self) -> "Cluster":
        await self.backend.replace(self.applied)
        return self

    async def serve(self, key: ServiceKey, *ports: tuple[str, int, int, str], address: str = "", **more: Any) -> None:
        """Each port: protocol, port, target port, names of the pods behind it; `more` goes into its PortRules."""
        rules = {}
        for protocol, port, target, pods in ports:
            frontend = Frontend(address or self.net.service, protocol, port)
            rules[frontend] = self._rules(key, frontend, target, pods, **more)
        self.changes = plan.difference(self.applied, {key: rules})
        await self.backend.change(self.changes)
        self.applied.replace(key, rules)

    async def expose(self, address: str, port: int, pods: str, *, protocol: str = "tcp", **more: Any) -> None:
        """The Service `web` on an external address; the NodePort when it is the node's."""
        kind = plan.NODE_PORT if address == self.net.node else plan.BALANCER
        await self.serve(WEB, (protocol, port, 8080, pods), address=address, kind=kind, **more)

    def _rules(
        self, key: ServiceKey, frontend: Frontend, target: int, pods: str, *, local: str = "", **more: Any
    ) -> PortRules:
        old = self.applied.services.get(key, {}).get(frontend)
        addresses = self.net.pods | {"n": self.net.node}
        wanted, here = ({plan.Backend(addresses[pod], target) for pod in names} for names in (pods, local))
        return PortRules(
            backends=plan.stable(old.backends if old else (), wanted),
            local=plan.stable(old.local if old else (), here),
            hairpins=frozenset(addresses[pod] for pod in pods),
            title=f"{key.namespace}/{key.name}:{frontend.port}-{frontend.protocol}",
            **more,
        )


async def test_pod_a_to_the_cluster_address_reaches_each_endpoint_with_its_own_address(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"))
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False), ("c", False)}


async def test_a_pod_that_reaches_itself_through_its_service_is_masqueraded(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "a"))
    assert world.reach("a", world.net.service, "tcp", 80) == {("a", True)}
    assert world.reach("b", world.net.service, "tcp", 80) == {("a", False)}


async def test_udp_is_served_beside_tcp_on_the_same_port_number(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 53, 8080, "b"), ("udp", 53, 9090, "c"))
    assert world.reach("a", world.net.service, "tcp", 53) == {("b", False)}
    assert world.reach("a", world.net.service, "udp", 53) == {("c", False)}


async def test_every_port_of_a_service_leads_to_its_own_target(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"), ("tcp", 81, 9090, "c"))
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False)}
    assert world.reach("a", world.net.service, "tcp", 81) == {("c", False)}


async def test_a_service_without_endpoints_refuses(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, ""), ("udp", 80, 8080, ""))
    assert world.reach("a", world.net.service, "tcp", 80) == {("refused", False)}
    assert world.reach("a", world.net.service, "udp", 80) == {("refused", False)}


async def test_a_port_that_the_service_does_not_have_is_refused(flat_world: World) -> None:
    cluster = await Cluster(flat_world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    assert flat_world.reach("a", flat_world.net.service, "tcp", 99) == {("refused", False)}


async def test_an_address_of_the_service_range_that_is_nobodys_is_silent(flat_world: World) -> None:
    cluster = await Cluster(flat_world).start()
    net = flat_world.net
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    cluster.applied.ranges = ("10.96.0.0/16", "fd96::/108")
    await flat_world.backend.replace(cluster.applied)
    assert flat_world.reach("a", net.other_service, "tcp", 80) == {("silence", False)}
    assert flat_world.reach("a", net.service, "tcp", 80) == {("b", False)}
    assert flat_world.reach("a", net.service, "tcp", 99) == {("refused", False)}
    await cluster.serve(OTHER, ("tcp", 80, 8080, "c"), address=net.other_service)
    assert flat_world.reach("a", net.other_service, "tcp", 80) == {("c", False)}


async def test_a_node_port_answers_the_node_on_its_loopback_address(loopback_world: World) -> None:
    cluster = await Cluster(loopback_world).start()
    await cluster.serve(WEB, ("tcp", NODE_PORT, 8080, "b"), address="127.0.0.1", kind=plan.NODE_PORT)
    assert {who for who, _ in loopback_world.reach("node", "127.0.0.1", "tcp", NODE_PORT)} == {"b"}
    assert (await loopback_world.backend.held()).difference(cluster.applied) == []


async def test_the_hosts_firewall_does_not_stop_a_load_balancers_health_check(iptables_world: World) -> None:
    cluster = await Cluster(iptables_world).start()
    net = iptables_world.net
    iptables_world.shut(9090)
    assert iptables_world.reach("outside", net.node, "tcp", 9090) == {("silence", False)}
    await cluster.expose(net.balancer, 80, "b", local_only=True, local="b", health_port=9090)
    assert iptables_world.reach("outside", net.node, "tcp", 9090) == {("node", False)}
    await cluster.serve(WEB)
    assert iptables_world.reach("outside", net.node, "tcp", 9090) == {("silence", False)}


async def test_a_local_policy_without_local_endpoints_is_silent(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, ""), drop=True)
    assert world.reach("a", world.net.service, "tcp", 80) == {("silence", False)}


async def test_endpoints_come_and_go_one_by_one(world: World) -> None:
    cluster = await Cluster(world).start()
    for pods in ("b", "bc", "abc", "ac", "c", "", "b"):
        await cluster.serve(WEB, ("tcp", 80, 8080, pods))
        answers = {who for who, _ in world.reach("a", world.net.service, "tcp", 80)}
        assert answers == (set(pods) or {"refused"})


async def test_writing_everything_anew_under_traffic_loses_no_connection(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"))
    async with asyncio.TaskGroup() as group:
        traffic = group.create_task(asyncio.to_thread(world.reach, "a", world.net.service, "tcp", 80))
        while not traffic.done():
            await world.backend.replace(cluster.applied)
            await asyncio.sleep(0.01)
    assert traffic.result() == {("b", False), ("c", False)}


async def test_a_deleted_service_is_nobodys_address(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    await cluster.serve(WEB)
    assert "b" not in {who for who, _ in world.reach("a", world.net.service, "tcp", 80)}


async def test_writing_everything_anew_changes_nothing_for_clients(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"))
    await world.backend.replace(cluster.applied)
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False), ("c", False)}
    await cluster.serve(WEB, ("tcp", 80, 8080, "c"))
    assert world.reach("a", world.net.service, "tcp", 80) == {("c", False)}


async def test_a_change_that_does_not_fit_is_refused_whole(flat_world: World) -> None:
    cluster = await Cluster(flat_world).start()
    wrong = RuleSet()
    wrong.replace(
        WEB,
        {
            Frontend(flat_world.net.service, "tcp", 80): PortRules(
                backends=(plan.Backend(flat_world.net.pods["b"], 8080),)
            )
        },
    )
    with pytest.raises(BackendError):
        await flat_world.backend.change(plan.difference(wrong, {WEB: {}}))
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    assert flat_world.reach("a", flat_world.net.service, "tcp", 80) == {("b", False)}


async def test_an_affinity_timeout_that_is_new_asks_for_a_full_write(flat_world: World) -> None:
    cluster = await Cluster(flat_world).start()
    rules = {WEB: {Frontend(flat_world.net.service, "tcp", 80): PortRules(affinity=1)}}
    with pytest.raises(BackendError):
        await flat_world.backend.change(plan.difference(cluster.applied, rules))


async def test_more_endpoints_than_prepared_for_ask_for_a_full_write(flat_world: World) -> None:
    cluster = await Cluster(flat_world).start()
    start = flat_world.net.pods["a"].rpartition(".")[0] or "fd67:"
    many = tuple(plan.Backend(f"{start}{':' if ':' in start else '.'}{n + 10}", 80) for n in range(100))
    rules = {WEB: {Frontend(flat_world.net.service, "tcp", 80): PortRules(backends=many)}}
    with pytest.raises(BackendError):
        await flat_world.backend.change(plan.difference(cluster.applied, rules))
    cluster.applied.replace(WEB, rules[WEB])
    await flat_world.backend.replace(cluster.applied)


async def test_what_the_kernel_holds_reads_back_as_it_was_meant(world: World) -> None:
    cluster = await Cluster(world).start()
    rich = {"sources": (world.net.near,), "local_only": True, "local": "b", "affinity": 10800, "kind": plan.BALANCER}
    await cluster.serve(OTHER, ("tcp", 80, 8080, "bc"), address=world.net.balancer, **rich)
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"), ("udp", 81, 8080, ""), ("sctp", 82, 8080, "a"))
    held = await world.backend.held()
    assert held.difference(cluster.applied) == []
    assert {way.backend.address for way in held.ways if way.outside} == {world.net.pods["b"]}
    empty = RuleSet()
    assert any(line.startswith("-") for line in held.difference(empty))


async def test_what_a_frontend_led_to_is_counted(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"), ("udp", 81, 8080, ""))
    world.reach("a", world.net.service, "tcp", 80)
    held = await world.backend.held()
    (way,) = held.ways
    assert way[:2] == (Frontend(world.net.service, "tcp", 80), plan.Backend(world.net.pods["b"], 8080))
    assert way.connections == world.counted
    assert held.ends(Frontend(world.net.service, "udp", 81)) == "refused"


async def test_what_is_cleaned_up_is_not_present(world: World) -> None:
    await Cluster(world).start()
    assert await world.backend.present()
    await world.backend.cleanup()
    assert not await world.backend.present()


async def test_rules_that_somebody_else_removes_are_noticed_and_own_writes_are_not(telling_world: World) -> None:
    cluster = await Cluster(telling_world).start()
    async with asyncio.TaskGroup() as group:
        noticed = group.create_task(telling_world.backend.damaged())
        await asyncio.sleep(0.05)
        await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
        await telling_world.backend.replace(cluster.applied)
        await asyncio.sleep(0.05)
        assert not noticed.done()
        telling_world.flush()
        await asyncio.wait_for(noticed, 2)
    assert not await telling_world.backend.present()
    await telling_world.backend.replace(cluster.applied)
    assert telling_world.reach("a", telling_world.net.service, "tcp", 80) == {("b", False)}


async def test_rules_that_somebody_removed_are_missed_and_written_anew(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    world.flush()
    assert not await world.backend.present()
    await world.backend.replace(cluster.applied)
    assert await world.backend.present()
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False)}


async def test_a_node_port_leads_anybody_to_the_pods_and_answers_come_back_through_the_node(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, NODE_PORT, "bc")
    for who in ("outside", "a", "node"):
        assert world.reach(who, world.net.node, "tcp", NODE_PORT) == {("b", True), ("c", True)}, who


async def test_a_node_port_of_udp_is_served(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, NODE_PORT, "b", protocol="udp")
    assert world.reach("outside", world.net.node, "udp", NODE_PORT) == {("b", True)}


async def test_an_external_address_without_endpoints_refuses_at_its_port_only(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, 8080, "")
    assert world.reach("outside", world.net.node, "tcp", 8080) == {("refused", False)}
    assert world.reach("a", world.net.node, "tcp", 8080) == {("refused", False)}
    await cluster.expose(world.net.node, NODE_PORT, "")
    assert world.reach("outside", world.net.node, "tcp", 8080) == {("node", False)}


async def test_a_load_balancers_address_is_served_here_for_everybody(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.balancer, 80, "b")
    for who in ("outside", "a", "node"):
        assert world.reach(who, world.net.balancer, "tcp", 80) == {("b", True)}, who


async def test_under_a_local_policy_strangers_reach_pods_of_this_node_and_are_seen_as_they_are(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, NODE_PORT, "bc", local_only=True, local="b")
    assert world.reach("outside", world.net.node, "tcp", NODE_PORT) == {("b", False)}


async def test_under_a_local_policy_pods_and_the_node_itself_reach_every_endpoint(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.balancer, 80, "bc", local_only=True, local="b")
    assert {who for who, _ in world.reach("a", world.net.balancer, "tcp", 80)} == {"b", "c"}
    assert {who for who, _ in world.reach("node", world.net.balancer, "tcp", 80)} == {"b", "c"}


async def test_under_a_local_policy_without_anybody_here_strangers_hear_nothing(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, NODE_PORT, "c", local_only=True)
    assert world.reach("outside", world.net.node, "tcp", NODE_PORT) == {("silence", False)}
    assert {who for who, _ in world.reach("a", world.net.node, "tcp", NODE_PORT)} == {"c"}
    await cluster.expose(world.net.node, NODE_PORT, "bc", local_only=True, local="b")
    assert world.reach("outside", world.net.node, "tcp", NODE_PORT) == {("b", False)}


async def test_a_local_policy_without_any_endpoint_refuses(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, NODE_PORT, "", local_only=True)
    assert world.reach("outside", world.net.node, "tcp", NODE_PORT) == {("refused", False)}


async def test_only_sources_in_the_ranges_may_use_a_load_balancers_address(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.balancer, 80, "b", sources=(world.net.far,))
    assert world.reach("outside", world.net.balancer, "tcp", 80) == {("silence", False)}
    await cluster.expose(world.net.balancer, 80, "b", sources=(world.net.far, world.net.near))
    assert world.reach("outside", world.net.balancer, "tcp", 80) == {("b", True)}
    assert world.reach("a", world.net.balancer, "tcp", 80) == {("silence", False)}
    everybody = "::/0" if world.net.version == 6 else "0.0.0.0/0"
    await cluster.expose(world.net.balancer, 80, "b", sources=(everybody,))
    assert world.reach("a", world.net.balancer, "tcp", 80) == {("b", True)}
    await cluster.expose(world.net.balancer, 80, "b", sources=(world.net.near,))
    assert world.reach("outside", world.net.balancer, "tcp", 80) == {("b", True)}
    await cluster.expose(world.net.balancer, 80, "b")
    assert world.reach("a", world.net.balancer, "tcp", 80) == {("b", True)}


async def test_a_client_with_affinity_stays_with_its_endpoint(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "abc"), affinity=10800)
    first = world.reach("a", world.net.service, "tcp", 80)
    assert len(first) == 1
    assert world.reach("a", world.net.service, "tcp", 80) == first


async def test_affinity_can_be_switched_on_and_off_under_a_live_service(world: World) -> None:
    cluster = await Cluster(world).start()
    for affinity, ends in ((0, 3), (10800, 1), (0, 3), (10800, 1)):
        await cluster.serve(WEB, ("tcp", 80, 8080, "abc"), affinity=affinity)
        assert len({who for who, _ in world.reach("b", world.net.service, "tcp", 80)}) == ends


async def test_a_client_whose_endpoint_is_gone_gets_another_and_stays_there(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"), affinity=10800)
    ((first, _),) = world.reach("a", world.net.service, "tcp", 80)
    other = "c" if first == "b" else "b"
    await cluster.serve(WEB, ("tcp", 80, 8080, other), affinity=10800)
    assert world.reach("a", world.net.service, "tcp", 80) == {(other, False)}
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"), affinity=10800)
    assert world.reach("a", world.net.service, "tcp", 80) == {(other, False)}


async def test_affinity_outlives_a_full_write(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "abc"), affinity=10800)
    first = world.reach("b", world.net.service, "tcp", 80)
    for _ in range(3):
        await world.backend.replace(cluster.applied)
        assert world.reach("b", world.net.service, "tcp", 80) == first


async def test_affinity_ends_after_its_timeout(world: World) -> None:
    cluster = await Cluster(world).start()
    cluster.applied.replace(WEB, {Frontend(world.net.service, "tcp", 80): PortRules(affinity=1, title=TITLE)})
    await world.backend.replace(cluster.applied)
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"), affinity=1)
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False)}
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"), affinity=1)
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False)}
    for _ in range(16):  # each time the client is dealt anew
        await world.wait(1.2)
        ((who, _),) = world.reach("a", world.net.service, "tcp", 80)
        if who == "c":
            return
    pytest.fail("the client is never dealt anew")


async def test_affinity_holds_for_strangers_at_a_node_port_of_both_policies(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.expose(world.net.node, NODE_PORT, "abc", affinity=10800)
    assert len(world.reach("outside", world.net.node, "tcp", NODE_PORT)) == 1
    await cluster.expose(world.net.node, NODE_PORT, "abc", affinity=10800, local_only=True, local="bc")
    ((who, masqueraded),) = world.reach("outside", world.net.node, "tcp", NODE_PORT)
    assert who in "bc"
    assert not masqueraded


async def test_who_sends_all_the_time_is_led_on_when_its_endpoint_goes_and_nobody_else_is(
    tracking_world: KernelWorld,
) -> None:
    cluster, net = await Cluster(tracking_world).start(), tracking_world.net
    await cluster.serve(WEB, ("udp", 80, 8080, "b"))
    await cluster.serve(OTHER, ("udp", 80, 8080, "b"), address=net.other_service)
    sends = tracking_world.sender
    with (
        sends("a", net.service, 80) as led,
        sends("a", net.other_service, 80) as other,
        sends("c", net.pods["b"], 8080) as direct,
    ):
        assert [each.send() for each in (led, other, direct)] == ["b", "b", "b"]
        await cluster.serve(WEB, ("udp", 80, 8080, "c"))
        assert flows.reconcile(flows.affected(cluster.changes)) == {net.version: 1}
        assert [each.send() for each in (led, other, direct)] == ["c", "b", "b"]
        assert flows.reconcile(flows.affected(cluster.changes)) == {net.version: 0}


async def test_a_pod_of_the_hosts_network_is_reached_by_its_nodes_address(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "n"))
    assert world.reach("a", world.net.service, "tcp", 80) == {("node", False)}
    assert {who for who, _ in world.reach("node", world.net.service, "tcp", 80)} == {"node"}


async def test_a_stranger_at_a_cluster_address_is_masqueraded_and_a_pod_is_not(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    assert world.reach("outside", world.net.service, "tcp", 80) == {("b", True)}
    assert world.reach("a", world.net.service, "tcp", 80) == {("b", False)}


async def test_two_services_share_an_address_by_ports_and_end_one_by_one(world: World) -> None:
    cluster = await Cluster(world).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"), address=world.net.balancer, kind=plan.BALANCER)
    await cluster.serve(OTHER, ("tcp", 81, 8080, "c"), address=world.net.balancer, kind=plan.BALANCER)
    await cluster.serve(WEB)
    assert world.reach("a", world.net.balancer, "tcp", 81) == {("c", True)}
