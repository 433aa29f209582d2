"""Network policies on real packets: for each type of rule the whole matrix of nine pods before and after a change, and
what passes or not beside the pods of one node: services, the node, other nodes, connections that are open.
"""

import asyncio
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernel.policy_pods import LONG, NODE, OUTSIDE, Pods

from cni import netns
from cni.policy import ruleset
from cni.policy.kernel import KernelRules, see_bridged_packets
from cni.policy.rules import Policy
from cni.tables import Kept, TableWatch
from fakes.policy_cluster import Cluster, address, pods, policy
from kube.runtime import conntrack

IN_Y, B_IN_Y = {"namespaceSelector": pods(ns="y")}, {"namespaceSelector": pods(ns="y"), "podSelector": pods(pod="b")}
BLOCK = {"ipBlock": {"cidr": "10.66.0.0/16", "except": ["10.66.1.0/24", "10.66.2.3/32"]}}
SERVICE = "10.96.0.10"
BOTH = ["Ingress", "Egress"]


@pytest.fixture(scope="module")
def made_pods() -> Iterator[Pods]:
    """Nine pods for the whole module, since they take a second to make."""
    node = f"natest-{secrets.token_hex(3)}-node"
    subprocess.run(["ip", "netns", "add", node], check=True, timeout=10)
    try:
        made = Pods(node, node.removesuffix("-node"))
        try:
            yield made
        finally:
            made.close()
    finally:
        subprocess.run(["ip", "netns", "delete", node], check=True, timeout=10)


@pytest.fixture
def world(made_pods: Pods) -> Iterator[Pods]:
    """The pods, without rules; the test's thread is in the node's namespace."""
    descriptor = os.open(f"/run/netns/{made_pods.node}", os.O_RDONLY)
    try:
        with netns.entered(descriptor):
            yield made_pods
            nft("flush ruleset")
    finally:
        os.close(descriptor)


