"""Informers against a scripted API server, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from kube import scheme, status
from kube.client.informer import Informer, Informers
from kube.runtime.supervise import Supervisor
from kube.types import Pod
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import LoopClock

pytestmark = pytest.mark.looptime

Change = tuple[str | None, str | None]


class Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    resource_version: str = ""


class Thing(msgspec.Struct):
    metadata: Meta
    data: dict[str, str] = {}


def config_map(name: str, value: str = "1", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", **meta}, "data": {"v": value}}


@asynccontextmanager
async def running(informers: Informers) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informers.run())
        yield
        task.cancel()


def make(server: FakeApiServer) -> Informers:
    return Informers(server.client(), clock=LoopClock())


def recorded(informer: Informer[Thing]) -> list[Change]:
    changes: list[Change] = []

    def said(obj: Thing | None) -> str | None:
        return None if obj is None else f"{obj.metadata.name}={obj.data['v']}"

    informer.subscribe(lambda old, new: changes.append((said(old), said(new))))
    return changes


async def test_what_is_there_is_cached_and_told_before_it_is_synced() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    server.put(scheme.CONFIG_MAPS, config_map("b"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    changes = recorded(informer)
    async with running(informers):
        await informer.wait_synced()
        assert sorted(informer.cache) == ["ns/a", "ns/b"]
        assert changes == [(None, "a=1"), (None, "b=1")]
    assert [request.params.get("sendInitialEvents") for request in server.requests] == ["true"]


async def test_changes_are_told_with_the_old_and_the_new_object() -> None:
    server = FakeApiServer()
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    changes = recorded(informer)
    async with running(informers):
        await informer.wait_synced()
        server.put(scheme.CONFIG_MAPS, config_map("a", "1"))
        server.put(scheme.CONFIG_MAPS, config_map("a", "2"))
        server.remove(scheme.CONFIG_MAPS, "a", namespace="ns")
        await asyncio.sleep(0.1)
    assert changes == [(None, "a=1"), ("a=1", "a=2"), ("a=2", None)]
    assert informer.cache == {}


async def test_a_late_subscriber_is_shown_what_is_there() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        assert recorded(informer) == [(None, "a=1")]


async def test_a_server_that_refuses_watch_list_is_listed_and_watched() -> None:
    server = FakeApiServer()
    server.watch_list = False
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        server.put(scheme.CONFIG_MAPS, config_map("b"))
        await asyncio.sleep(0.1)
        assert sorted(informer.cache) == ["ns/a", "ns/b"]
    assert [request.params.get("watch") for request in server.requests] == ["true", None, "true"]
    assert server.requests[-1].params["resourceVersion"] == "11"


async def test_servers_that_accept_watch_list_and_cannot_do_it_are_listed_without_a_storm() -> None:
    server = FakeApiServer()
    server.breaks_watch_list = True
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    found = [informers.get(kind) for kind in (scheme.CONFIG_MAPS, scheme.SECRETS, scheme.NODES)]
    server.refuse(status.unavailable("starting"))
    server.refuse(status.unavailable("starting"))
    async with running(informers):
        for informer in found:
            await informer.wait_synced()
        assert list(found[0].cache) == ["ns/a"]
    assert len(server.requests) <= 4 * len(found)


async def test_a_server_that_ignores_watch_list_is_listed_after_a_silence() -> None:
    server = FakeApiServer()
    server.ignores_watch_list = True
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers), asyncio.timeout(30):
        await informer.wait_synced()
    assert list(informer.cache) == ["ns/a"]


async def test_after_a_disconnect_the_watch_resumes_where_it_was_and_tells_nothing_twice() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    changes = recorded(informer)
    async with running(informers):
        await informer.wait_synced()
        server.disconnect()
        server.put(scheme.CONFIG_MAPS, config_map("b"))
        await asyncio.sleep(3)
    assert changes == [(None, "a=1"), (None, "b=1")]
    assert server.requests[-1].params["resourceVersion"] == "11"
    assert "sendInitialEvents" not in server.requests[-1].params


async def test_a_bookmark_moves_the_point_of_resumption() -> None:
    server = FakeApiServer()
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        server.put(scheme.SECRETS, config_map("other"))
        server.bookmark()
        await asyncio.sleep(0)
        server.end_watches()
        await asyncio.sleep(3)
    assert server.requests[-1].params["resourceVersion"] == "11"


async def test_lost_history_is_made_up_for_with_the_deletions_that_were_missed() -> None:
    server = FakeApiServer()
    for name in ("changed", "gone", "same"):
        server.put(scheme.CONFIG_MAPS, config_map(name))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    changes = recorded(informer)
    async with running(informers):
        await informer.wait_synced()
        changes.clear()
        server.disconnect()
        server.remove(scheme.CONFIG_MAPS, "gone", namespace="ns")
        server.put(scheme.CONFIG_MAPS, config_map("changed", "2"))
        server.put(scheme.CONFIG_MAPS, config_map("new"))
        server.compact()
        await asyncio.sleep(5)
    assert sorted(changes, key=str) == [("changed=1", "changed=2"), ("gone=1", None), (None, "new=1")]


async def test_an_expired_event_inside_the_stream_starts_over() -> None:
    server = FakeApiServer()
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        body = msgspec.json.encode({"type": "ERROR", "object": status.expired("too old resource version").status})
        server.send(body + b"\n")
        await asyncio.sleep(3)
        assert server.watching == ["configmaps"]
    assert [request.params.get("sendInitialEvents") for request in server.requests] == ["true", "true"]


async def test_a_server_restored_from_a_backup_is_read_anew() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        server.revision = 3
        server.end_watches()
        await asyncio.sleep(3)
        server.put(scheme.CONFIG_MAPS, config_map("b"))
        await asyncio.sleep(1)
        assert sorted(informer.cache) == ["ns/a", "ns/b"]


async def test_a_server_that_went_back_is_noticed_by_its_bookmark() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        server.revision = 3
        server.bookmark()
        await asyncio.sleep(3)
    assert [request.params.get("sendInitialEvents") for request in server.requests] == ["true", "true"]


async def test_an_unreachable_server_is_asked_ever_more_rarely_and_found_again() -> None:
    server = FakeApiServer()
    server.reachable = False
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    tries = 0

    def count() -> None:
        nonlocal tries
        tries += 1

    original = server._enter
    server._enter = lambda *args: (count(), original(*args))[1]  # type: ignore[method-assign]
    async with running(informers):
        await asyncio.sleep(300)
        assert 6 <= tries <= 20
        server.reachable = True
        async with asyncio.timeout(61):
            await informer.wait_synced()


async def test_when_one_informer_finds_the_server_again_all_do() -> None:
    server = FakeApiServer()
    informers = make(server)
    everyone = [informers.get(resource, Thing) for resource in (scheme.CONFIG_MAPS, scheme.SECRETS, scheme.NODES)]
    async with running(informers):
        await informers.wait_synced()
        server.reachable = False
        server.disconnect()
        await asyncio.sleep(200)
        server.reachable = True
        for _ in range(600):
            if server.watching:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.2)
        assert len(server.watching) == len(everyone)


async def test_waiting_informers_can_be_told_that_the_server_is_back() -> None:
    server = FakeApiServer()
    server.reachable = False
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await asyncio.sleep(200)
        server.reachable = True
        informers.retry_now()
        async with asyncio.timeout(0.1):
            await informer.wait_synced()


async def test_any_request_that_is_answered_again_wakes_the_informers() -> None:
    server = FakeApiServer()
    client = server.client()
    informers = Informers(client, clock=LoopClock())
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        server.reachable = False
        server.disconnect()
        await asyncio.sleep(200)
        server.reachable = True
        assert server.watching == []
        await client.list(scheme.NODES)
        await asyncio.sleep(0.1)
        assert server.watching == ["configmaps"]


async def test_watches_that_end_at_once_do_not_spin() -> None:
    server = FakeApiServer()
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
        original = server._open

        def ended(target: Any, params: Any) -> Any:
            watcher = original(target, params)
            watcher.queue.put_nowait(None)
            return watcher

        server._open = ended  # type: ignore[method-assign]
        server.end_watches()
        await asyncio.sleep(60)
    assert len(server.requests) < 15


async def test_a_failing_handler_is_logged_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeApiServer()
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    informer.subscribe(lambda old, new: {}["missing"])
    changes = recorded(informer)
    async with running(informers):
        await informer.wait_synced()
        for value in "123":
            server.put(scheme.CONFIG_MAPS, config_map("a", value))
        await asyncio.sleep(0.1)
    assert len(changes) == 3
    assert sum("a handler failed" in record.message for record in caplog.records) == 1


async def test_an_object_that_cannot_be_read_is_left_out_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, {"metadata": {"name": "odd", "namespace": "ns"}, "data": 7})
    server.put(scheme.CONFIG_MAPS, config_map("good"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    async with running(informers):
        await informer.wait_synced()
    assert list(informer.cache) == ["ns/good"]
    assert "ns/odd is ignored" in caplog.text


async def test_an_index_follows_the_objects() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a", "x"))
    server.put(scheme.CONFIG_MAPS, config_map("b", "x"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    before = informer.add_index(lambda thing: [thing.data["v"]])
    async with running(informers):
        await informer.wait_synced()
        later = informer.add_index(lambda thing: [thing.data["v"]])
        for index in (before, later):
            assert [thing.metadata.name for thing in index.get("x")] == ["a", "b"]
        server.put(scheme.CONFIG_MAPS, config_map("a", "y"))
        server.remove(scheme.CONFIG_MAPS, "b", namespace="ns")
        await asyncio.sleep(0.1)
        for index in (before, later):
            assert index.get("x") == []
            assert [thing.metadata.name for thing in index.get("y")] == ["a"]
            assert index.values() == ["y"]


async def test_an_informer_is_shared_by_those_who_ask_for_the_same() -> None:
    server = FakeApiServer()
    informers = make(server)
    first = informers.get(scheme.CONFIG_MAPS, Thing)
    assert informers.get(scheme.CONFIG_MAPS, Thing) is first
    assert informers.get(scheme.CONFIG_MAPS, Thing, namespace="ns") is not first
    async with running(informers):
        await informers.wait_synced()
        assert informers.unsynced() is None
    assert len(server.requests) == 2


async def test_an_informer_asked_for_while_running_starts_and_a_released_one_stops() -> None:
    server = FakeApiServer()
    server.put(scheme.PODS, {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n1"}})
    server.put(scheme.PODS, {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"nodeName": "n2"}})
    informers = make(server)
    async with running(informers):
        await asyncio.sleep(1)
        pods = informers.get(scheme.PODS, Pod, field_selector="spec.nodeName=n1")
        await pods.wait_synced()
        assert [pod.spec.node_name for pod in pods.cache.values()] == ["n1"]
        assert server.watching == ["pods"]
        informers.release(pods)
        await asyncio.sleep(0.1)
        assert server.watching == []


async def test_an_object_that_no_longer_matches_the_selector_is_told_as_gone() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a", labels={"app": "web"}))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing, label_selector="app=web")
    changes = recorded(informer)
    async with running(informers):
        await informer.wait_synced()
        server.put(scheme.CONFIG_MAPS, config_map("a", "2", labels={"app": "db"}))
        await asyncio.sleep(0.1)
    assert changes == [(None, "a=1"), ("a=1", None)]


async def test_a_restarted_component_leaves_no_handler_and_no_index_behind() -> None:
    server = FakeApiServer()
    server.put(scheme.CONFIG_MAPS, config_map("a"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    told: list[str] = []

    class Part:
        name = "part"

        async def run(self) -> None:
            informer.add_index(lambda thing: [thing.data["v"]])
            async with asyncio.TaskGroup() as group:
                group.create_task(self.listen())
            raise OSError("fails")

        async def listen(self) -> None:
            informer.subscribe(lambda old, new: told.append("told"))

        def ready(self) -> str | None:
            return None

        async def reload(self) -> None: ...

        async def close(self) -> None: ...

    supervisor = Supervisor({"part": Part}, clock=LoopClock(), notify=lambda state: None)
    async with running(informers), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await informer.wait_synced()
        await asyncio.sleep(20)
        supervisor.stop()
        told.clear()
        server.put(scheme.CONFIG_MAPS, config_map("a", "2"))
        await asyncio.sleep(1)
    assert told == []
    assert informer._indexes == []


async def test_a_big_collection_does_not_hold_the_loop_while_it_is_told() -> None:
    server = FakeApiServer()
    for number in range(600):
        server.put(scheme.CONFIG_MAPS, config_map(f"c{number}"))
    informers = make(server)
    informer = informers.get(scheme.CONFIG_MAPS, Thing)
    seen: list[int] = []
    told: list[object] = []
    informer.subscribe(lambda old, new: told.append(new))

    async def elsewhere() -> None:
        while not informer.synced:
            seen.append(len(told))
            await asyncio.sleep(0)

    async with running(informers):
        await elsewhere()
    assert len(told) == 600
    assert {256, 512} <= set(seen)
