"""Decisions as sentences: which nodes will do, which is best, and what people are told when none will."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.projection import Node, Pod, PodSpec
from controlplane.scheduler import decide, filter, preempt, resources, score, snapshot
from controlplane.scheduler.snapshot import Snapshot

CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "operator": "Exists"}
DEDICATED = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: int = 110, **more: Any) -> Node:
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **more.pop("labels", {})}}
    allocatable = {"cpu": cpu, "memory": memory, "pods": str(pods), **more.pop("extended", {})}
    status = {"allocatable": allocatable, "images": more.pop("images", [])}
    return msgspec.convert({"metadata": meta, "spec": more, "status": status}, Node)


def container(cpu: str = "", memory: str = "", *, name: str = "c", **more: Any) -> dict[str, Any]:
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v} | more.pop("extended", {})
    return {"name": name, "image": more.pop("image", "app"), "resources": {"requests": requests}, **more}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> Pod:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return msgspec.convert({"metadata": meta, "spec": {"containers": containers or (container(),), **spec}}, Pod)


def cluster(*nodes: Node, bound: dict[str, list[Pod]] | None = None) -> Snapshot:
    world = Snapshot()
    for one in nodes:
        world.put_node(one)
    for name, pods in (bound or {}).items():
        for each in pods:
            each.spec.node_name = name
            world.put_pod(each)
    return world


def first(names: Any) -> str:
    return sorted(names)[0]


def place(world: Snapshot, wanted: Pod) -> decide.Verdict:
    return decide.decide(snapshot.pod_info(wanted), world, choose=first)


def explained(world: Snapshot, wanted: Pod) -> str:
    verdict = place(world, wanted)
    outcome = preempt.preempt(snapshot.pod_info(wanted), verdict, world)
    return decide.explain(verdict, preemption=decide.helpless(verdict, outcome.reasons))


def refused(world: Snapshot, wanted: Pod) -> str:
    return decide.explain(place(world, wanted))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container("100m", "1Mi"), container("200m")]}, {"cpu": 300, "memory": 1 << 20}),
        ({"containers": [container("100m")], "initContainers": [container("500m")]}, {"cpu": 500}),
        (
            {
                "containers": [container("300m")],
                "initContainers": [
                    container("100m", restartPolicy="Always"),
                    container("500m"),
                    container("50m", restartPolicy="Always"),
                ],
            },
            {"cpu": 600},
        ),
        (
            {"containers": [container("600m")], "initContainers": [container("100m", restartPolicy="Always")]},
            {"cpu": 700},
        ),
        (
            {"containers": [container("100m")], "overhead": {"cpu": "50m", "memory": "1Ki"}},
            {"cpu": 150, "memory": 1024},
        ),
        ({"containers": [container("100m")], "resources": {"requests": {"cpu": "1"}}}, {"cpu": 1000}),
        ({"containers": [container(extended={"example.com/gpu": 2})]}, {"example.com/gpu": 2}),
        ({"containers": [container()]}, {}),
    ],
    ids=[
        "sum",
        "init peak",
        "sidecars before an init container",
        "sidecar",
        "overhead",
        "pod level",
        "extended",
        "none",
    ],
)
def test_a_pod_asks_for(spec: dict[str, Any], expected: dict[str, int]) -> None:
    assert resources.pod_request(msgspec.convert(spec, PodSpec)) == expected


def test_containers_without_requests_count_in_scores_only() -> None:
    spec = msgspec.convert({"containers": [container(), container("1")]}, PodSpec)
    assert resources.scored_request(spec) == (1100, 400 << 20)
    assert resources.pod_request(spec) == {"cpu": 1000}


def test_every_reason_is_counted_in_text_order() -> None:
    world = cluster(node("a", cpu="1"), node("b", taints=[DEDICATED]), node("c", taints=[DEDICATED]))
    assert explained(world, pod("p", container("2"))) == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )


def test_a_full_node_is_told_apart_from_one_that_is_too_small() -> None:
    world = cluster(node("a", cpu="1"), bound={"a": [pod("x", container("800m"))]})
    assert explained(world, pod("p", container("500m"))) == (
        "0/1 nodes are available: 1 Insufficient cpu. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_an_empty_cluster_has_its_own_message() -> None:
    assert decide.explain(place(cluster(), pod("p"))) == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("on", "spec", "expected"),
    [
        (node("a", unschedulable=True), {}, "1 node(s) were unschedulable"),
        (node("a", unschedulable=True), {"tolerations": [CORDON]}, ""),
        (node("a", taints=[DEDICATED]), {}, "1 node(s) had untolerated taint(s)"),
        (node("a", taints=[DEDICATED]), {"tolerations": [{"key": "dedicated", "value": "db"}]}, ""),
        (node("a", taints=[DEDICATED]), {"tolerations": [{"operator": "Exists"}]}, ""),
        (
            node("a", taints=[DEDICATED]),
            {"tolerations": [{"key": "dedicated", "value": "web"}]},
            "1 node(s) had untolerated taint(s)",
        ),
        (node("a", taints=[{**DEDICATED, "effect": "PreferNoSchedule"}]), {}, ""),
        (node("a"), {"nodeSelector": {"disk": "ssd"}}, "1 node(s) didn't match Pod's node affinity/selector"),
        (node("a", labels={"disk": "ssd"}), {"nodeSelector": {"disk": "ssd"}}, ""),
        (node("a", pods=0), {}, "1 Too many pods"),
        (node("a", memory="1Mi"), {"containers": [container("", "2Mi")]}, "1 Insufficient memory"),
        (node("a"), {"containers": [container(extended={"x.io/gpu": 1})]}, "1 Insufficient x.io/gpu"),
        (node("a", extended={"x.io/gpu": "1"}), {"containers": [container(extended={"x.io/gpu": 1})]}, ""),
    ],
)
def test_a_node_will_do_or_says_why_not(on: Node, spec: dict[str, Any], expected: str) -> None:
    given_containers = spec.pop("containers", [container()])
    world, wanted = cluster(on), pod("p", *given_containers, **spec)
    if expected:
        assert refused(world, wanted) == f"0/1 nodes are available: {expected}."
    else:
        assert place(world, wanted).node == "a"


@pytest.mark.parametrize(
    ("operator", "values", "matching"),
    [
        ("In", ["1", "2"], ["low"]),
        ("NotIn", ["1"], ["high", "none"]),
        ("Exists", None, ["high", "low"]),
        ("DoesNotExist", None, ["none"]),
        ("Gt", ["3"], ["high"]),
        ("Lt", ["3"], ["low"]),
    ],
)
def test_node_affinity_operators(operator: str, values: list[str] | None, matching: list[str]) -> None:
    nodes = [node("low", labels={"gen": "1"}), node("high", labels={"gen": "7"}), node("none")]
    expression = {"key": "gen", "operator": operator, **({"values": values} if values else {})}
    wanted = pod("p", affinity=_required({"matchExpressions": [expression]}))
    fitting = [one.metadata.name for one in nodes if place(cluster(one), wanted).node]
    assert sorted(fitting) == matching


def _required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def test_one_matching_term_is_enough_but_within_it_everything_must_hold() -> None:
    here = {"key": "a", "operator": "Exists"}
    there = {"key": "b", "operator": "Exists"}
    world = cluster(node("n", labels={"a": ""}))
    assert place(world, pod("p", affinity=_required({"matchExpressions": [there]}, {"matchExpressions": [here]}))).node
    assert not place(world, pod("p", affinity=_required({"matchExpressions": [here, there]}))).node
    assert not place(world, pod("p", affinity=_required({}))).node


def test_a_pod_that_names_its_node_looks_at_no_other_and_still_counts_them() -> None:
    field = {"key": "metadata.name", "operator": "In", "values": ["b"]}
    wanted = pod("p", container("2"), affinity=_required({"matchFields": [field]}))
    verdict = place(cluster(node("a"), node("b"), node("c")), wanted)
    assert (verdict.node, verdict.evaluated) == ("b", 1)
    assert refused(cluster(node("a"), node("b", cpu="1")), wanted) == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector."
    )


@pytest.mark.parametrize(
    ("taken", "wanted", "free"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 81}, True),
        ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 80, "hostIP": "10.0.0.2"}, False),
    ],
)
def test_host_ports_clash_by_protocol_address_and_number(taken: Any, wanted: Any, free: bool) -> None:
    def with_port(name: str, port: dict[str, Any]) -> Pod:
        return pod(name, container(ports=[{"containerPort": 8080, **port}]))

    world = cluster(node("a"), bound={"a": [with_port("x", taken)]})
    verdict = place(world, with_port("p", wanted))
    assert bool(verdict.node) is free
    if not free:
        assert verdict.refusals["a"].reasons == ("node(s) didn't have free ports for the requested pod ports",)


def test_the_emptier_node_is_better() -> None:
    world = cluster(node("a"), node("b"), bound={"a": [pod("x", container("1", "1Gi"))]})
    assert place(world, pod("p", container("1", "1Gi"))).node == "b"


def test_the_node_left_in_balance_is_better_than_one_equally_full() -> None:
    world = cluster(
        node("a"),
        node("b"),
        bound={"a": [pod("x", container("2", "1Gi"))], "b": [pod("y", container("1", "3Gi"))]},
    )
    infos = world.nodes
    assert score.balanced_allocation(snapshot.pod_info(pod("p", container("2", "1Gi"))), infos) == [62, 87]


def test_a_node_to_be_avoided_is_taken_only_when_there_is_no_other() -> None:
    avoided = node("a", taints=[{"key": "k", "effect": "PreferNoSchedule"}])
    full = cluster(avoided, node("b"), bound={"b": [pod("x", container("2", "4Gi"))]})
    assert place(full, pod("p", container("1"))).node == "b"
    assert place(cluster(avoided), pod("p")).node == "a"


def test_preferred_terms_add_up_by_weight() -> None:
    def prefer(weight: int, key: str) -> dict[str, Any]:
        return {"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "Exists"}]}}

    preferred = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [prefer(10, "x"), prefer(40, "y")]}
    }
    world = cluster(node("a", labels={"x": ""}), node("b", labels={"y": ""}), node("c"))
    assert place(world, pod("p", affinity=preferred)).node == "b"


def test_a_node_that_has_the_image_is_better() -> None:
    images = [{"names": ["app:latest"], "sizeBytes": 700 << 20}]
    assert place(cluster(node("a"), node("b", images=images)), pod("p")).node == "b"


def test_what_is_assumed_counts_until_it_is_forgotten() -> None:
    world = cluster(node("a", cpu="1"))
    info = snapshot.pod_info(pod("p", container("1")))
    world.assume(info, "a")
    assert place(world, pod("q", container("1"))).node is None
    world.forget(info.uid)
    assert place(world, pod("q", container("1"))).node == "a"


def test_forgetting_a_pod_that_is_bound_after_all_changes_nothing() -> None:
    world = cluster(node("a", cpu="1"))
    bound = pod("p", container("1"))
    world.assume(snapshot.pod_info(bound), "a")
    bound.spec.node_name = "a"
    world.put_pod(bound)
    world.forget("uid-p")
    assert place(world, pod("q", container("1"))).node is None


def test_pods_of_a_node_that_went_and_came_back_still_count() -> None:
    world = cluster(node("a", cpu="1"), bound={"a": [pod("x", container("1"))]})
    world.remove_node("a")
    assert place(world, pod("q")).total == 0
    world.put_node(node("a", cpu="1"))
    assert place(world, pod("q", container("1"))).node is None


@pytest.mark.parametrize(("count", "expected"), [(0, 1), (1, 1), (99, 99), (100, 100), (500, 230), (10_000, 500)])
def test_large_clusters_are_looked_at_in_part(count: int, expected: int) -> None:
    assert decide.enough(count) == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3), st.integers(1, 900)), max_size=60))
def test_sums_kept_step_by_step_equal_sums_made_anew(steps: list[tuple[bool, int, int, int]]) -> None:
    world = cluster(*(node(f"n{i}") for i in range(4)))
    alive: dict[str, Pod] = {}
    for add, which, where, cpu in steps:
        name = f"p{which}"
        if add:
            one = pod(name, container(f"{cpu}m", ports=[{"containerPort": 1, "hostPort": cpu}]))
            one.spec.node_name = f"n{where}"
            world.put_pod(one)
            alive[name] = one
        else:
            world.remove_pod(f"uid-{name}")
            alive.pop(name, None)
    fresh = cluster(*(node(f"n{i}") for i in range(4)))
    for one in alive.values():
        fresh.put_pod(one)
    for name, info in world.infos.items():
        again = fresh.infos[name]
        assert {k: v for k, v in info.requested.items() if v} == {k: v for k, v in again.requested.items() if v}
        assert (info.scored_cpu, info.scored_memory, info.ports) == (again.scored_cpu, again.scored_memory, again.ports)
        assert info.pods.keys() == again.pods.keys()


def test_filters_that_cannot_refuse_a_pod_are_left_out() -> None:
    plain, picky = snapshot.pod_info(pod("p")), snapshot.pod_info(pod("q", nodeSelector={"a": "b"}))
    assert len(filter.prepare(plain, cluster())) < len(filter.prepare(picky, cluster()))


def test_equal_nodes_all_get_their_share() -> None:
    world = cluster(*(node(f"n{i}") for i in range(5)))
    dice = random.Random(1)
    chosen = {decide.decide(snapshot.pod_info(pod("p")), world, choose=dice.choice).node for _ in range(60)}
    assert chosen == {f"n{i}" for i in range(5)}
