"""Resizing a pod in place: what fits, what is put off, what restarts; and ephemeral containers beside it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import UID, container, pod, ran, sandbox, seen
from nodeagent_node import Node, eventually, sleeping

from kube import quantity, scheme, types
from nodeagent.pods import observe, resize
from nodeagent.status import patch
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime

ROOM = {"cpu": "2", "memory": "1Gi"}


def amounts(cpu: str = "100m", memory: str = "64Mi") -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def asking(cpu: str = "100m", memory: str = "64Mi", **fields: Any) -> types.Pod:
    return pod(container(resources=amounts(cpu, memory), **fields))


@pytest.mark.parametrize(
    ("cpu", "used", "reason"),
    [
        ("200m", "0", None),
        ("2", "0", None),
        ("2", "1", "Deferred"),
        ("3", "0", "Infeasible"),
        ("50m", "2", None),
    ],
)
def test_a_wish_is_granted_put_off_or_refused(cpu: str, used: str, reason: str | None) -> None:
    others = {"cpu": quantity.parse(used)}
    found = resize.judge(asking(cpu), asking(), others=others, allocatable=ROOM)
    assert (found.reason if found else None) == reason


def test_a_refusal_says_what_there_is_too_little_of() -> None:
    found = resize.judge(asking("3"), asking(), others={}, allocatable=ROOM)
    assert found is not None
    assert found.message == "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"


def test_amounts_written_in_another_way_are_no_change() -> None:
    present = asking("100m", "64Mi")
    assert resize.with_resources(present, resize.wanted(asking("0.1", "65536Ki"))) is present


def test_a_restarted_agent_finds_in_the_status_what_was_granted() -> None:
    entry = {"name": "main", "containerID": "containerd://main-0", "allocatedResources": {"cpu": "50m"}}
    recorded = {**entry, "resources": {"limits": {"cpu": "60m"}}}
    it = pod(container(resources=amounts()), status={"containerStatuses": [recorded]})
    assert resize.granted(it)["main"].requests == {"cpu": "50m"}
    assert resize.granted(it)["main"].limits == {"cpu": "60m"}
    force = resize.in_force(it, "main", "main-0")
    assert force is not None and force.limits == {"cpu": "60m"}
    assert resize.in_force(it, "main", "another") is None


@pytest.mark.parametrize(("policy", "restart"), [("NotRequired", False), ("RestartContainer", True)])
def test_the_policy_of_what_changes_decides_about_a_restart(policy: str, restart: bool) -> None:
    policies = [{"resourceName": "memory", "restartPolicy": policy}, {"resourceName": "cpu", "restartPolicy": "x"}]
    it = asking(memory="128Mi", resizePolicy=policies)
    force = {"main-0": asking().spec.containers[0].resources}
    assert resize.changes(it, seen(sandbox(), ran()), force) == [
        resize.Change(id="main-0", name="main", restart=restart)
    ]


def test_conditions_of_a_resize_are_taken_back_when_it_is_over() -> None:
    before = {"conditions": [{"type": "PodResizeInProgress", "status": "True"}, {"type": "Other", "status": "True"}]}
    assert patch.between(before, {"conditions": []}) == {
        "conditions": [{"$patch": "delete", "type": "PodResizeInProgress"}]
    }


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "LIST_PERIOD", 0.1)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with Node(tmp_path, FakeApiServer(), FakeRuntime(now=time.time_ns)).alive() as found:
        yield found


def change(node: Node, **spec: Any) -> None:
    """The API has taken a change of the pod's spec."""
    it = node.server.find(scheme.PODS, "web", namespace="default")
    assert it is not None
    meta = {**it["metadata"], "generation": it["metadata"].get("generation", 1) + 1}
    node.server.put(scheme.PODS, {**it, "metadata": meta, "spec": {**it["spec"], **spec}})


def told(node: Node) -> dict[str, str]:
    """Conditions of the status as this agent has it, with their reasons."""
    worker = node.pool.worker(UID)
    if worker is None or worker.status is None:
        raise LookupError("nothing was reported yet")
    return {c["type"]: c.get("reason", "") for c in worker.status["conditions"]}


