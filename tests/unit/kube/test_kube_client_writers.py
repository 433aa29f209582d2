"""Verbs, watches as bytes, events and leases against the scripted API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from kube import scheme, status
from kube.client import watch
from kube.client.errors import Unreachable
from kube.client.events import EventRecorder, reference
from kube.client.lease import LeaseKeeper
from kube.types import ConfigMap
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import LoopClock

pytestmark = pytest.mark.looptime


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns"}, "data": data}


@asynccontextmanager
async def alongside(work: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work.run())
        yield
        task.cancel()


async def test_the_verbs_reach_their_paths() -> None:
    server = FakeApiServer()
    client = server.client()
    made = await client.create(scheme.CONFIG_MAPS, config_map("a", v="1"))
    assert (await client.get(scheme.CONFIG_MAPS, "a", namespace="ns"))["data"] == {"v": "1"}
    typed = await client.get(scheme.CONFIG_MAPS, "a", namespace="ns", type=ConfigMap)
    assert typed.metadata.name == "a"
    await client.update(scheme.CONFIG_MAPS, {**made, "data": {"v": "2"}})
    patched = await client.patch(scheme.CONFIG_MAPS, "a", {"data": {"w": "3"}}, namespace="ns")
    assert patched["data"] == {"v": "2", "w": "3"}
    assert [item["metadata"]["name"] for item in (await client.list(scheme.CONFIG_MAPS))["items"]] == ["a"]
    await client.delete(scheme.CONFIG_MAPS, "a", namespace="ns", grace_period=0, uid="u", propagation="Background")
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/api/v1/namespaces/ns/configmaps"),
        ("GET", "/api/v1/namespaces/ns/configmaps/a"),
        ("GET", "/api/v1/namespaces/ns/configmaps/a"),
        ("PUT", "/api/v1/namespaces/ns/configmaps/a"),
        ("PATCH", "/api/v1/namespaces/ns/configmaps/a"),
        ("GET", "/api/v1/configmaps"),
        ("DELETE", "/api/v1/namespaces/ns/configmaps/a"),
    ]
    assert server.requests[-1].body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u"},
    }


async def test_a_subresource_is_written_under_its_object() -> None:
    server = FakeApiServer()
    server.put(scheme.PODS, {"metadata": {"name": "p", "namespace": "ns"}})
    await server.client().create(scheme.PODS, {"kind": "Binding"}, namespace="ns", name="p", subresource="binding")
    await server.client().patch(
        scheme.PODS, "p", {"status": {"phase": "Running"}}, namespace="ns", kind="strategic", subresource="status"
    )
    assert [request.path for request in server.requests] == [
        "/api/v1/namespaces/ns/pods/p/binding",
        "/api/v1/namespaces/ns/pods/p/status",
    ]


async def test_failures_are_api_errors_or_unreachable() -> None:
    server = FakeApiServer()
    with pytest.raises(status.ApiError) as caught:
        await server.client().get(scheme.CONFIG_MAPS, "a", namespace="ns")
    assert status.is_not_found(caught.value)
    server.reachable = False
    with pytest.raises(Unreachable, match="https://fake cannot be reached: connection refused"):
        await server.client().list(scheme.CONFIG_MAPS)


async def test_a_watch_yields_events_whose_objects_are_still_bytes() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    seen = []
    async with aclosing(server.client().watch(scheme.CONFIG_MAPS, initial_events=True)) as events:  # type: ignore[type-var]
        async for event in events:
            seen.append((event.type, msgspec.json.decode(event.raw)["metadata"].get("name")))
            if len(seen) == 2:
                break
    assert seen == [("ADDED", "a"), ("BOOKMARK", None)]


async def test_a_refused_watch_is_an_api_error() -> None:
    server = FakeApiServer()
    server.compact()
    with pytest.raises(status.ApiError) as caught:
        async for _ in server.client().watch(scheme.CONFIG_MAPS, resource_version="1"):
            pass
    assert status.is_gone(caught.value)


class Chunked:
    """A transport whose stream is cut as told."""

    server = "https://fake"

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    @asynccontextmanager
    async def stream(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        async def pieces() -> AsyncIterator[bytes]:
            for chunk in self.chunks:
                yield chunk

        from kube.client.transport import StreamResponse

        yield StreamResponse(200, {}, pieces())


def line(number: int) -> bytes:
    return msgspec.json.encode({"type": "ADDED", "object": {"n": number, "text": "a\nb"}}) + b"\n"


async def read(*chunks: bytes) -> list[list[int]]:
    batches = watch.batches(Chunked(*chunks), "/x", params={}, headers={}, timeout=1)  # type: ignore[arg-type]
    return [[msgspec.json.decode(event.raw)["n"] for event in batch] async for batch in batches if batch]


async def test_events_are_put_together_wherever_the_wire_cuts_them() -> None:
    text = line(1) + line(2) + line(3)
    assert await read(text) == [[1, 2, 3]]
    assert await read(text[:-1]) == [[1, 2], [3]]
    for cut in range(1, len(text)):
        assert [number for batch in await read(text[:cut], text[cut:]) for number in batch] == [1, 2, 3]
    assert [number for batch in await read(*(bytes([byte]) for byte in text)) for number in batch] == [1, 2, 3]


@pytest.mark.parametrize("text", [b"<html>\n", b'{"type": "ADDED"}\n', b'{"type":"ADDED","object":{"n":1}}\n{"type"'])
async def test_what_is_no_event_ends_the_watch_as_unreachable(text: bytes) -> None:
    with pytest.raises(Unreachable, match="no watch event"):
        await read(text)


async def test_an_event_without_end_is_not_collected_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_EVENT_BYTES", 100)
    with pytest.raises(Unreachable, match="more than 100 bytes"):
        await read(b"x" * 60, b"x" * 60, line(1))


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "ns", "uid": "u1"}}


def recorder(server: FakeApiServer) -> EventRecorder:
    return EventRecorder(server.client(), component="kubelet", host="n1", clock=LoopClock())


async def test_an_event_tells_who_what_and_when() -> None:
    server = FakeApiServer()
    events = recorder(server)
    async with alongside(events):
        events.event({**reference(POD), "fieldPath": "spec.containers{c}"}, "Normal", "Started", "Started container c")
        await asyncio.sleep(1)
    (stored,) = server.all(scheme.EVENTS)
    name, _, nanoseconds = stored["metadata"]["name"].rpartition(".")
    assert (name, stored["metadata"]["namespace"]) == ("web", "ns")
    assert int(nanoseconds, 16) > 1_700_000_000 * 10**9
    assert stored["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "ns",
        "name": "web",
        "uid": "u1",
        "fieldPath": "spec.containers{c}",
    }
    assert stored["source"] == {"component": "kubelet", "host": "n1"}
    assert (stored["reportingComponent"], stored["reportingInstance"], stored["count"]) == ("kubelet", "n1", 1)
    assert stored["firstTimestamp"] == stored["lastTimestamp"] == "2026-11-23T15:00:00Z"


async def test_the_same_event_again_is_counted_up() -> None:
    server = FakeApiServer()
    events = recorder(server)
    async with alongside(events):
        for _ in range(3):
            events.event(POD, "Warning", "BackOff", "restarting")
            await asyncio.sleep(10)
        events.event(POD, "Warning", "BackOff", "another message")
        await asyncio.sleep(1)
    first, second = server.all(scheme.EVENTS)
    assert (first["count"], first["firstTimestamp"][-9:], first["lastTimestamp"][-9:]) == (3, "15:00:00Z", "15:00:20Z")
    assert second["count"] == 1


async def test_an_event_that_expired_meanwhile_is_told_anew() -> None:
    server = FakeApiServer()
    events = recorder(server)
    async with alongside(events):
        events.event(POD, "Normal", "Pulled", "x")
        await asyncio.sleep(1)
        (stored,) = server.all(scheme.EVENTS)
        server.remove(scheme.EVENTS, stored["metadata"]["name"], namespace="ns")
        events.event(POD, "Normal", "Pulled", "x")
        await asyncio.sleep(1)
    (fresh,) = server.all(scheme.EVENTS)
    assert fresh["count"] == 1


async def test_events_wait_for_a_server_that_comes_back() -> None:
    server = FakeApiServer()
    server.reachable = False
    events = recorder(server)
    async with alongside(events):
        events.event(POD, "Normal", "Pulled", "x")
        await asyncio.sleep(20)
        server.reachable = True
        await asyncio.sleep(20)
    assert len(server.all(scheme.EVENTS)) == 1
    assert events.dropped == 0


async def test_a_full_queue_drops_and_counts_but_never_blocks() -> None:
    events = recorder(FakeApiServer())
    for number in range(1010):
        events.event(POD, "Normal", "Pulled", str(number))
    assert events.dropped == 10


async def test_a_refused_event_is_dropped_and_the_next_one_told() -> None:
    server = FakeApiServer()
    server.refuse(status.forbidden("no events in a namespace that is going away"))
    events = recorder(server)
    async with alongside(events):
        events.event(POD, "Normal", "Killing", "1")
        events.event(POD, "Normal", "Killing", "2")
        await asyncio.sleep(1)
    assert [event["message"] for event in server.all(scheme.EVENTS)] == ["2"]
    assert events.dropped == 1


async def test_events_of_a_cluster_scoped_object_live_in_default_and_long_names_are_cut() -> None:
    server = FakeApiServer()
    events = recorder(server)
    events.event({"kind": "Node", "name": "n" * 253}, "Normal", "Starting", "x" * 5000)
    await events.flush(seconds=5)
    (stored,) = server.all(scheme.EVENTS)
    assert stored["metadata"]["namespace"] == "default"
    assert len(stored["metadata"]["name"]) == 253
    assert len(stored["message"]) == 1024


def test_an_unknown_event_type_is_refused() -> None:
    with pytest.raises(ValueError, match="want Normal or Warning"):
        recorder(FakeApiServer()).event(POD, "Error", "x", "y")


def keeper(server: FakeApiServer, **more: Any) -> LeaseKeeper:
    return LeaseKeeper(
        server.client(),
        name="n1",
        namespace="kube-node-lease",
        holder="n1",
        duration=40,
        clock=LoopClock(),
        **more,
    )


def lease(server: FakeApiServer) -> dict[str, Any]:
    found = server.find(scheme.LEASES, "n1", namespace="kube-node-lease")
    assert found is not None
    return found


async def test_a_lease_is_made_and_renewed_each_quarter_of_its_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube.client.lease.JITTER", 0.0)
    server = FakeApiServer()
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}
    async with alongside(keeper(server, owner=owner)):
        await asyncio.sleep(35)
    assert [request.method for request in server.requests] == ["GET", "POST", "PUT", "PUT", "PUT"]
    assert lease(server)["spec"] == {
        "holderIdentity": "n1",
        "leaseDurationSeconds": 40,
        "renewTime": "2026-11-23T15:00:30.000000Z",
    }
    assert lease(server)["metadata"]["ownerReferences"] == [owner]


async def test_renewals_are_spread_so_that_nodes_do_not_all_renew_at_once() -> None:
    server = FakeApiServer()
    async with alongside(keeper(server)):
        await asyncio.sleep(35)
    assert "2026-11-23T15:00:28.7" < lease(server)["spec"]["renewTime"] < "2026-11-23T15:00:30.0"


async def test_a_lease_survives_conflicts_and_outages_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeApiServer()
    async with alongside(keeper(server)):
        await asyncio.sleep(5)
        server.put(scheme.LEASES, {**lease(server), "spec": {"holderIdentity": "other"}})
        await asyncio.sleep(10)
        assert lease(server)["spec"]["holderIdentity"] == "n1"
        caplog.clear()
        server.reachable = False
        await asyncio.sleep(100)
        server.reachable = True
        await asyncio.sleep(10)
        renewed = lease(server)["spec"]["renewTime"]
    assert renewed > "2026-11-23T15:01:54"
    assert len(caplog.records) == 1
