"""The scheduler at work on a scripted API server, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane import scheduler
from controlplane.scheduler.component import Scheduler
from kube import scheme, status
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.runtime import metrics
from kube.runtime.component import Deps
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import LoopClock

pytestmark = pytest.mark.looptime


@contextlib.asynccontextmanager
async def running(server: FakeApiServer) -> AsyncIterator[Scheduler]:
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
    component = scheduler.build(deps)
    assert isinstance(component, Scheduler)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in (informers, events, component)]
        await asyncio.sleep(0.1)
        yield component
        for task in tasks:
            task.cancel()
    await component.close()


def node(name: str, *, cpu: str = "4", **spec: Any) -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": "8Gi", "pods": "10"}
    return {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": allocatable}}


def pod(name: str, *, cpu: str = "1", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [container], **spec},
    }


def bindings(server: FakeApiServer) -> list[tuple[str, str]]:
    found = [r for r in server.requests if r.method == "POST" and r.path.endswith("/binding")]
    return [(r.body["metadata"]["name"], r.body["target"]["name"]) for r in found]


def show_bound(server: FakeApiServer, name: str, on: str, **more: Any) -> None:
    found = server.find(scheme.PODS, name, namespace="default")
    assert found is not None
    server.put(scheme.PODS, {**found, "spec": {**found["spec"], "nodeName": on}, **more})


def condition(server: FakeApiServer, name: str) -> tuple[str, str]:
    found = server.find(scheme.PODS, name, namespace="default") or {}
    [told] = found["status"]["conditions"]
    return told["reason"], told["message"]


async def test_a_pod_is_bound_by_name_and_uid_and_people_are_told() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    async with running(server):
        server.put(scheme.PODS, pod("p"))
        await asyncio.sleep(1)
        assert bindings(server) == [("p", "n")]
        [request] = [r for r in server.requests if r.path.endswith("/binding")]
        assert request.body["metadata"]["uid"] == "p"
        [event] = server.all(scheme.EVENTS)
        assert (event["reason"], event["message"]) == ("Scheduled", "Successfully assigned default/p to n")


async def test_a_decision_counts_before_the_api_shows_it() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", cpu="1"))
    async with running(server):
        server.put(scheme.PODS, pod("a"))
        server.put(scheme.PODS, pod("b"))
        await asyncio.sleep(1)
        assert len(bindings(server)) == 1


async def test_a_refused_binding_frees_its_place_and_is_tried_again() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", cpu="1"))
    async with running(server):
        server.refuse(status.internal("no"))
        server.put(scheme.PODS, pod("p"))
        await asyncio.sleep(0.5)
        assert len(bindings(server)) == 1
        await asyncio.sleep(1)
        assert bindings(server) == [("p", "n")] * 2


async def test_a_pod_bound_by_someone_else_meanwhile_is_not_bound_again() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    async with running(server):
        server.refuse(status.conflict(scheme.PODS, "p"))
        server.put(scheme.PODS, pod("p"))
        show_bound(server, "p", "other")
        await asyncio.sleep(30)
        assert len(bindings(server)) <= 1


async def test_what_fits_nowhere_waits_for_room_and_takes_it() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", cpu="1"))
    async with running(server):
        server.put(scheme.PODS, pod("first"))
        await asyncio.sleep(1)
        show_bound(server, "first", "n")
        server.put(scheme.PODS, pod("second"))
        await asyncio.sleep(1)
        assert condition(server, "second") == (
            "Unschedulable",
            "0/1 nodes are available: 1 Insufficient cpu. "
            "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        )
        writes = len(server.requests)
        await asyncio.sleep(60)
        assert len(server.requests) == writes, "nothing happened, so nothing is tried or told"
        show_bound(server, "first", "n", status={"phase": "Succeeded"})
        await asyncio.sleep(1)
        assert bindings(server)[-1] == ("second", "n")


async def test_a_pod_is_tried_again_after_five_minutes_without_any_reason() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n", cpu="1"))
    async with running(server) as component:
        server.put(scheme.PODS, pod("p", cpu="2"))
        await asyncio.sleep(1)
        attempts = component._metrics.attempts.labels("unschedulable")
        assert attempts._value.get() == 1
        await asyncio.sleep(330)
        assert attempts._value.get() == 2


@pytest.mark.parametrize(
    "spec", [{"schedulerName": "mine"}, {"nodeName": "n"}], ids=["another scheduler's", "one that has a node"]
)
async def test_is_not_touched(spec: dict[str, Any]) -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    async with running(server):
        server.put(scheme.PODS, pod("p", **spec))
        await asyncio.sleep(5)
        assert bindings(server) == []


async def test_a_gated_pod_says_so_and_goes_when_the_gate_opens() -> None:
    server = FakeApiServer()
    server.put(scheme.NODES, node("n"))
    async with running(server):
        server.put(scheme.PODS, pod("p", schedulingGates=[{"name": "quota"}]))
        await asyncio.sleep(1)
        assert condition(server, "p")[0] == "SchedulingGated"
        assert bindings(server) == []
        server.put(scheme.PODS, pod("p"))
        await asyncio.sleep(1)
        assert bindings(server) == [("p", "n")]


async def test_a_pod_deleted_while_it_waits_is_forgotten() -> None:
    server = FakeApiServer()
    async with running(server) as component:
        server.put(scheme.PODS, pod("p"))
        await asyncio.sleep(1)
        assert condition(server, "p")[1] == "no nodes available to schedule pods"
        server.remove(scheme.PODS, "p", namespace="default")
        await asyncio.sleep(1)
        server.put(scheme.NODES, node("n"))
        await asyncio.sleep(60)
        assert bindings(server) == []
        assert sum(component._queue.counts().values()) == 0


async def test_the_urgent_pod_gets_the_last_place() -> None:
    server = FakeApiServer()
    server.put(scheme.PODS, pod("patient"))
    server.put(scheme.PODS, pod("urgent", priority=1000))
    server.put(scheme.NODES, node("n", cpu="1"))
    async with running(server):
        await asyncio.sleep(1)
        assert bindings(server) == [("urgent", "n")]
