"""The Node in the API: registered once, kept true, renewed, and made again when somebody deletes it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kube import scheme
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.runtime.component import Deps
from nodeagent import config
from nodeagent.node import health, keeper, machine
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime


class Case:
    """A node keeper over a fake API server and a fake runtime."""

    def __init__(self, folder: Path, server: FakeApiServer) -> None:
        self.server, self.runtime, clock = server, FakeRuntime(), SystemClock()
        client = server.client()
        deps = Deps(
            client=client,
            informers=Informers(client, clock=clock),
            events=EventRecorder(client, component="kubelet", host="n1", clock=clock),
            clock=clock,
            registry=CollectorRegistry(),
            node_name="n1",
            node_ip="192.168.77.11",
        )
        self.events = deps.events
        agent = {"kind": "AgentConfiguration", "nodeName": "n1", "rootDir": str(folder), "nodeLabels": {"rack": "r1"}}
        kubelet = {"kind": "KubeletConfiguration", "nodeStatusUpdateFrequency": "50ms"}
        documents = {"AgentConfiguration": [agent], "KubeletConfiguration": [kubelet]}
        settings = config.build(documents, source="test")
        self.health = health.RuntimeHealth(self.runtime, clock=clock, on_change=lambda: self.keeper.changed())
        self.keeper = keeper.NodeKeeper(
            settings, deps, runtime=self.runtime, health=self.health, machine=machine.read(folder)
        )

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator["Case"]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (self.health, self.keeper, self.events)]
            yield self
            for task in tasks:
                task.cancel()

    def node(self) -> dict[str, Any]:
        return self.server.find(scheme.NODES, "n1") or {}

    def ready(self) -> str:
        conditions = self.node().get("status", {}).get("conditions", [])
        return next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "")

    def writes(self) -> int:
        return len([r for r in self.server.requests if r.method == "PATCH" and r.path.endswith("/nodes/n1/status")])


async def eventually(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, FakeApiServer())


async def test_a_node_is_registered_and_has_a_lease_that_it_owns(case: Case) -> None:
    async with case.alive():
        await eventually(lambda: case.server.find(scheme.LEASES, "n1", namespace="kube-node-lease"))
        await eventually(lambda: case.ready() == "True")
    lease = case.server.find(scheme.LEASES, "n1", namespace="kube-node-lease") or {}
    assert lease["spec"]["holderIdentity"] == "n1" and lease["spec"]["leaseDurationSeconds"] == 40
    assert lease["metadata"]["ownerReferences"][0]["uid"] == case.node()["metadata"]["uid"]
    assert case.node()["metadata"]["labels"]["rack"] == "r1"


async def test_an_unchanged_status_is_not_written_again(case: Case) -> None:
    async with case.alive():
        await eventually(lambda: case.ready() == "True")
        await asyncio.sleep(0.2)
        before = case.writes()
        await asyncio.sleep(0.5)
        assert case.writes() - before <= 1, "one for memory that crossed a line, at most"


async def test_a_network_that_comes_makes_the_node_ready_at_once(case: Case) -> None:
    case.runtime.network_ready = False
    async with case.alive():
        await eventually(lambda: case.ready() == "False")
        case.runtime.network_ready = True
        await eventually(lambda: case.ready() == "True")
        await eventually(lambda: "NodeReady" in [e["reason"] for e in case.server.all(scheme.EVENTS)])


async def test_registration_waits_for_the_api(case: Case) -> None:
    case.server.reachable = False
    async with case.alive():
        await asyncio.sleep(0.1)
        assert not case.keeper.registered
        case.server.reachable = True
        await eventually(lambda: case.keeper.registered)


async def test_a_node_that_is_there_already_keeps_what_others_gave_it(case: Case) -> None:
    metadata = {"name": "n1", "labels": {"theirs": "x", "rack": "old"}, "annotations": {"a": "b"}}
    case.server.put(scheme.NODES, {"metadata": metadata, "spec": {"podCIDR": "10.244.0.0/24"}})
    async with case.alive():
        await eventually(lambda: case.ready() == "True")
    found = case.node()
    assert found["metadata"]["labels"]["theirs"] == "x" and found["metadata"]["labels"]["rack"] == "r1"
    assert found["spec"] == {"podCIDR": "10.244.0.0/24"} and found["metadata"]["annotations"] == {"a": "b"}


async def test_a_deleted_node_registers_again(case: Case) -> None:
    async with case.alive():
        await eventually(lambda: case.ready() == "True")
        case.server.remove(scheme.NODES, "n1")
        case.runtime.network_ready = False
        case.health.info = await case.runtime.info()
        case.keeper.changed()
        await eventually(lambda: case.node().get("metadata", {}).get("uid"))


async def test_a_node_that_others_called_unknown_says_again_that_it_is_ready(case: Case) -> None:
    case.runtime.network_problem = None
    async with case.alive():
        await eventually(lambda: case.ready() == "True")
        node = case.node()
        gone = [{**each, "status": "Unknown"} for each in node["status"]["conditions"]]
        case.server.put(scheme.NODES, {**node, "status": {**node["status"], "conditions": gone}})
        await eventually(lambda: case.ready() == "True")
