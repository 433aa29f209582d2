"""What the plan makes of policies, followed through the sets and chains; and what a change costs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.policy import plan, ruleset
from cni.policy.model import NamedPort
from cni.policy.rules import Policy
from fakes.policy_cluster import EVERYONE, Cluster, address, matrix, pods, policy
from fakes.policy_rules import FakeRules

IN_X_A = pods(pod="a")


def ingress(*peers: Any, ports: Any = (), **more: Any) -> Policy:
    """Pod x/a may be reached by these peers at these ports."""
    rule: dict[str, Any] = {"ports": list(ports)}
    if peers:
        rule["from"] = list(peers)
    return policy("x", "p", podSelector=IN_X_A, ingress=[rule], **more)


def egress(*peers: Any, ports: Any = ()) -> Policy:
    """Pod x/a may reach these peers at these ports, and is not isolated otherwise."""
    rule: dict[str, Any] = {"ports": list(ports)}
    if peers:
        rule["to"] = list(peers)
    return policy("x", "p", podSelector=IN_X_A, policyTypes=["Egress"], egress=[rule])


async def cluster(*policies: Policy) -> tuple[Cluster, FakeRules]:
    rules = FakeRules()
    made = Cluster(rules)
    await made.apply(*policies)
    return made, rules


def seen(rules: FakeRules, *, protocol: str = "tcp", port: int = 80, version: int = 4) -> dict[str, str]:
    return matrix(
        {
            (a, b): rules.passes(address(a, version=version), address(b, version=version), protocol, port)
            for a in EVERYONE
            for b in EVERYONE
        }
    )


def who_reaches(rules: FakeRules, to: str, *, protocol: str = "tcp", port: int = 80) -> str:
    return " ".join(key for key in EVERYONE if rules.passes(address(key), address(to), protocol, port))


def whom_reaches(rules: FakeRules, source: str, *, protocol: str = "tcp", port: int = 80) -> str:
    return " ".join(key for key in EVERYONE if rules.passes(address(source), address(key), protocol, port))


ALL = " ".join(EVERYONE)
NS_Y, NS_ALL = {"namespaceSelector": pods(ns="y")}, {"namespaceSelector": {}}


@pytest.mark.parametrize(
    ("made", "reached_by"),
    [
        pytest.param(policy("x", "p"), "x/a", id="a policy without rules leaves only the pod itself"),
        pytest.param(policy("x", "p", ingress=[{}]), ALL, id="an empty rule allows everybody"),
        pytest.param(policy("y", "p"), ALL, id="a policy of another namespace does not hold here"),
        pytest.param(policy("x", "p", podSelector=pods(pod="b")), ALL, id="a pod not selected is not isolated"),
        pytest.param(
            policy("x", "p", podSelector=IN_X_A, policyTypes=["Egress"]),
            ALL,
            id="a policy on egress leaves ingress alone",
        ),
        pytest.param(ingress({"podSelector": {}}), "x/a x/b x/c", id="an empty pod selector is the own namespace"),
        pytest.param(ingress({"podSelector": pods(pod="b")}), "x/a x/b", id="a pod selector stays in the namespace"),
        pytest.param(ingress(NS_Y), "x/a y/a y/b y/c", id="a namespace selector takes all its pods"),
        pytest.param(ingress(NS_ALL), ALL, id="an empty namespace selector is all namespaces"),
        pytest.param(
            ingress({**NS_Y, "podSelector": pods(pod="b")}), "x/a y/b", id="both selectors in one peer must both match"
        ),
        pytest.param(
            ingress(NS_Y, {"podSelector": pods(pod="b")}), "x/a x/b y/a y/b y/c", id="two peers: either may match"
        ),
        pytest.param(
            ingress({"namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["y"]}]}}),
            "x/a x/b x/c z/a z/b z/c",
            id="expressions in selectors",
        ),
        pytest.param(ingress({"ipBlock": {"cidr": "10.66.1.0/24"}}), "x/a y/a y/b y/c", id="an address block"),
        pytest.param(
            ingress({"ipBlock": {"cidr": "10.66.0.0/16", "except": ["10.66.1.0/24", "10.66.2.3/32"]}}),
            "x/a x/b x/c z/a z/c",
            id="a block without its exceptions",
        ),
        pytest.param(
            ingress({"ipBlock": {"cidr": "10.66.0.0/16", "except": ["10.66.1.0/24"]}}, NS_Y),
            ALL,
            id="an exception takes nothing from what another peer allows",
        ),
        pytest.param(
            ingress({"ipBlock": {"cidr": "10.66.1.0/24"}}, {"ipBlock": {"cidr": "10.66.0.0/16"}}),
            ALL,
            id="blocks that overlap",
        ),
    ],
)
async def test_who_reaches_an_isolated_pod(made: Policy, reached_by: str) -> None:
    world, rules = await cluster(made)
    assert who_reaches(rules, "x/a") == reached_by
    assert seen(rules) == world.expected()


@pytest.mark.parametrize(
    ("made", "reaches"),
    [
        pytest.param(policy("x", "p", podSelector=IN_X_A, policyTypes=["Egress"]), "x/a", id="no rule"),
        pytest.param(egress(), ALL, id="an empty rule"),
        pytest.param(egress(NS_Y), "x/a y/a y/b y/c", id="a namespace"),
        pytest.param(egress({**NS_Y, "podSelector": pods(pod="b")}), "x/a y/b", id="both selectors"),
        pytest.param(egress({"ipBlock": {"cidr": "10.66.2.0/24"}}), "x/a z/a z/b z/c", id="a block"),
        pytest.param(
            policy("x", "p", podSelector=IN_X_A, egress=[{"to": [NS_Y]}]),
            "x/a y/a y/b y/c",
            id="policyTypes follow egress",
        ),
    ],
)
async def test_whom_an_isolated_pod_reaches(made: Policy, reaches: str) -> None:
    world, rules = await cluster(made)
    assert whom_reaches(rules, "x/a") == reaches
    assert seen(rules) == world.expected()


@pytest.mark.parametrize(
    ("ports", "open_ports"),
    [
        pytest.param([{"port": 80}], "tcp/80", id="a number is TCP"),
        pytest.param([{"port": 80, "protocol": "UDP"}], "udp/80", id="a number with a protocol"),
        pytest.param([{"port": 80, "protocol": "SCTP"}], "sctp/80", id="SCTP"),
        pytest.param([{"protocol": "UDP"}], "udp/79 udp/80 udp/81 udp/82", id="a protocol alone is all its ports"),
        pytest.param([{"port": 80, "endPort": 81}], "tcp/80 tcp/81", id="a range"),
        pytest.param(
            [{"port": 80, "endPort": 82}, {"port": 81}, {"port": 79}], "tcp/79 tcp/80 tcp/81 tcp/82", id="many"
        ),
        pytest.param([{"port": "http"}], "tcp/80", id="a name is resolved by the pod that is reached"),
        pytest.param([{"port": "http", "protocol": "UDP"}, {"port": 81}], "tcp/81 udp/80", id="a name and a number"),
        pytest.param([{"port": "none"}], "", id="a name that no pod has is no port"),
    ],
)
@pytest.mark.parametrize("direction", [ingress, egress])
async def test_which_ports_are_open(
    direction: Callable[..., Policy], ports: list[dict[str, Any]], open_ports: str
) -> None:
    _, rules = await cluster(direction(NS_Y, ports=ports))
    source, to = ("y/b", "x/a") if direction is ingress else ("x/a", "y/b")
    asked = [(protocol, port) for protocol in ("sctp", "tcp", "udp") for port in (79, 80, 81, 82)]
    found = [f"{p}/{n}" for p, n in asked if rules.passes(address(source), address(to), p, n)]
    assert " ".join(found) == open_ports


@pytest.mark.parametrize("direction", ["ingress", "egress"])
async def test_a_named_port_is_each_pods_own_number(direction: str) -> None:
    rules = FakeRules()
    world = Cluster(rules)
    pod = world.tracker.pods["x/b"]
    world.tracker.pod("x/b", replace(pod, ports=(NamedPort("http", "tcp", 8080),)))
    if direction == "ingress":
        made = policy("x", "p", ingress=[{"ports": [{"port": "http"}]}])
    else:
        made = policy("y", "p", policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])
    await world.apply(made)
    open_at = {
        (to, port)
        for to in ("x/a", "x/b")
        for port in (80, 8080)
        if rules.passes(address("y/a"), address(to), "tcp", port)
    }
    assert open_at == {("x/a", 80), ("x/b", 8080)}
    world.tracker.pod("x/b", replace(pod, ports=()))
    await world.apply()
    assert not rules.passes(address("y/a"), address("x/b"), "tcp", 8080)


async def test_what_one_protocol_may_another_may_not() -> None:
    _, rules = await cluster(ingress(ports=[{"port": 80, "protocol": "SCTP"}]))
    found = [p for p in ("tcp", "udp", "sctp") if rules.passes(address("y/a"), address("x/a"), p, 80)]
    assert found == ["sctp"]


async def test_conflicting_policies_may_be_switched_and_deleted() -> None:
    deny, allow = policy("x", "p"), policy("x", "p", ingress=[{}])
    world, rules = await cluster(deny)
    for made, reached in ((allow, ALL), (deny, "x/a"), (allow, ALL)):
        await world.apply(made)
        assert who_reaches(rules, "x/a") == reached
    await world.apply(deny)
    await world.apply(without=["x/p"])
    assert who_reaches(rules, "x/a") == ALL
    assert not rules.there


def test_ports_and_blocks_are_disjoint_ranges_as_nft_wants_them() -> None:
    ports = [{"port": 80}, {"port": 70, "endPort": 79}, {"port": 75, "endPort": 90}, {"port": 92}]
    holes = ["10.0.0.0/26", "10.0.0.32/28", "10.0.0.128/25"]
    blocks = [{"ipBlock": {"cidr": "10.0.0.0/24", "except": holes}}, {"ipBlock": {"cidr": "10.0.0.96/28"}}]
    made = plan.chain("ingress", [ingress(*blocks, ports=ports)])
    assert made is not None
    assert [match.ports for match in made.matches] == [((70, 90), (92, 92))]
    assert [(str(low), str(high)) for low, high in made.blocks[0].ranges] == [("10.0.0.64", "10.0.0.127")]


async def test_policies_add_up() -> None:
    one = policy("x", "one", ingress=[{"from": [NS_Y]}])
    two = policy("x", "two", podSelector=IN_X_A, ingress=[{"from": [{"podSelector": {}}]}])
    _, rules = await cluster(one, two)
    assert who_reaches(rules, "x/a") == "x/a x/b x/c y/a y/b y/c"
    assert who_reaches(rules, "x/b") == "x/b y/a y/b y/c"


async def test_both_ends_must_allow_a_connection() -> None:
    world, rules = await cluster(egress(NS_Y), policy("y", "p", ingress=[{"from": [{"podSelector": {}}]}]))
    assert whom_reaches(rules, "x/a") == "x/a"
    await world.apply(policy("y", "p", ingress=[{"from": [{"namespaceSelector": pods(ns="x")}]}]))
    assert whom_reaches(rules, "x/a") == "x/a y/a y/b y/c"


async def test_ipv6_is_judged_like_ipv4_except_for_blocks() -> None:
    _, rules = await cluster(ingress(NS_Y, {"ipBlock": {"cidr": "fd00:66::2:0/112"}}))
    reached = [key for key in EVERYONE if rules.passes(address(key, version=6), address("x/a", version=6))]
    assert " ".join(reached) == "x/a y/a y/b y/c z/a z/b z/c"
    assert who_reaches(rules, "x/a") == "x/a y/a y/b y/c"


async def test_only_the_pods_own_node_judges() -> None:
    rules = FakeRules()
    world = Cluster(rules, remote=EVERYONE)
    await world.apply(policy("x", "p"), egress())
    assert not rules.there


async def test_a_relabelled_namespace_moves_its_pods() -> None:
    world, rules = await cluster(ingress({"namespaceSelector": pods(team="blue")}))
    assert who_reaches(rules, "x/a") == "x/a"
    world.relabel_namespace("z", ns="z", team="blue")
    await world.apply()
    assert who_reaches(rules, "x/a") == "x/a z/a z/b z/c"
    assert not rules.changes[-1].structural


async def test_a_relabelled_pod_is_one_element() -> None:
    world, rules = await cluster(ingress({"podSelector": pods(role="client")}))
    world.relabel("x/b", pod="b", role="client")
    await world.apply()
    assert who_reaches(rules, "x/a") == "x/a x/b"
    assert [each.key for each in rules.changes[-1].add] == [(address("x/b"),), (address("x/b", version=6),)]


async def test_a_new_pod_of_known_policies_is_elements_only() -> None:
    world, rules = await cluster(policy("x", "p", ingress=[{"from": [NS_Y]}]))
    pod = world.tracker.pods["x/a"]
    world.remove("x/a")
    await world.apply()
    assert who_reaches(rules, "x/a") == ALL
    world.tracker.pod("x/a", pod)
    await world.apply()
    assert who_reaches(rules, "x/a") == "x/a y/a y/b y/c"
    assert not any(change.structural for change in rules.changes)


async def test_pods_with_the_same_policies_share_a_chain() -> None:
    world, _ = await cluster(policy("x", "p", ingress=[{"from": [NS_Y]}]), policy("z", "q", ingress=[{"from": [NS_Y]}]))
    assert len(world.tracker.wanted().structure.chains) == 1


async def test_what_is_equal_is_no_change() -> None:
    world, rules = await cluster(ingress(NS_Y))
    world.relabel_namespace("y", ns="y")
    await world.apply(ingress(NS_Y))
    assert rules.changes == []


async def test_an_addition_to_a_policy_keeps_the_sets_that_stay() -> None:
    world, rules = await cluster(ingress(NS_Y))
    await world.apply(ingress(NS_Y, ports=[{"port": 80}]))
    change = rules.changes[-1]
    assert change.structural
    assert {element.set for element in (*change.add, *change.remove)} == {"ingress"}


def test_the_text_for_no_isolated_pod_is_the_removal() -> None:
    assert ruleset.whole(plan.PolicySet()) == ruleset.removal()


PEERS = st.sampled_from(
    [
        {"podSelector": {}},
        {"podSelector": pods(pod="a")},
        NS_ALL,
        NS_Y,
        {"namespaceSelector": pods(ns="z"), "podSelector": pods(pod="c")},
        {"ipBlock": {"cidr": "10.66.0.0/23", "except": ["10.66.0.3/32", "10.66.1.0/25"]}},
        {"ipBlock": {"cidr": "0.0.0.0/0"}},
    ]
)
PORTS = st.sampled_from([{"port": 80}, {"port": "http"}, {"port": 79, "endPort": 90}, {"protocol": "UDP"}])
RULES = st.builds(
    lambda side, peers, ports: {**({side: peers} if peers else {}), **({"ports": ports} if ports else {})},
    st.just("peers"),
    st.lists(PEERS, max_size=2),
    st.lists(PORTS, max_size=2),
)


def _spec(selector: dict[str, Any], types: list[str], into: list[Any], out: list[Any]) -> dict[str, Any]:
    def renamed(found: list[Any], side: str) -> list[Any]:
        return [{side if key == "peers" else key: value for key, value in rule.items()} for rule in found]

    return {
        "podSelector": selector,
        "policyTypes": types,
        "ingress": renamed(into, "from"),
        "egress": renamed(out, "to"),
    }


SPECS = st.builds(
    _spec,
    st.sampled_from([{}, pods(pod="a"), pods(pod="b")]),
    st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"], []]),
    st.lists(RULES, max_size=2),
    st.lists(RULES, max_size=2),
)
STEPS = st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("pq"), st.none() | SPECS), min_size=1, max_size=4)


@settings(suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
async def test_whatever_the_policies_were_the_rules_say_what_they_say(steps: list[Any]) -> None:
    rules = FakeRules()
    world = Cluster(rules)
    for namespace, name, spec in steps:
        if spec is None:
            await world.apply(without=[f"{namespace}/{name}"])
        else:
            await world.apply(policy(namespace, name, **spec))
        for protocol, port in (("tcp", 80), ("udp", 81)):
            assert seen(rules, protocol=protocol, port=port) == world.expected(protocol=protocol, port=port)
        wanted = world.tracker.wanted()
        assert frozenset(rules.elements.values()) == (frozenset() if wanted.empty else wanted.elements)