def entry(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = node.status()["containerStatuses"][0]
    return found


async def test_a_running_container_gets_more_without_a_restart(node: Node) -> None:
    node.put(sleeping(resources=amounts()))
    await eventually(node.ready)
    assert entry(node)["allocatedResources"] == {"cpu": "100m", "memory": "64Mi"}
    change(node, containers=[sleeping(resources=amounts("200m", "128Mi"))])
    await eventually(lambda: entry(node)["resources"] == amounts("200m", "128Mi"))
    (update,) = node.runtime.updates.values()
    assert (update.cpu_quota, update.memory_limit_in_bytes) == (20_000, 128 << 20)
    assert len(node.runtime.made) == 1
    await eventually(lambda: {"ResizeStarted", "ResizeCompleted"} <= set(node.reasons()))
    assert "PodResizeInProgress" not in told(node)


async def test_a_container_that_asks_for_it_is_restarted_to_get_more(node: Node) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    node.put(sleeping(resources=amounts(), resizePolicy=policy))
    await eventually(node.ready)
    change(node, containers=[sleeping(resources=amounts("200m"), resizePolicy=policy)])
    await eventually(lambda: entry(node)["restartCount"] == 1 and entry(node)["resources"] == amounts("200m"))
    assert node.runtime.updates == {}
    config = node.runtime.configs[node.runtime.running("main").id]
    assert config.linux.resources.cpu_quota == 20_000


async def test_a_wish_beyond_the_node_is_refused_and_one_for_later_waits_for_room(node: Node) -> None:
    other = "99999999-2222-3333-4444-555555555555"
    node.put(sleeping(resources=amounts()))
    await eventually(node.ready)
    change(node, containers=[sleeping(resources=amounts("5"))])
    await eventually(lambda: told(node).get("PodResizePending") == "Infeasible")
    assert entry(node)["resources"] == amounts()
    node.put(sleeping(resources=amounts("1500m")), name="other", uid=other)
    await eventually(lambda: node.ready("other"))
    change(node, containers=[sleeping(resources=amounts("1"))])
    await eventually(lambda: told(node).get("PodResizePending") == "Deferred")
    node.delete("other")
    await eventually(lambda: entry(node)["resources"] == amounts("1"))
    assert "PodResizePending" not in told(node)


async def test_a_restarted_agent_resizes_nothing_again(tmp_path: Path) -> None:
    server, runtime = FakeApiServer(), FakeRuntime(now=time.time_ns)
    async with Node(tmp_path, server, runtime).alive() as node:
        node.put(sleeping(resources=amounts()))
        await eventually(node.ready)
        change(node, containers=[sleeping(resources=amounts("200m"))])
        await eventually(lambda: "resources" in entry(node) and entry(node)["resources"] == amounts("200m"))
    runtime.updates.clear()
    async with Node(tmp_path, server, runtime).alive() as node:
        await eventually(lambda: node.pool.worker(UID) and "Ready" in told(node))
        assert runtime.updates == {} and len(runtime.made) == 1


async def test_an_ephemeral_container_joins_a_running_pod_and_its_end_changes_nothing(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    debug = {"name": "debug", "image": sleeping()["image"], "command": ["sleep", "9"], "targetContainerName": "main"}
    change(node, ephemeralContainers=[debug])
    await eventually(lambda: node.runtime.running("debug"))
    config = node.runtime.configs[node.runtime.running("debug").id]
    assert config.linux.security_context.namespace_options.target_id == node.runtime.running("main").id
    await eventually(lambda: "running" in node.status()["ephemeralContainerStatuses"][0]["state"])
    assert not node.status()["ephemeralContainerStatuses"][0]["ready"]
    node.runtime.exit(node.runtime.running("debug").id, 1)
    await eventually(lambda: "terminated" in node.status()["ephemeralContainerStatuses"][0]["state"])
    assert node.ready() and node.status()["phase"] == "Running"
    assert len([c for c in node.runtime.made.values() if c.name == "debug"]) == 1
