"""ReplicaSets: who is theirs, who is missing, who goes first, and nothing ever made twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from controlplane.controllers import podstate, reconcile, replicaset, writes
from controlplane.projection import Condition, Pod, ReplicaSet, ReplicationController
from kube import scheme, status
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.runtime import metrics
from kube.runtime.component import Deps
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import LoopClock

NOW = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC)
OWN = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": True}


def replica_set(replicas: int = 3, **spec: Any) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "default", "uid": "rs", "generation": 1}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    full = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return {"metadata": meta, "spec": full}


def as_set(made: dict[str, Any]) -> ReplicaSet:
    return msgspec.convert(made, ReplicaSet)


def pod(
    name: str,
    *,
    owners: Any = (OWN,),
    app: str = "web",
    ready: str = "",
    node: str = "n",
    phase: str = "Running",
    **meta: Any,
) -> dict[str, Any]:
    """ready: when it became so, as minutes:seconds."""
    full = {"name": name, "namespace": "default", "uid": name, "labels": {"app": app}, "ownerReferences": list(owners)}
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": f"2026-01-01T00:{ready}Z"}] if ready else []
    restarts = [{"name": "c", "restartCount": meta.pop("restarts", 0)}]
    state = {"phase": phase, "conditions": conditions, "containerStatuses": restarts}
    return {"metadata": full | meta, "spec": {"nodeName": node}, "status": state}


def as_pod(made: dict[str, Any]) -> Pod:
    return msgspec.convert(made, Pod)


def decide(rs: dict[str, Any], *pods: dict[str, Any], siblings: dict[str, int] | None = None) -> replicaset.Plan:
    return replicaset.plan(as_set(rs), [as_pod(one) for one in pods], siblings=siblings or {})


def test_missing_pods_are_made_and_surplus_pods_go() -> None:
    assert decide(replica_set(3), pod("a")).create == 2
    assert len(decide(replica_set(1), pod("a"), pod("b"), pod("c")).delete) == 2


def test_a_pass_makes_at_most_five_hundred() -> None:
    assert decide(replica_set(2000)).create == 500


def test_finished_and_leaving_pods_are_replaced() -> None:
    leaving = pod("b", deletionTimestamp="2026-01-01T00:00:00Z")
    assert decide(replica_set(2), pod("a", phase="Failed"), leaving).create == 2


def test_a_matching_orphan_is_adopted_before_anything_is_made() -> None:
    decided = decide(replica_set(3), pod("a", owners=()))
    assert [patch.name for patch in decided.adopt] == ["a"]
    assert decided.create == 0


@pytest.mark.parametrize(
    "stranger",
    [
        pod("a", owners=(), app="other"),
        pod("a", owners=({**OWN, "uid": "someone"},)),
        pod("a", owners=(), deletionTimestamp="2026-01-01T00:00:00Z"),
    ],
    ids=["other labels", "someone else's", "on its way out"],
)
def test_strangers_are_left_alone(stranger: dict[str, Any]) -> None:
    decided = decide(replica_set(1), stranger)
    assert (decided.adopt, decided.release, decided.delete, decided.create) == ((), (), (), 1)


def test_a_pod_that_stops_matching_is_released_and_replaced() -> None:
    decided = decide(replica_set(1), pod("a", app="debug"))
    assert decided.release[0].body == {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": "rs"}]}}
    assert decided.create == 1


def test_a_set_on_its_way_out_makes_and_takes_nothing() -> None:
    rs = replica_set(3)
    rs["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert decide(rs, pod("a", owners=())) == replicaset.Plan()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("x", node=""), pod("y", phase="Pending")),
        (pod("x", phase="Pending"), pod("y", phase="Unknown")),
        (pod("x", phase="Unknown"), pod("y")),
        (pod("x"), pod("y", ready="00:10")),
        (
            pod("x", ready="00:10", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}),
            pod("y", ready="00:40"),
        ),
        (pod("x", ready="00:10", node="crowded"), pod("y", ready="00:40")),
        (pod("x", ready="00:40"), pod("y", ready="00:10")),
        (pod("x", ready="00:10", restarts=3), pod("y", ready="00:10")),
        (
            pod("x", ready="00:10", creationTimestamp="2026-01-01T00:00:09Z"),
            pod("y", ready="00:10", creationTimestamp="2026-01-01T00:00:01Z"),
        ),
    ],
    ids=[
        "without a node",
        "pending before unknown",
        "unknown before running",
        "not ready",
        "cheaper",
        "more siblings beside it",
        "ready for less long",
        "restarted more",
        "younger",
    ],
)
def test_goes_first(first: dict[str, Any], second: dict[str, Any]) -> None:
    siblings = {"crowded": 4, "n": 1}
    [deletion] = decide(replica_set(1), second, first, siblings=siblings).delete
    assert deletion.name == "x"


def test_batches_grow_so_that_a_refused_template_costs_little() -> None:
    assert writes.batches(10) == [1, 2, 4, 3]
    assert writes.batches(0) == []


def status_of(rs: dict[str, Any], *pods: dict[str, Any], failure: Condition | None = None) -> Any:
    return replicaset.status(as_set(rs), [as_pod(one) for one in pods], failure=failure, now=NOW)


def test_a_ready_pod_is_available_after_min_ready_seconds() -> None:
    rs = replica_set(2, minReadySeconds=30)
    pods = (pod("a", ready="00:20"), pod("b", ready="00:45"), pod("c"))
    found = status_of(rs, *pods)
    assert (found.replicas, found.ready_replicas, found.available_replicas) == (3, 2, 1)
    assert replicaset.next_look(as_set(rs), [as_pod(one) for one in pods], now=NOW) == 15
    assert podstate.seconds_to_available(as_pod(pods[2]), min_ready_seconds=30, now=NOW) is None


def test_status_is_written_only_on_change() -> None:
    rs = as_set(replica_set(1))
    found = replicaset.status(rs, [as_pod(pod("a"))], failure=None, now=NOW)
    assert replicaset.status_patch(rs, found) is not None
    rs.status = found
    again = replicaset.status(rs, [as_pod(pod("a"))], failure=None, now=NOW)
    assert replicaset.status_patch(rs, again) is None


def test_a_failure_shows_and_goes_when_it_is_over() -> None:
    failed = status_of(
        replica_set(1), failure=Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="no")
    )
    assert failed.conditions[0].reason == "FailedCreate"
    rs = as_set(replica_set(1))
    rs.status = failed
    assert replicaset.status(rs, [], failure=None, now=NOW).conditions == ()


# the loop


@contextlib.asynccontextmanager
async def running(
    server: FakeApiServer, *, type: type[ReplicaSet] | type[ReplicationController] = ReplicaSet
) -> AsyncIterator[replicaset.Controller]:
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
    controller = replicaset.Controller(deps, type=type)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in (informers, events, controller.loop)]
        yield controller
        for task in tasks:
            task.cancel()


def creates(server: FakeApiServer) -> int:
    return sum(1 for r in server.requests if r.method == "POST" and r.path.endswith("/pods"))


@pytest.mark.looptime
async def test_a_cache_that_lags_behind_makes_nothing_twice() -> None:
    server = FakeApiServer()
    server.put(scheme.REPLICA_SETS, replica_set(5))
    async with running(server) as controller:
        await asyncio.sleep(1)
        assert creates(server) == 5
        server.reachable = False
        server.disconnect()
        await asyncio.sleep(0)
        server.reachable = True  # the watch is still backing off: what is made now is not seen yet
        server.put(scheme.REPLICA_SETS, replica_set(8))
        controller._sets.cache["default/web"].spec.replicas = 8
        for _ in range(50):
            controller.loop.queue.add("default/web")
            await asyncio.sleep(0.001)
        assert creates(server) == 8
        await asyncio.sleep(120)
        assert creates(server) == 8
        assert len(server.all(scheme.PODS)) == 8


@pytest.mark.looptime
async def test_refused_pods_are_told_and_tried_again_with_patience() -> None:
    server = FakeApiServer()
    async with running(server):
        await asyncio.sleep(1)
        server.refuse(status.forbidden("exceeded quota", resource=scheme.PODS), times=2)
        server.put(scheme.REPLICA_SETS, replica_set(4))
        await asyncio.sleep(5)
        assert creates(server) == 1 + 4, "a first batch of one was refused, as was the status, then all were made"
        assert len(server.all(scheme.PODS)) == 4
        reasons = {event["reason"] for event in server.all(scheme.EVENTS)}
        assert reasons == {"FailedCreate", "SuccessfulCreate"}
        [found] = server.all(scheme.REPLICA_SETS)
        assert found["status"]["replicas"] == 4
        assert "conditions" not in found["status"]


@pytest.mark.looptime
async def test_a_replication_controller_keeps_pods_by_its_map_of_labels_and_lets_strays_go() -> None:
    server, clock = FakeApiServer(), LoopClock()
    made = replica_set(2)
    made["metadata"]["name"], made["spec"]["selector"] = "old", {"app": "web"}
    server.put(scheme.REPLICATION_CONTROLLERS, made)
    server.put(scheme.PODS, pod("found", owners=(), ready="00:10"))
    async with running(server, type=ReplicationController):
        await clock.sleep(1)
        pods = server.all(scheme.PODS)
        assert {one["metadata"]["ownerReferences"][0]["kind"] for one in pods} == {"ReplicationController"}
        assert len(pods) == 2
        stray = server.find(scheme.PODS, "found", namespace="default")
        assert stray is not None
        server.put(scheme.PODS, {**stray, "metadata": {**stray["metadata"], "labels": {"app": "debug"}}})
        await clock.sleep(1)
        assert len(server.all(scheme.PODS)) == 3
        [found] = server.all(scheme.REPLICATION_CONTROLLERS)
        assert found["status"]["replicas"] == 2
        assert "terminatingReplicas" not in found["status"], "a field ReplicationControllers do not have"


@pytest.mark.looptime
async def test_an_owner_that_was_replaced_meanwhile_adopts_nothing() -> None:
    server = FakeApiServer()
    server.put(scheme.REPLICA_SETS, replica_set(1))
    async with running(server) as controller:
        await asyncio.sleep(1)
        fresh = {**replica_set(1), "metadata": {**replica_set(1)["metadata"], "uid": "another"}}
        server._objects[scheme.REPLICA_SETS]["default/web"] |= fresh
        server.put(scheme.PODS, pod("orphan", owners=()))
        await asyncio.sleep(1)
        assert controller._sets.cache["default/web"].metadata.uid == "rs"
        found = server.find(scheme.PODS, "orphan", namespace="default")
        assert found is not None
        assert found["metadata"]["ownerReferences"] == []


@pytest.mark.looptime
async def test_a_write_nobody_ever_sees_is_forgotten_in_the_end() -> None:
    server, clock = FakeApiServer(), LoopClock()
    informer = Informers(server.client(), clock=clock).get(scheme.PODS, Pod)
    unseen = reconcile.Unseen(clock)
    unseen.wrote("key", pod("a") | {"metadata": {"name": "a", "uid": "a", "resourceVersion": "9"}}, informer=informer)
    assert not unseen.settled("key")
    await asyncio.sleep(reconcile.PATIENCE + 1)
    assert unseen.settled("key")
    assert (unseen._waits, unseen._keys) == ({}, {})


@pytest.mark.looptime
@pytest.mark.parametrize(("version", "settled"), [("8", False), ("9", True), ("10", True)])
async def test_a_write_is_seen_from_its_version_on(version: str, settled: bool) -> None:
    server, clock = FakeApiServer(), LoopClock()
    informer = Informers(server.client(), clock=clock).get(scheme.PODS, Pod)
    unseen = reconcile.Unseen(clock)
    unseen.wrote("key", {"metadata": {"name": "a", "uid": "a", "resourceVersion": "9"}}, informer=informer)
    informer.put("a", as_pod({"metadata": {"name": "a", "uid": "a", "resourceVersion": version}}))
    assert unseen.settled("key") is settled
    informer.remove("a")
    assert unseen.settled("key")
