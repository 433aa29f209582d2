"""One suite for what enforces policies, in sentences about pods: on a fake that follows packets, and in the kernel."""

import secrets
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from kernel.policy_pods import LONG, Pods

from cni.policy.kernel import KernelRules, Rules, RulesError
from cni.policy.plan import Change, Element, PolicySet
from fakes.policy_cluster import EVERYONE, Cluster, address, matrix, pods, policy
from fakes.policy_rules import FakeRules

ALLOW_Y = [{"from": [{"namespaceSelector": pods(ns="y")}]}]


class World(Protocol):
    """Nine pods, and rules between them."""

    rules: Rules

    def matrix(self, *, protocol: str = "tcp", port: int = 80, seconds: float = 0.4) -> dict[str, str]:
        """Who reaches whom."""
        ...


class FakeWorld:
    """Packets followed through sets."""

    def __init__(self) -> None:
        self._fake = FakeRules()
        self.rules: Rules = self._fake

    def matrix(self, *, protocol: str = "tcp", port: int = 80, seconds: float = 0.4) -> dict[str, str]:
        passes = self._fake.passes
        return matrix({(a, b): passes(address(a), address(b), protocol, port) for a in EVERYONE for b in EVERYONE})


class KernelWorld:
    """Pods that really connect."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self.rules: Rules = KernelRules()

    def matrix(self, *, protocol: str = "tcp", port: int = 80, seconds: float = 0.4) -> dict[str, str]:
        return self._pods.matrix(protocol=protocol, port=port, seconds=seconds)


@pytest.fixture(params=["fake", "kernel"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    node = request.getfixturevalue("inside_host")
    real = Pods(node.rsplit("/", 1)[1], f"natest-{secrets.token_hex(3)}")
    try:
        yield KernelWorld(real)
    finally:
        real.close()


def check(world: World, cluster: Cluster, **asked: Any) -> None:
    """The pods reach whom the policies allow; what seems unreachable on a busy machine is asked again with patience."""
    expected = cluster.expected(**asked)
    if world.matrix(**asked) != expected:
        assert world.matrix(**asked, seconds=LONG) == expected


async def test_without_rules_everybody_reaches_everybody(world: World) -> None:
    cluster = Cluster(world.rules)
    await world.rules.replace(PolicySet())
    check(world, cluster)


async def test_each_change_of_policies_holds_for_the_next_connection(world: World) -> None:
    cluster = Cluster(world.rules)
    deny = policy("x", "deny", podSelector=pods(pod="a"), policyTypes=["Ingress", "Egress"])
    await cluster.apply(deny)
    check(world, cluster)
    await cluster.apply(policy("x", "allow", ingress=ALLOW_Y))
    check(world, cluster)
    await cluster.apply(without=[deny.key])
    check(world, cluster)
    await cluster.apply(without=["x/allow"])
    check(world, cluster)


async def test_pods_and_namespaces_change_under_the_same_policies(world: World) -> None:
    cluster = Cluster(world.rules)
    named = [{**ALLOW_Y[0], "ports": [{"port": "http"}]}]
    await cluster.apply(policy("x", "allow", ingress=named), policy("z", "deny"))
    check(world, cluster)
    cluster.relabel_namespace("z", ns="y")
    await cluster.apply()
    check(world, cluster)
    cluster.remove("y/b")
    cluster.relabel("x/c", pod="c", more="labels")
    await cluster.apply()
    check(world, cluster)


async def test_a_change_that_does_not_fit_is_refused_whole(world: World) -> None:
    cluster = Cluster(world.rules)
    await cluster.apply(policy("x", "allow", ingress=ALLOW_Y))
    structure = cluster.tracker.wanted().structure
    (name,) = structure.peers
    missing = Element(version=4, set=name, key=("10.9.9.9",))
    wrong = Change(before=structure, after=structure, remove=(missing,), add=())
    with pytest.raises(RulesError):
        await world.rules.change(wrong)
    check(world, cluster)


async def test_writing_everything_anew_changes_nothing(world: World) -> None:
    cluster = Cluster(world.rules)
    await cluster.apply(policy("x", "allow", ingress=ALLOW_Y))
    await world.rules.replace(cluster.tracker.wanted())
    check(world, cluster)
    cluster.remove("y/a")
    await cluster.apply()
    check(world, cluster)