def nft(*lines: str) -> None:
    """Runs a script in the namespace of the calling thread."""
    subprocess.run(["nft", "-f", "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=10)


def check(world: Pods, cluster: Cluster, *, version: int = 4, **asked: Any) -> dict[str, str]:
    """Pods reach whom the policies allow; what seems unreachable on a busy machine is asked again with patience."""
    expected = cluster.expected(**asked)
    if world.matrix(**asked, version=version) != expected:
        assert world.matrix(**asked, version=version, seconds=LONG) == expected
    return expected


def ingress(*peers: Any, ports: Any = ()) -> Policy:
    return policy("x", "p", podSelector=pods(pod="a"), ingress=[_rule("from", peers, ports)])


def egress(*peers: Any, ports: Any = ()) -> Policy:
    return policy("x", "p", podSelector=pods(pod="a"), policyTypes=["Egress"], egress=[_rule("to", peers, ports)])


def _rule(side: str, peers: Any, ports: Any) -> dict[str, Any]:
    return {**({side: list(peers)} if peers else {}), **({"ports": list(ports)} if ports else {})}


MATRICES = [
    pytest.param(policy("x", "p"), policy("x", "p", ingress=[{}]), id="deny all ingress, then allow all"),
    pytest.param(policy("x", "p", policyTypes=["Egress"]), egress(IN_Y), id="deny all egress, then allow a namespace"),
    pytest.param(policy("x", "p", policyTypes=BOTH), ingress(), id="deny both, then allow ingress"),
    pytest.param(ingress({"podSelector": pods(pod="b")}), ingress({"podSelector": pods(pod="c")}), id="pod selector"),
    pytest.param(ingress(IN_Y), ingress({"namespaceSelector": pods(ns="z")}), id="namespace selector"),
    pytest.param(ingress({"namespaceSelector": {}}), ingress({"podSelector": {}}), id="empty selectors"),
    pytest.param(ingress(B_IN_Y), ingress(IN_Y, {"podSelector": pods(pod="b")}), id="both selectors, then either"),
    pytest.param(ingress(BLOCK), ingress({"ipBlock": {"cidr": "10.66.1.0/24"}}), id="block with exceptions"),
    pytest.param(egress(BLOCK), egress({"ipBlock": {"cidr": "10.66.1.3/32"}}), id="egress to a block"),
    pytest.param(ingress(IN_Y, ports=[{"port": 80}]), ingress(IN_Y, ports=[{"port": 81}]), id="port number"),
    pytest.param(ingress(ports=[{"port": "http"}]), ingress(ports=[{"port": "none"}]), id="named port"),
    pytest.param(egress(IN_Y, ports=[{"port": "http"}]), egress(IN_Y, ports=[{"port": 81}]), id="named port on egress"),
    pytest.param(
        ingress(ports=[{"port": 70, "endPort": 80}]), ingress(ports=[{"port": 81, "endPort": 90}]), id="port range"
    ),
    pytest.param(egress(ports=[{"protocol": "UDP"}]), egress(ports=[{"protocol": "TCP"}]), id="protocol"),
]


@pytest.mark.parametrize(("before", "after"), MATRICES)
async def test_the_matrix_before_and_after_a_change(world: Pods, before: Policy, after: Policy) -> None:
    cluster = Cluster(KernelRules())
    await cluster.apply(before)
    first = check(world, cluster)
    check(world, cluster, protocol="udp", port=81)
    await cluster.apply(after)
    second = check(world, cluster)
    check(world, cluster, protocol="udp", port=81)
    assert first != second
    await cluster.apply(without=["x/p"])
    assert set(check(world, cluster).values()) == {"xaxbxcyaybyczazbzc"}


async def test_ipv6_pods_find_each_other_and_obey(world: Pods) -> None:
    cluster = Cluster(KernelRules())
    await cluster.apply(policy("x", "p", policyTypes=BOTH), ingress(IN_Y))
    check(world, cluster, version=6)


async def test_sctp_is_let_through_by_its_port(world: Pods) -> None:
    cluster = Cluster(KernelRules())
    await cluster.apply(ingress(IN_Y, ports=[{"protocol": "SCTP", "port": 80}]))
    for source, port in (("y/a", 80), ("y/a", 81), ("x/b", 80)):
        world.agents[source].ask("sctp", address("x/a"), port)
    assert _taken(world, "x/a") == [[address("y/a"), 80]]
    await cluster.apply(ingress({"podSelector": {}}, ports=[{"protocol": "SCTP"}]))
    for source in ("y/b", "x/b"):
        world.agents[source].ask("sctp", address("x/a"), 90)
    assert _taken(world, "x/a") == [[address("x/b"), 90]]


def _taken(world: Pods, key: str) -> list[list[Any]]:
    """What arrived; an answered UDP question after it makes sure that nothing is on its way still."""
    assert world.reach("z/c", "z/b", "udp", seconds=LONG)
    found: list[list[Any]] = world.agents[key].ask("taken")
    return found


async def test_the_node_reaches_its_own_pods_and_they_the_node(world: Pods) -> None:
    cluster = Cluster(KernelRules())
    await cluster.apply(policy("x", "p", policyTypes=BOTH))
    assert world.reach("node", "x/a", seconds=LONG)
    assert world.reach("x/a", "10.66.255.254", seconds=LONG)
    assert world.reach("x/a", NODE, seconds=LONG)
    assert not world.reach("x/a", OUTSIDE)


async def test_what_comes_from_another_node_is_judged_by_its_own_address(world: Pods) -> None:
    cluster = Cluster(KernelRules())
    assert world.reach("outside", "x/a", seconds=LONG)
    await cluster.apply(ingress(IN_Y))
    assert not world.reach("outside", "x/a")
    await cluster.apply(ingress({"ipBlock": {"cidr": f"{OUTSIDE}/32"}}))
    assert world.reach("outside", "x/a", seconds=LONG)
    await cluster.apply(ingress(IN_Y))
    pod = cluster.tracker.pods["y/a"]
    cluster.tracker.pod("y/far", replace(pod, name="far", addresses=(OUTSIDE,), local=False))
    await cluster.apply()
    assert world.reach("outside", "x/a", seconds=LONG)


async def test_a_pods_way_out_is_judged_by_where_it_ends(world: Pods) -> None:
    cluster = Cluster(KernelRules())
    await cluster.apply(egress(IN_Y))
    assert not world.reach("x/a", OUTSIDE)
    await cluster.apply(egress({"ipBlock": {"cidr": "192.0.2.0/24"}}))
    assert world.reach("x/a", OUTSIDE, seconds=LONG)


async def test_a_service_is_judged_by_the_endpoint_that_was_chosen(world: Pods) -> None:
    nft(
        "add table ip service",
        "add chain ip service c { type nat hook prerouting priority dstnat; }",
        f"add rule ip service c ip daddr {SERVICE} tcp dport 8000 dnat to {address('y/b')}:81",
    )
    cluster = Cluster(KernelRules())
    await cluster.apply(egress(B_IN_Y, ports=[{"port": 81}]))
    assert world.reach("x/a", SERVICE, port=8000, seconds=LONG)
    await cluster.apply(egress(B_IN_Y, ports=[{"port": 8000}]))
    assert not world.reach("x/a", SERVICE, port=8000)
    await cluster.apply(policy("y", "p", ingress=[{"from": [{"namespaceSelector": pods(ns="x")}]}]), without=["x/p"])
    assert world.reach("x/a", SERVICE, port=8000, seconds=LONG)
    assert not world.reach("z/a", SERVICE, port=8000)


async def test_a_pod_reaches_itself_through_its_service(world: Pods) -> None:
    own = address("x/a")
    nft(
        "add table ip service",
        "add chain ip service c { type nat hook prerouting priority dstnat; }",
        f"add rule ip service c ip daddr {SERVICE} tcp dport 8000 dnat to {own}:80",
        "add chain ip service d { type nat hook postrouting priority srcnat; }",
        f"add rule ip service d ip saddr {own} ip daddr {own} masquerade",
    )
    cluster = Cluster(KernelRules())
    await cluster.apply(policy("x", "p", policyTypes=BOTH))
    assert world.reach("x/a", SERVICE, port=8000, seconds=LONG)
    assert not world.reach("x/b", SERVICE, port=8000)


async def test_an_open_connection_outlives_a_policy_and_new_ones_do_not(world: Pods) -> None:
    cluster = Cluster(KernelRules())
    agent = world.agents["y/a"]
    await cluster.apply(ingress(IN_Y))
    agent.ask("hold", "open", address("x/a"), 80)
    await cluster.apply(policy("x", "p", policyTypes=BOTH))
    assert agent.ask("say", "open", LONG)
    assert not world.reach("y/a", "x/a")


@pytest.mark.parametrize("version", [4, 6])
async def test_a_pod_with_a_used_address_gets_nothing_of_the_connections_before(world: Pods, version: int) -> None:
    cluster = Cluster(KernelRules())
    to = address("x/a", version=version)
    await cluster.apply(policy("x", "p", ingress=[{}]))
    for source in ("y/b", "y/c"):
        world.agents[source].ask("hold", f"old{version}", address("x/b", version=version), 80)
    world.agents["y/a"].ask("hold", f"old{version}", to, 80)
    await cluster.apply(policy("x", "p", policyTypes=BOTH))
    conntrack.forget(to)
    assert not world.agents["y/a"].ask("say", f"old{version}", 1.0)
    assert world.agents["y/b"].ask("say", f"old{version}", LONG)
    conntrack.forget(address("y/b", version=version))
    assert not world.agents["y/b"].ask("say", f"old{version}", 1.0)
    assert world.agents["y/c"].ask("say", f"old{version}", LONG)


async def test_rules_that_somebody_removes_are_back_within_a_second(world: Pods) -> None:
    cluster = Cluster(KernelRules())

    async def restore() -> None:
        await cluster.rules.replace(cluster.tracker.wanted())

    watch = TableWatch({ruleset.TABLE: Kept(families=lambda: frozenset(ruleset.FAMILIES.values()), restore=restore)})
    await cluster.apply(policy("x", "p"))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch.run())
        await asyncio.sleep(0.1)
        for harm in ("flush ruleset", "delete table ip6 nodeagent-policy", "flush chain ip nodeagent-policy forward"):
            nft(harm)
            await asyncio.sleep(1.0)
            check(world, cluster)
            check(world, cluster, version=6)
        watching.cancel()


def test_bridged_packets_are_made_visible_where_they_were_not(world: Pods) -> None:
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    setting.write_text("0")
    see_bridged_packets()
    assert setting.read_text().strip() == "1"
