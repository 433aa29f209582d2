"""Making room: whose place a more important pod takes, and whose it must not."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_controlplane_scheduler_loop import bindings, condition, node, pod, running, show_bound

from controlplane.projection import Node, Pod
from controlplane.scheduler import decide, preempt, snapshot
from controlplane.scheduler.preempt import Budget
from controlplane.scheduler.snapshot import Snapshot
from kube import labels, scheme
from tests.fakes.apiserver import FakeApiServer


def one_node(name: str, cpu: int, **spec: Any) -> Node:
    return msgspec.convert(node(name, cpu=str(cpu), **spec) | {"status": _status(cpu)}, Node)


def _status(cpu: int) -> dict[str, Any]:
    return {"allocatable": {"cpu": str(cpu), "memory": "64Gi", "pods": "50"}}


def placed(name: str, priority: int, on: str, *, cpu: int = 1, started: str = "", app: str = "x", **spec: Any) -> Pod:
    made = pod(name, cpu=str(cpu), priority=priority, nodeName=on, **spec)
    made["metadata"]["labels"] = {"app": app}
    return msgspec.convert({**made, "status": {"startTime": started or None}}, Pod)


def room(
    made: Snapshot, priority: int, *, cpu: int = 1, budgets: tuple[Budget, ...] = (), **spec: Any
) -> preempt.Outcome:
    info = snapshot.pod_info(msgspec.convert(pod("new", cpu=str(cpu), priority=priority, **spec), Pod))
    verdict = decide.decide(info, made, choose=lambda names: names[0])
    assert verdict.node is None
    return preempt.preempt(info, verdict, made, budgets=budgets)


def world(nodes: list[Node], *pods: Pod) -> Snapshot:
    made = Snapshot()
    for one in nodes:
        made.put_node(one)
    for each in pods:
        made.put_pod(each)
    return made


def chosen(outcome: preempt.Outcome) -> tuple[str, list[str]]:
    assert outcome.chosen is not None
    return outcome.chosen.node, sorted(one.pod.metadata.name for one in outcome.chosen.pods)


def test_only_pods_of_lower_priority_go() -> None:
    made = world([one_node("n", 2)], placed("same", 10, "n"), placed("lower", 5, "n"))
    assert chosen(room(made, 10)) == ("n", ["lower"])
    nobody = room(world([one_node("n", 1)], placed("same", 10, "n")), 10)
    assert (nobody.chosen, nobody.reasons) == (None, {"n": ("No preemption victims found for incoming pod",)})


def test_no_more_go_than_have_to_and_the_least_important_first() -> None:
    pods = [placed(f"p{i}", i, "n") for i in range(4)]
    assert chosen(room(world([one_node("n", 4)], *pods), 10, cpu=2)) == ("n", ["p0", "p1"])


def test_when_even_an_empty_node_is_not_enough_nobody_goes() -> None:
    made = world([one_node("n", 2)], placed("high", 20, "n"), placed("low", 1, "n"))
    outcome = room(made, 10, cpu=2)
    assert (outcome.chosen, outcome.reasons) == (None, {"n": ("Insufficient cpu",)})


def test_a_refusal_that_removing_pods_cannot_cure_is_not_tried() -> None:
    tainted = one_node("n", 1, taints=[{"key": "k", "effect": "NoSchedule"}])
    outcome = room(world([tainted], placed("low", 1, "n")), 10)
    assert outcome.reasons == {"n": ("Preemption is not helpful for scheduling",)}


@pytest.mark.parametrize(
    ("on_a", "on_b"),
    [
        ([("a1", 7, 1, "")], [("b1", 5, 1, "")]),
        ([("a1", 5, 1, ""), ("a2", 4, 1, "")], [("b1", 5, 1, ""), ("b2", 1, 1, "")]),
        ([("a1", 5, 1, ""), ("a2", -5, 1, "")], [("b1", 5, 2, "")]),
        ([("a1", 5, 2, "2026-01-01T00:00:00Z")], [("b1", 5, 2, "2026-01-02T00:00:00Z")]),
    ],
    ids=["lowest highest priority", "lowest sum", "fewest pods", "latest start"],
)
def test_the_node_chosen_is_the_one_with_the(on_a: list[Any], on_b: list[Any]) -> None:
    capacity = sum(cpu for _, _, cpu, _ in on_a)
    pods = [
        placed(name, priority, on, cpu=cpu, started=started)
        for on, group in (("a", on_a), ("b", on_b))
        for name, priority, cpu, started in group
    ]
    made = world([one_node("a", capacity), one_node("b", capacity)], *pods)
    assert chosen(room(made, 10, cpu=capacity))[0] == "b"


def test_pods_a_budget_protects_are_spared_while_others_can_go() -> None:
    selector = labels.from_object({"matchLabels": {"app": "guarded"}})
    budget = Budget("default", selector, 0)
    made = world([one_node("n", 2)], placed("guarded", 1, "n", app="guarded"), placed("free", 5, "n"))
    assert chosen(room(made, 10, budgets=(budget,))) == ("n", ["free"])
    assert chosen(room(made, 10)) == ("n", ["guarded"])
    both = room(made, 10, cpu=2, budgets=(budget,))
    assert both.chosen is not None
    assert both.chosen.violations == 1


def test_a_node_without_broken_budgets_is_better_whatever_its_priorities() -> None:
    budget = Budget("default", labels.from_object({"matchLabels": {"app": "guarded"}}), 0)
    made = world([one_node("a", 1), one_node("b", 1)], placed("guarded", 1, "a", app="guarded"), placed("high", 9, "b"))
    assert chosen(room(made, 10, budgets=(budget,))) == ("b", ["high"])


def test_an_unwelcoming_neighbour_can_be_made_to_go() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    away = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    at = one_node("n", 4)
    at.metadata.labels = {"kubernetes.io/hostname": "n"}
    made = world([at], placed("loner", 1, "n", app="web", affinity=away), placed("other", 1, "n"))
    assert chosen(room(made, 10, affinity=away)) == ("n", ["loner"])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), min_size=1, max_size=8),
    st.integers(0, 9),
    st.integers(1, 6),
)
def test_after_its_victims_are_gone_the_pod_fits_and_none_of_them_was_needless(
    present: list[tuple[int, int]], priority: int, cpu: int
) -> None:
    capacity = max(cpu, sum(size for _, size in present))
    pods = [placed(f"p{i}", own, "n", cpu=size) for i, (own, size) in enumerate(present)]
    made = world([one_node("n", capacity)], *pods)
    info = snapshot.pod_info(msgspec.convert(pod("new", cpu=str(cpu), priority=priority), Pod))
    verdict = decide.decide(info, made, choose=lambda names: names[0])
    if verdict.node:
        return
    outcome = preempt.preempt(info, verdict, made)
    lower = [one for one in pods if (one.spec.priority or 0) < priority]
    if outcome.chosen is None:
        for one in lower:
            made.remove_pod(one.metadata.uid)
        assert decide.decide(info, made, choose=lambda names: names[0]).node is None
        return
    assert all(one.priority < priority for one in outcome.chosen.pods)
    for one in outcome.chosen.pods:
        made.remove_pod(one.uid)
    assert decide.decide(info, made, choose=lambda names: names[0]).node == "n"
    for one in outcome.chosen.pods:
        again = world([one_node("n", capacity)], *pods)
        for gone in outcome.chosen.pods:
            if gone is not one:
                again.remove_pod(gone.uid)
        assert decide.decide(info, again, choose=lambda names: names[0]).node is None, "one victim less would do"


# at work, in virtual time


@pytest.mark.looptime
async def test_an_important_pod_takes_the_place_and_nobody_lesser_gets_in_between() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", cpu="1"))
    server.put(scheme.PODS, pod("low", priority=1, nodeName="n"))
    async with running(server) as component:
        server.put(scheme.PODS, pod("vip", priority=100))
        await asyncio.sleep(0.5)
        assert server.find(scheme.PODS, "low", namespace="default") is None
        server.put(scheme.PODS, pod("chancer", priority=5))
        await asyncio.sleep(0.3)
        assert bindings(server) == [], "the place is kept for the pod it was made for"
        await asyncio.sleep(5)
        assert bindings(server) == [("vip", "n")]
        show_bound(server, "vip", "n")
        await asyncio.sleep(1)
        assert component._snapshot.nomination("vip") == ""
    told = {event["reason"]: event for event in server.all(scheme.EVENTS)}
    assert told["Preempted"]["message"] == "Preempted by pod vip on node n"
    assert told["Preempted"]["involvedObject"]["name"] == "low"
    patched = [r.body["status"] for r in server.requests if r.method == "PATCH" and r.path.endswith("/low/status")]
    assert patched[0]["conditions"][0]["reason"] == "PreemptionByScheduler"


@pytest.mark.looptime
async def test_while_victims_take_their_leave_no_others_are_asked_to_go() -> None:
    server = FakeApiServer()
    for name in ("a", "b"):
        server.put(scheme.NODES, node(name, cpu="1"))
        server.put(scheme.PODS, pod(f"low-{name}", priority=1, nodeName=name))
    leaving = pod("low-a", priority=1, nodeName="a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    server.put(scheme.PODS, leaving)
    server.put(scheme.PODS, {**pod("vip", priority=100), "status": {"nominatedNodeName": "a"}})
    async with running(server):
        await asyncio.sleep(60)
        assert server.find(scheme.PODS, "low-b", namespace="default"), "it is spared"
        assert condition(server, "vip")[1].endswith(
            "preemption: not eligible due to a terminating pod on the nominated node."
        )
        server.remove(scheme.PODS, "low-a", namespace="default")
        await asyncio.sleep(15)
        assert bindings(server) == [("vip", "a")]


@pytest.mark.looptime
async def test_a_pod_that_never_preempts_waits() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", cpu="1"))
    server.put(scheme.PODS, pod("low", priority=1, nodeName="n"))
    async with running(server):
        server.put(scheme.PODS, pod("polite", priority=100, preemptionPolicy="Never"))
        await asyncio.sleep(10)
        assert server.find(scheme.PODS, "low", namespace="default")
        assert condition(server, "polite")[1].endswith("preemption: not eligible due to preemptionPolicy=Never.")


@pytest.mark.looptime
async def test_a_pod_that_cannot_be_understood_keeps_nobody_waiting() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    broken = {"topologyKey": "x", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Sideways"}]}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [broken]}}
    async with running(server):
        server.put(scheme.PODS, pod("broken", affinity=affinity))
        server.put(scheme.PODS, pod("fine"))
        await asyncio.sleep(30)
        assert bindings(server) == [("fine", "n")]
