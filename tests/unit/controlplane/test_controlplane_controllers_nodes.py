"""Nodes that fall silent, their pods, their taints and their addresses; hours of it, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from controlplane.controllers import nodeipam, nodelifecycle, podgc, tainteviction, tainting
from controlplane.projection import Node, Pod, Taint
from kube import scheme
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.runtime import metrics
from kube.runtime.component import Deps
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import START, LoopClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}


def node(name: str, ready: str | None = "True", *, zone: str = "", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}] if ready else []
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    meta = {"name": name, "uid": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": spec, "status": {"conditions": conditions}}


def as_node(made: dict[str, Any]) -> Node:
    return msgspec.convert(made, Node)


def pod(name: str, on: str = "n", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"phase": spec.pop("phase", "Running"), "conditions": [ready]}
    return {"metadata": meta, "spec": {"nodeName": on, **spec}, "status": status}


def as_pod(made: dict[str, Any]) -> Pod:
    return msgspec.convert(made, Pod)


def tolerating(key: str, seconds: int | None = None) -> list[dict[str, Any]]:
    toleration: dict[str, Any] = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    return [toleration | ({"tolerationSeconds": seconds} if seconds is not None else {})]


# plans


@pytest.mark.parametrize(
    ("conditions", "spec", "evict", "expected"),
    [
        ({"Ready": "True"}, {}, True, set()),
        ({"Ready": "False"}, {}, False, {("not-ready", "NoSchedule")}),
        ({"Ready": "Unknown"}, {}, True, {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
        ({"Ready": "True", "DiskPressure": "True"}, {}, False, {("disk-pressure", "NoSchedule")}),
        ({"Ready": "True", "NetworkUnavailable": "True"}, {}, False, {("network-unavailable", "NoSchedule")}),
        ({"Ready": "True"}, {"unschedulable": True}, False, {("unschedulable", "NoSchedule")}),
    ],
)
def test_conditions_call_for_taints(conditions: dict[str, str], spec: Any, evict: bool, expected: Any) -> None:
    made = node("n", None, **spec)
    made["status"]["conditions"] = [{"type": kind, "status": value} for kind, value in conditions.items()]
    wanted = tainting.wanted(as_node(made), evict=evict, now=NOW)
    assert {(t.key.removeprefix("node.kubernetes.io/"), t.effect) for t in wanted} == expected


def test_taints_of_others_and_their_times_stay() -> None:
    mine = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    old = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule", "timeAdded": "2025-01-01T00:00:00Z"}
    wanted = tainting.wanted(as_node(node("n", "False", taints=[mine, old])), evict=False, now=NOW)
    assert wanted == tuple(msgspec.convert([mine, old], list[Taint]))
    assert tainting.wanted(as_node(node("n", "True", taints=[mine, old])), evict=False, now=NOW) == wanted[:1]


def test_a_node_that_never_reported_keeps_the_taint_it_came_with() -> None:
    came = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert len(tainting.wanted(as_node(node("n", None, taints=came)), evict=False, now=NOW)) == 1


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0),
        (tolerating("node.kubernetes.io/unreachable"), None),
        (tolerating("node.kubernetes.io/unreachable", 300), 300),
        (tolerating("node.kubernetes.io/unreachable", 0), 0),
        (tolerating("something/else"), 0),
        ([*tolerating("node.kubernetes.io/unreachable", 300), *tolerating("node.kubernetes.io/unreachable", 60)], 60),
        ([{"operator": "Exists"}], None),
    ],
)
def test_a_pod_leaves_a_tainted_node_when_its_tolerations_end(tolerations: Any, seconds: int | None) -> None:
    taints = as_node(node("n", "Unknown", taints=[UNREACHABLE])).spec.taints
    when = tainteviction.eviction_time(as_pod(pod("p", tolerations=tolerations)), taints, since=lambda _: NOW, now=NOW)
    assert when == (None if seconds is None else NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("health", "rate"),
    [
        ("+++-", 0.1),
        ("+----", 0.0),
        ("++--", 0.1),
        ("----", None),
        ("+" * 30 + "-" * 40, 0.01),
    ],
    ids=["one of four", "most of a small zone", "half, but only two", "everything", "most of a large cluster"],
)
def test_eviction_slows_down_the_more_is_broken(health: str, rate: float | None) -> None:
    nodes = [as_node(node(f"n{i}", "True" if sign == "+" else "Unknown")) for i, sign in enumerate(health)]
    assert nodelifecycle.eviction_rate("", nodes) == rate


def test_a_zone_that_is_wholly_down_is_emptied_at_the_usual_rate_while_another_lives() -> None:
    nodes = [as_node(node(f"a{i}", "Unknown", zone="a")) for i in range(4)] + [as_node(node("b", zone="b"))]
    assert nodelifecycle.eviction_rate("a", nodes) == 0.1


def test_one_node_at_once_then_at_the_rate() -> None:
    pace = nodelifecycle.Pace()
    assert pace.allows("", rate=0.1, now=100.0)
    assert not pace.allows("", rate=0.1, now=109.9)
    assert pace.allows("other", rate=0.1, now=101.0)
    assert pace.allows("", rate=0.1, now=110.0)


def test_blocks_are_given_in_order_and_run_out() -> None:
    cluster = ip_network("10.0.0.0/30")
    assert nodeipam.choose(cluster, 31, set()) == "10.0.0.0/31"
    assert nodeipam.choose(cluster, 31, {"10.0.0.0/31"}) == "10.0.0.2/31"
    assert nodeipam.choose(cluster, 31, {"10.0.0.0/31", "10.0.0.2/31"}) is None


def test_pods_nobody_else_removes() -> None:
    leaving = pod("leaving", "")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pods = [
        pod("fine", "n"),
        pod("orphan", "gone"),
        pod("early orphan", "just gone"),
        leaving,
        pod("old", "n", phase="Succeeded"),
        pod("older", "n", phase="Failed"),
    ]
    pods[5]["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    decided = podgc.plan(map(as_pod, pods), nodes={"n"}, gone_for={"gone": 40.0, "just gone": 39.0}, max_finished=1)
    assert [one.metadata.name for one in decided.orphans] == ["orphan"]
    assert [one.metadata.name for one in decided.others] == ["leaving", "older"]


# loops, in virtual time


@contextlib.asynccontextmanager
async def running(server: FakeApiServer, *builds: Callable[[Deps], Any]) -> AsyncIterator[None]:
    clock, client = LoopClock(), server.client()
    informers = Informers(client, clock=clock)
    events = EventRecorder(client, component="test", host="", clock=clock)
    deps = Deps(
        client=client,
        informers=informers,
        events=events,
        clock=clock,
        registry=metrics.registry(),
        node_name="",
        node_ip="",
    )
    loops = [build(deps).loop for build in builds]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in (informers, events, *loops)]
        yield
        for task in tasks:
            task.cancel()


def beat(server: FakeApiServer, name: str) -> None:
    now = START + timedelta(seconds=asyncio.get_running_loop().time())
    meta = {"name": name, "namespace": "kube-node-lease"}
    server.put(scheme.LEASES, {"metadata": meta, "spec": {"renewTime": now.isoformat()}})


async def let_live(server: FakeApiServer, *names: str, seconds: int) -> None:
    """Time passes; these nodes keep renewing their leases."""
    for _ in range(seconds // 10):
        for name in names:
            beat(server, name)
        await asyncio.sleep(10)


def ready_of(server: FakeApiServer, name: str) -> str:
    found = server.find(scheme.NODES, name)
    assert found is not None
    return next(c["status"] for c in found["status"]["conditions"] if c["type"] == "Ready")


def taints_of(server: FakeApiServer, name: str) -> set[tuple[str, str]]:
    found = server.find(scheme.NODES, name)
    assert found is not None
    return {(t["key"].partition("/")[2], t["effect"]) for t in found["spec"].get("taints") or ()}


@pytest.mark.looptime
async def test_a_silent_node_is_unknown_after_fifty_seconds_and_its_pods_are_not_ready() -> None:
    server = FakeApiServer()
    for name in ("n", "m"):
        server.put(scheme.NODES, node(name))
    server.put(scheme.PODS, pod("p", "n"))
    async with running(server, nodelifecycle.Controller):
        await let_live(server, "n", "m", seconds=100)
        assert ready_of(server, "n") == "True"
        await let_live(server, "m", seconds=40)
        assert ready_of(server, "n") == "True"
        await let_live(server, "m", seconds=20)
        assert (ready_of(server, "n"), ready_of(server, "m")) == ("Unknown", "True")
        assert taints_of(server, "n") == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        shown = server.find(scheme.PODS, "p", namespace="default")
        assert shown is not None
        assert shown["status"]["conditions"][0]["status"] == "False"
        server.put(scheme.NODES, {**node("n"), "spec": server.find(scheme.NODES, "n")["spec"]})  # type: ignore[index]
        await let_live(server, "n", "m", seconds=10)
        assert taints_of(server, "n") == set()


@pytest.mark.looptime
async def test_when_every_node_is_silent_nothing_is_evicted() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    async with running(server, nodelifecycle.Controller):
        await asyncio.sleep(120)
        assert taints_of(server, "n") == {("unreachable", "NoSchedule")}


@pytest.mark.looptime
async def test_a_node_that_never_spoke_has_a_minute() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", None))
    async with running(server, nodelifecycle.Controller):
        await asyncio.sleep(55)
        assert server.find(scheme.NODES, "n")["status"]["conditions"] == []  # type: ignore[index]
        await asyncio.sleep(10)
        found = server.find(scheme.NODES, "n")
        assert found is not None
        assert found["status"]["conditions"][0]["reason"] == "NodeStatusNeverUpdated"


@pytest.mark.looptime
async def test_pods_leave_a_tainted_node_when_their_time_is_up() -> None:
    server = FakeApiServer()
    stamp = (START + timedelta(seconds=0)).strftime("%Y-%m-%dT%H:%M:%SZ")
    server.put(scheme.NODES, node("n", "Unknown", taints=[UNREACHABLE | {"timeAdded": stamp}]))
    server.put(scheme.PODS, pod("now", "n"))
    server.put(scheme.PODS, pod("later", "n", tolerations=tolerating("node.kubernetes.io/unreachable", 300)))
    server.put(scheme.PODS, pod("never", "n", tolerations=[{"operator": "Exists"}]))
    async with running(server, tainteviction.Controller):
        await asyncio.sleep(5)
        assert {one["metadata"]["name"] for one in server.all(scheme.PODS)} == {"later", "never"}
        await asyncio.sleep(290)
        assert len(server.all(scheme.PODS)) == 2
        await asyncio.sleep(10)
        assert {one["metadata"]["name"] for one in server.all(scheme.PODS)} == {"never"}
    reasons = [r.body["status"]["conditions"][0]["reason"] for r in server.requests if r.path.endswith("/status")]
    assert reasons == ["DeletionByTaintManager"] * 2


@pytest.mark.looptime
async def test_a_taint_taken_back_in_time_spares_the_pod() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", "Unknown", taints=[{"key": "k", "effect": "NoExecute"}]))
    server.put(scheme.PODS, pod("p", "n", tolerations=tolerating("k", 60)))
    async with running(server, tainteviction.Controller):
        await asyncio.sleep(30)
        server.put(scheme.NODES, node("n"))
        await asyncio.sleep(300)
        assert server.find(scheme.PODS, "p", namespace="default")


@pytest.mark.looptime
async def test_pods_of_a_node_that_is_gone_are_removed_after_quarantine() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    server.put(scheme.PODS, pod("p", "n"))
    async with running(server, podgc.Controller):
        await asyncio.sleep(60)
        server.remove(scheme.NODES, "n")
        await asyncio.sleep(40)
        assert server.find(scheme.PODS, "p", namespace="default")
        await asyncio.sleep(45)
        assert server.find(scheme.PODS, "p", namespace="default") is None


@pytest.mark.looptime
async def test_a_cluster_that_outgrows_its_range_says_so_and_serves_the_rest() -> None:
    server = FakeApiServer()
    for name in ("a", "b", "c"):
        server.put(scheme.NODES, node(name))
    async with running(server, lambda deps: nodeipam.Controller(deps, cluster_cidr="10.0.0.0/23", mask_size=24)):
        await asyncio.sleep(5)
        given = [n["spec"].get("podCIDR") for n in server.all(scheme.NODES)]
        assert sorted(filter(None, given)) == ["10.0.0.0/24", "10.0.1.0/24"]
        [event] = server.all(scheme.EVENTS)
        assert event["reason"] == "CIDRNotAvailable"
        server.remove(scheme.NODES, "a")
        await asyncio.sleep(60)
        assert all(n["spec"].get("podCIDR") for n in server.all(scheme.NODES))
