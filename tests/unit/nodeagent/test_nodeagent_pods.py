"""Workers and the pool over a fake runtime and a fake API server: whole lives of pods."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nodeagent_given import UID, container
from nodeagent_node import Node, eventually, exiting, sleeping

from kube import scheme, status, types
from nodeagent import errors
from nodeagent.cri import labels
from nodeagent.pods import observe, pool
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how often is looked: look often."""
    monkeypatch.setattr(observe, "LIST_PERIOD", 0.1)
    monkeypatch.setattr(pool, "HOUSEKEEPING", 0.1)


@pytest.fixture
def server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def node(tmp_path: Path, server: FakeApiServer) -> AsyncIterator[Node]:
    async with Node(tmp_path, server, FakeRuntime(now=time.time_ns)).alive() as found:
        yield found


async def test_a_pod_becomes_ready_and_leaves_nothing_when_it_is_deleted(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    assert node.status()["podIP"] == "10.0.0.1" and node.status()["phase"] == "Running"
    assert node.kit.cgroups.pods() == {UID} and (node.folder / "k" / "pods" / UID / "etc-hosts").exists()
    node.delete()
    await eventually(lambda: node.server.find(scheme.PODS, "web", namespace="default") is None)
    await eventually(lambda: not node.pool.workers)
    assert node.runtime.boxes == {} and node.runtime.made == {} and node.kit.cgroups.pods() == set()
    assert not (node.folder / "k" / "pods" / UID).exists() and not list((node.folder / "l").rglob("*.log"))
    assert {"Pulled", "Created", "Started", "Killing"} <= set(node.reasons())


async def test_a_start_is_shown_when_it_begins_and_when_it_is_done_and_not_in_between(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    writes = [r.body["status"] for r in node.server.requests if r.path.endswith("/pods/web/status")]
    assert [w.get("phase") for w in writes] == ["Pending", "Running"]
    assert writes[0]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"


async def test_the_object_is_deleted_last_and_only_that_very_one(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    node.delete()
    await eventually(lambda: node.server.find(scheme.PODS, "web", namespace="default") is None)
    requests = [r for r in node.server.requests if "/pods/web" in r.path and r.method in ("PATCH", "DELETE")]
    assert requests[-1].method == "DELETE" and requests[-2].method == "PATCH"
    assert requests[-1].body["gracePeriodSeconds"] == 0 and requests[-1].body["preconditions"] == {"uid": UID}
    last = requests[-2].body["status"]["containerStatuses"][0]["state"]
    assert last["terminated"]["exitCode"] == 143
    assert node.runtime.calls[-2:] != [] and "RemovePodSandbox" in node.runtime.calls


async def test_a_crashing_container_is_restarted_with_back_off(node: Node) -> None:
    node.put(exiting(3))
    await eventually(lambda: node.waiting() == "CrashLoopBackOff")
    await eventually(lambda: node.status()["containerStatuses"][0]["restartCount"] >= 3)
    entry = node.status()["containerStatuses"][0]
    ended = entry["lastState"].get("terminated") or entry["state"]["terminated"]
    assert ended["exitCode"] == 3 and node.status()["phase"] == "Running"
    assert "BackOff" in node.reasons()
    assert len([c for c in node.runtime.made.values() if c.state == "exited"]) <= 2


async def test_a_pod_that_never_restarts_ends_and_gives_back_its_sandbox(node: Node) -> None:
    node.put(exiting(0), restartPolicy="Never")
    await eventually(lambda: node.status().get("phase") == "Succeeded")
    await eventually(lambda: not any(b.ready for b in node.runtime.boxes.values()))
    assert len(node.runtime.made) == 1, "its container stays for its logs"
    node.delete()
    await eventually(lambda: not node.pool.workers)
    assert node.runtime.boxes == {} and node.runtime.made == {}


async def test_init_containers_run_before_the_others(node: Node) -> None:
    node.put(sleeping(), initContainers=[exiting(0, "i"), exiting(0, "j")])
    await eventually(node.ready)
    order = [c.name for c in sorted(node.runtime.made.values(), key=lambda c: c.created_at)]
    assert order == ["i", "j", "main"]


async def test_a_missing_image_is_told_and_backed_off(node: Node) -> None:
    node.put(container(image="nodeagent.local/absent:1"))
    await eventually(lambda: node.waiting() == "ErrImagePull")
    await eventually(lambda: node.waiting() == "ImagePullBackOff")
    assert node.runtime.calls.count("PullImage nodeagent.local/absent:1") == 1
    assert {"Pulling", "Failed", "BackOff"} <= set(node.reasons())


async def test_a_missing_config_map_is_a_config_error_until_it_is_there(node: Node) -> None:
    reference = {"configMapKeyRef": {"name": "absent", "key": "a"}}
    node.put(sleeping(env=[{"name": "A", "valueFrom": reference}]))
    await eventually(lambda: node.waiting() == "CreateContainerConfigError")
    message = node.status()["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message == 'configmap "absent" not found'


async def test_a_command_that_is_not_there_is_a_run_error(node: Node) -> None:
    node.put(container(command=["/nonesuch"]))
    await eventually(lambda: node.waiting() == "RunContainerError")
    assert "nonesuch" in node.status()["containerStatuses"][0]["state"]["waiting"]["message"]


async def test_a_liveness_failure_restarts_the_container(node: Node) -> None:
    node.put(sleeping(livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}))
    await eventually(lambda: node.status().get("containerStatuses", [{}])[0].get("restartCount", 0) >= 1)
    assert node.runtime.calls.count("RunPodSandbox") == 1


async def test_a_restarted_agent_restarts_no_container(tmp_path: Path, server: FakeApiServer) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    async with Node(tmp_path, server, runtime).alive() as first:
        first.put()
        await eventually(first.ready)
        before = first.status()
    runtime.calls.clear()
    async with Node(tmp_path, server, runtime).alive() as second:
        await eventually(lambda: second.pool.workers[0].seen.running)
        await asyncio.sleep(0.2)
        assert second.status()["containerStatuses"] == before["containerStatuses"]
    assert not {"RunPodSandbox", "StartContainer", "CreateContainer"} & set(runtime.calls)


async def test_a_rule_starts_all_containers_of_the_pod_anew_in_its_sandbox(node: Node) -> None:
    again = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    init = exiting(0, "prepare")
    node.put(sleeping(restartPolicyRules=[again]), sleeping("side"), initContainers=[init], restartPolicy="Never")
    await eventually(node.ready)
    before = {c.id for c in node.runtime.made.values()}
    node.runtime.exit(node.runtime.running("main").id, 42)
    await eventually(lambda: node.runtime.running("main") and node.runtime.running("side") and node.ready())
    await eventually(lambda: [c["restartCount"] for c in node.status()["containerStatuses"]] == [1, 1])
    assert not before & {c.id for c in node.runtime.made.values()} and len(node.runtime.boxes) == 1
    assert node.status()["initContainerStatuses"][0]["restartCount"] == 1


async def test_pods_of_nobody_are_ended_after_all_sources_have_spoken(tmp_path: Path, server: FakeApiServer) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    async with Node(tmp_path, server, runtime).alive() as first:
        first.put()
        await eventually(first.ready)
    server.remove(scheme.PODS, "web", namespace="default")
    server.reachable = False
    async with Node(tmp_path, server, runtime).alive() as second:
        await asyncio.sleep(0.3)
        assert runtime.running("main"), "nothing is ended while the API has not spoken"
        server.reachable = True
        await eventually(lambda: not runtime.boxes and second.kit.cgroups.pods() == set(), seconds=15)


async def test_the_hook_of_a_pod_that_went_while_the_agent_was_away_still_runs(
    tmp_path: Path, server: FakeApiServer
) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    async with Node(tmp_path, server, runtime).alive() as first:
        first.put(sleeping(lifecycle={"preStop": {"exec": {"command": ["bye"]}}}, ports=[{"containerPort": 80}]))
        await eventually(first.ready)
    server.remove(scheme.PODS, "web", namespace="default")
    async with Node(tmp_path, server, runtime).alive() as second:
        await eventually(lambda: not runtime.boxes and not second.pool.workers, seconds=15)
    assert runtime.calls.index("ExecSync bye") < runtime.calls.index("StopContainer 2")


async def test_a_pod_whose_object_is_forced_away_is_cleaned_up(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    node.server.remove(scheme.PODS, "web", namespace="default")
    await eventually(lambda: not node.pool.workers and not node.runtime.boxes)


async def test_a_shorter_grace_interrupts_a_longer_one(node: Node) -> None:
    node.runtime.stop_seconds = 300
    node.put(terminationGracePeriodSeconds=300)
    await eventually(node.ready)
    node.delete(grace=300)
    await eventually(lambda: "StopContainer 300" in node.runtime.calls)
    node.delete(grace=0)
    await eventually(lambda: not node.pool.workers)
    assert "StopContainer 2" in node.runtime.calls


async def test_a_deletion_interrupts_what_is_under_way(node: Node) -> None:
    hook = {"postStart": {"sleep": {"seconds": 100}}}
    node.put(sleeping(lifecycle=hook))
    await eventually(lambda: "StartContainer" in node.runtime.calls)
    node.delete()
    await eventually(lambda: not node.pool.workers)


async def test_a_container_is_not_running_before_its_post_start_hook_is_done(node: Node) -> None:
    node.put(sleeping(lifecycle={"postStart": {"sleep": {"seconds": 1}}}))
    await eventually(lambda: "StartContainer" in node.runtime.calls)
    await asyncio.sleep(0.3)
    assert node.waiting() == "ContainerCreating" and not node.ready()
    await eventually(node.ready)


async def test_a_failed_post_start_hook_kills_the_container(node: Node) -> None:
    node.put(sleeping(lifecycle={"postStart": {"exec": {"command": ["false"]}}}))
    await eventually(lambda: "FailedPostStartHook" in node.reasons())
    await eventually(lambda: node.waiting() in ("PostStartHookError", "CrashLoopBackOff"))


async def test_pre_stop_runs_before_the_container_is_stopped(node: Node) -> None:
    node.put(sleeping(lifecycle={"preStop": {"exec": {"command": ["bye"]}}}))
    await eventually(node.ready)
    node.delete()
    await eventually(lambda: not node.pool.workers)
    calls = node.runtime.calls
    assert calls.index("ExecSync bye") < calls.index("StopContainer 2")


async def test_sidecars_stop_after_the_main_containers_in_reverse_order(node: Node) -> None:
    sides = [sleeping("one", restartPolicy="Always"), sleeping("two", restartPolicy="Always")]
    node.put(sleeping(), initContainers=sides)
    await eventually(node.ready)
    order: list[str] = []
    ended = node.runtime.exit
    node.runtime.exit = lambda id_, code, **more: (order.append(node.runtime.made[id_].name), ended(id_, code, **more))  # type: ignore[assignment,func-returns-value]
    node.delete()
    await eventually(lambda: not node.pool.workers)
    assert order == ["main", "two", "one"]


async def test_a_runtime_outage_fails_no_pod(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    for _ in range(2):
        node.runtime.fail["ListPodSandbox"] = errors.RuntimeUnavailable("ListPodSandbox", "connection refused")
        node.pool.wake(UID)
        await asyncio.sleep(0.2)
    assert node.status()["phase"] == "Running" and node.ready()


async def test_a_sandbox_that_died_is_replaced(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    (box,) = node.runtime.boxes.values()
    node.runtime.boxes[box.id] = dataclasses.replace(box, ready=False, ips=())
    node.runtime.exit(node.runtime.running("main").id, 137)
    await eventually(lambda: any(b.attempt == 1 and b.ready for b in node.runtime.boxes.values()))
    await eventually(lambda: node.ready() and node.status()["containerStatuses"][0]["restartCount"] == 1)
    assert "SandboxChanged" in node.reasons()


async def test_a_sandbox_that_cannot_be_made_is_told_and_tried_again(node: Node) -> None:
    node.runtime.fail["RunPodSandbox"] = errors.RuntimeFault("RunPodSandbox", "cni: no addresses left")
    node.put()
    await eventually(lambda: "FailedCreatePodSandBox" in node.reasons())
    await eventually(node.ready)


async def test_a_pod_waits_for_the_network_and_starts_when_it_comes(tmp_path: Path, server: FakeApiServer) -> None:
    node = Node(tmp_path, server, FakeRuntime(now=time.time_ns))
    node.facts.network_problem = "cni plugin not initialized"
    async with node.alive():
        node.put()
        await eventually(lambda: "NetworkNotReady" in node.reasons())
        assert node.runtime.boxes == {}
        node.facts.network_problem = None
        node.pool.network_ready()
        await eventually(node.ready)


async def test_a_pod_that_does_not_fit_fails_without_a_container(node: Node) -> None:
    node.put(sleeping(resources={"requests": {"cpu": "20"}}))
    await eventually(lambda: node.status().get("phase") == "Failed")
    assert node.status()["reason"] == "OutOfcpu" and node.runtime.boxes == {}


async def test_a_new_pod_of_the_same_name_is_another_pod(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    node.server.remove(scheme.PODS, "web", namespace="default")
    node.put(uid="99999999-2222-3333-4444-555555555555")
    await eventually(lambda: node.ready() and len(node.pool.workers) == 1)
    assert {b.uid for b in node.runtime.boxes.values()} == {"99999999-2222-3333-4444-555555555555"}


async def test_the_api_being_away_stops_no_restart(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    node.server.reachable = False
    node.server.disconnect()
    node.runtime.exit(node.runtime.running("main").id, 1)
    await eventually(lambda: node.runtime.running("main").annotations[labels.RESTART_COUNT] == "1")
    node.server.reachable = True
    await eventually(lambda: node.status()["containerStatuses"][0]["restartCount"] == 1, seconds=15)


async def test_a_status_refused_for_a_moment_is_written_later(node: Node) -> None:
    await asyncio.sleep(0.1)
    node.put()
    node.server.refuse(status.unavailable("busy"))
    await eventually(node.ready)
    assert isinstance(node.pool.workers[0].pod, types.Pod)


async def test_a_container_made_by_an_agent_that_died_before_its_start_is_replaced(
    tmp_path: Path, server: FakeApiServer
) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    runtime.fail["StartContainer"] = errors.RuntimeUnavailable("StartContainer", "the agent dies here")
    async with Node(tmp_path, server, runtime).alive() as node:
        node.put()
        await eventually(node.ready)
        (only,) = runtime.made.values()
        assert only.annotations[labels.RESTART_COUNT] == "0"


async def test_a_runtime_that_tells_events_is_heard_at_once_and_seldom_listed(
    tmp_path: Path, server: FakeApiServer
) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    runtime.with_events = True
    async with Node(tmp_path, server, runtime).alive() as node:
        node.put()
        await eventually(node.ready)
        await asyncio.sleep(0.2)  # the listing that was due before the first event
        before = runtime.calls.count("ListContainers")
        runtime.exit(runtime.running("main").id, 1)
        await eventually(lambda: runtime.running("main").annotations[labels.RESTART_COUNT] == "1", seconds=5)
        await asyncio.sleep(0.5)
        assert runtime.calls.count("ListContainers") - before <= 4


async def test_a_condition_that_somebody_else_changed_is_ours_again(node: Node) -> None:
    node.put()
    await eventually(node.ready)
    lost = node.server.find(scheme.PODS, "web", namespace="default")
    assert lost is not None
    conditions = [{**c, "status": "False"} if c["type"] == "Ready" else c for c in lost["status"]["conditions"]]
    node.server.put(scheme.PODS, lost | {"status": lost["status"] | {"conditions": conditions}})
    assert not node.ready()
    await eventually(node.ready)
