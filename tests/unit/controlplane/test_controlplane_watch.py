"""Lists and watches: snapshots, pages, selectors, bookmarks, and what is too old or still to come."""

import asyncio
import itertools
from typing import Any

import orjson
import pytest

from controlplane.store import cache as caching
from controlplane.store.backend import Row
from controlplane.store.cache import HistoryGone, ResourceCache
from controlplane.store.entries import encode, inject
from controlplane.store.scope import Scope
from kube import labels
from kube.client.inprocess import InProcessTransport
from tests.fakes.api_harness import ADMIN, Harness

Object = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = {"content-type": "application/merge-patch+json"}


def config_map(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}}


async def made(api: Harness, *names: str, **labels: str) -> None:
    for name in names:
        assert (await api.ask("POST", MAPS, config_map(name, **labels)))[0] == 201


def told(event: Object) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"].get("name", "")


async def take(api: Harness, count: int, **params: str) -> list[Object]:
    found = []
    stream = api.watch(MAPS, **params)
    async for event in stream:
        found.append(event)
        if len(found) == count:
            break
    await stream.aclose()
    return found


async def test_a_list_carries_the_revision_of_the_store_and_objects_in_key_order(api: Harness) -> None:
    await made(api, "b", "a")
    _, found = await api.ask("GET", MAPS)
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b"]
    assert found["metadata"] == {"resourceVersion": str(api.storage.revision)}


async def test_pages_show_one_snapshot_though_objects_change_meanwhile(api: Harness) -> None:
    await made(api, "a", "b", "c", "d", "e")
    _, first = await api.ask("GET", MAPS, limit="2")
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    await api.ask("DELETE", f"{MAPS}/c")
    await made(api, "bb")
    _, second = await api.ask("GET", MAPS, limit="10", **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d", "e"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]
    code, error = await api.ask("GET", MAPS, **{"continue": "nonsense"})
    assert (code, error["reason"]) == (400, "BadRequest")


async def test_a_continue_token_that_is_too_old_is_answered_with_one_that_goes_on(
    api: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(api, "a", "b", "c")
    _, first = await api.ask("GET", MAPS, limit="1")
    monkeypatch.setattr(caching, "KEEP_AT_LEAST", 1)
    monkeypatch.setattr(caching, "KEEP_AT_MOST", 1)
    await made(api, "x", "y")
    code, error = await api.ask("GET", MAPS, limit="1", **{"continue": first["metadata"]["continue"]})
    assert (code, error["reason"]) == (410, "Expired")
    code, found = await api.ask("GET", MAPS, **{"continue": error["metadata"]["continue"]})
    assert (code, [item["metadata"]["name"] for item in found["items"]]) == (200, ["b", "c", "x", "y"])


async def test_an_old_revision_is_listed_exactly_or_refused(api: Harness) -> None:
    await made(api, "a")
    revision = str(api.storage.revision)
    await made(api, "b")
    _, found = await api.ask("GET", MAPS, resourceVersion=revision, resourceVersionMatch="Exact")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
    code, error = await api.ask("GET", MAPS, resourceVersionMatch="Exact")
    assert (code, error["reason"]) == (422, "Invalid")


async def test_a_revision_still_to_come_is_waited_for_and_then_refused(
    api: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.apiserver.verbs.reading.FUTURE_SECONDS", 0.05)
    code, error = await api.ask("GET", MAPS, resourceVersion=str(api.storage.revision + 1))
    assert (code, error["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(api.ask("GET", MAPS, resourceVersion=str(api.storage.revision + 1)))
        await asyncio.sleep(0)
        await made(api, "a")
    assert waiting.result()[0] == 200


@pytest.mark.parametrize(
    ("selectors", "names"),
    [
        ({"labelSelector": "app=web"}, ["a"]),
        ({"labelSelector": "app"}, ["a", "b"]),
        ({"labelSelector": "!app"}, ["c"]),
        ({"labelSelector": "app notin (web)"}, ["b", "c"]),
        ({"fieldSelector": "metadata.name=b"}, ["b"]),
        ({"fieldSelector": "metadata.name!=b", "labelSelector": "app"}, ["a"]),
    ],
)
async def test_selectors_narrow_a_list(api: Harness, selectors: dict[str, str], names: list[str]) -> None:
    await made(api, "a", app="web")
    await made(api, "b", app="db")
    await made(api, "c")
    _, found = await api.ask("GET", MAPS, **selectors)
    assert [item["metadata"]["name"] for item in found["items"]] == names


@pytest.mark.parametrize(
    ("parameter", "value", "part"),
    [
        ("fieldSelector", "data.x=1", '"data.x" is not a known field selector'),
        ("fieldSelector", "oops", "invalid selector"),
        ("labelSelector", "a in", "unable to parse"),
        ("resourceVersion", "abc", "resourceVersion"),
        ("limit", "-1", "limit"),
    ],
)
async def test_bad_list_parameters_are_refused_by_name(api: Harness, parameter: str, value: str, part: str) -> None:
    code, error = await api.ask("GET", MAPS, **{parameter: value})
    assert code == 400
    assert part in error["message"]


async def test_a_watch_begins_with_what_is_there_and_goes_on_with_what_changes(api: Harness) -> None:
    await made(api, "a")
    stream = api.watch(MAPS)
    assert told(await anext(stream)) == ("ADDED", "a")
    await made(api, "b")
    assert told(await anext(stream)) == ("ADDED", "b")
    await api.ask("PATCH", f"{MAPS}/b", {"data": {"k": "v"}}, headers=MERGE)
    event = await anext(stream)
    assert (told(event), event["object"]["data"]) == (("MODIFIED", "b"), {"k": "v"})
    await api.ask("DELETE", f"{MAPS}/b")
    event = await anext(stream)
    assert told(event) == ("DELETED", "b")
    assert event["object"]["metadata"]["resourceVersion"] == str(api.storage.revision)
    await stream.aclose()
    assert api.storage.cache("configmaps").watching == 0


async def test_a_watch_from_a_revision_misses_nothing_since(api: Harness) -> None:
    await made(api, "a")
    revision = str(api.storage.revision)
    await made(api, "b")
    await api.ask("DELETE", f"{MAPS}/a")
    assert [told(event) for event in await take(api, 2, resourceVersion=revision)] == [("ADDED", "b"), ("DELETED", "a")]


async def test_a_watch_from_too_old_a_revision_is_told_so_in_the_stream(api: Harness) -> None:
    api.storage.cache("configmaps").begin_at(5)
    [event] = await take(api, 1, resourceVersion="4")
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"] == "too old resource version: 4 (5)"


async def test_watch_list_ends_the_present_with_an_annotated_bookmark(api: Harness) -> None:
    await made(api, "a", "b")
    params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    *added, bookmark = await take(api, 3, **params)
    assert [told(event) for event in added] == [("ADDED", "a"), ("ADDED", "b")]
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert bookmark["object"]["metadata"]["resourceVersion"] == str(api.storage.revision)
    code, error = await api.ask("GET", MAPS, watch="1", sendInitialEvents="true")
    assert (code, error["reason"]) == (422, "Invalid")


async def test_a_watch_without_initial_events_begins_now(api: Harness) -> None:
    await made(api, "a")
    stream = api.watch(MAPS, sendInitialEvents="false", resourceVersionMatch="NotOlderThan")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        await made(api, "b")
    assert told(first.result()) == ("ADDED", "b")
    await stream.aclose()


async def test_an_object_that_starts_or_stops_matching_is_added_or_deleted(api: Harness) -> None:
    await made(api, "a", app="web")
    stream = api.watch(MAPS, labelSelector="app=web")
    assert told(await anext(stream)) == ("ADDED", "a")
    for value, kind in (("db", "DELETED"), ("web", "ADDED"), ("web2", "DELETED")):
        await api.ask("PATCH", f"{MAPS}/a", {"metadata": {"labels": {"app": value}}}, headers=MERGE)
        assert told(await anext(stream)) == (kind, "a")
    await stream.aclose()


async def test_a_watch_ends_after_its_time_with_a_last_bookmark(api: Harness) -> None:
    found = [event async for event in api.watch(MAPS, timeoutSeconds="1", allowWatchBookmarks="true", seconds=5)]
    assert [event["type"] for event in found] == ["BOOKMARK"]


async def test_watches_end_cleanly_when_the_server_stops(api: Harness) -> None:
    await made(api, "a")
    stream = api.watch(MAPS)
    await anext(stream)
    api.storage.cache("configmaps").end_watches()
    assert [event async for event in stream] == []


async def test_a_client_that_does_not_read_is_given_up(api: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.apiserver.verbs.watching.READ_SECONDS", 0.2)
    cache = api.storage.cache("configmaps")
    transport = InProcessTransport(api.server.app, ADMIN)
    async with transport.stream("GET", MAPS, params={"watch": "1"}):
        await made(api, "first")
        assert cache.watching == 1
        for number in range(30):
            await made(api, f"c{number}")
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while cache.watching:  # noqa: ASYNC110 - nothing tells of it but the count
                await asyncio.sleep(0.02)


async def test_tables_and_metadata_only_are_watched_too(api: Harness) -> None:
    await made(api, "a")
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    answer = await api.raw("GET", MAPS, headers=accept)
    table = orjson.loads(answer.body)
    assert (table["kind"], [row["object"]["metadata"]["name"] for row in table["rows"]]) == ("Table", ["a"])
    accept = {"accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    partial = orjson.loads((await api.raw("GET", MAPS, headers=accept)).body)
    assert (partial["kind"], partial["items"][0]["kind"]) == ("PartialObjectMetadataList", "PartialObjectMetadata")
    answer = await api.raw("GET", MAPS, headers={"accept": "application/xml"})
    assert answer.status == 406


# The cache alone.


def rows(*changes: tuple[str, str, bool]) -> list[Row]:
    """Rows as a backend would number them: (key, label value, deleted)."""
    found = []
    for revision, (key, label, deleted) in zip(itertools.count(1), changes, strict=False):
        obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": key, "labels": {"v": label}}}
        found.append(Row(revision, f"configmaps/ns/{key}", 0, deleted, encode(obj)))
    return found


def cache_of(*changes: tuple[str, str, bool]) -> ResourceCache:
    cache = ResourceCache()
    for row in rows(*changes):
        cache.apply(row, remember=True)
    return cache


def test_the_revision_is_put_into_the_stored_bytes() -> None:
    obj = {"metadata": {"name": "a", "resourceVersion": "3"}, "apiVersion": "v1", "kind": "ConfigMap", "data": {}}
    value = encode(obj)
    assert b"resourceVersion" not in value
    assert orjson.loads(inject(value, 7))["metadata"] == {"resourceVersion": "7", "name": "a"}
    assert list(orjson.loads(value)) == ["kind", "apiVersion", "metadata", "data"]


def test_an_event_is_rendered_once_for_all_watchers() -> None:
    cache = cache_of()
    watchers = [cache.watch(Scope(), after=None) for _ in range(3)]
    cache.apply(rows(("a", "1", False))[0], remember=True)
    frames = [event.frame(kind) for watcher in watchers for kind, event in watcher._changes]
    assert len(frames) == 3
    assert frames[0] is frames[1] is frames[2]


async def test_a_watcher_that_does_not_keep_up_is_dropped() -> None:
    cache = cache_of()
    watcher = cache.watch(Scope(), after=None, limit=2)
    other = cache.watch(Scope(), after=None)
    for row in rows(("a", "1", False), ("a", "2", False), ("a", "3", False), ("a", "4", False)):
        cache.apply(row, remember=True)
    assert watcher.dropped and watcher.ended
    assert await watcher.batch(timeout=1) == []
    assert len(await other.batch(timeout=1)) == 4
    assert cache.watching == 1


@pytest.mark.parametrize(
    ("revision", "expected"), [(1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"]), (4, ["b"]), (5, ["a", "b"])]
)
def test_any_remembered_snapshot_can_be_listed(revision: int, expected: list[str]) -> None:
    cache = cache_of(("a", "1", False), ("b", "1", False), ("a", "2", False), ("a", "2", True), ("a", "3", False))
    found = cache.select_at(Scope(), revision)
    assert [entry.name for entry in found] == expected
    assert all(entry.revision <= revision for entry in found)


def test_an_old_snapshot_is_selected_by_its_own_labels() -> None:
    cache = cache_of(("a", "1", False), ("a", "2", False))
    scope = Scope(labels=labels.parse("v=1"))
    assert [entry.name for entry in cache.select_at(scope, 1)] == ["a"]
    assert cache.select_at(scope, 2) == []


def test_history_is_bounded_by_age_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    cache = ResourceCache(monotonic=lambda: now)
    monkeypatch.setattr(caching, "KEEP_AT_LEAST", 2)
    for row in rows(*((str(i), "1", False) for i in range(10))):
        now += 10
        cache.apply(row, remember=True)
    with pytest.raises(HistoryGone) as caught:
        cache.watch(Scope(), after=1)
    assert caught.value.oldest == 2
    cache.watch(Scope(), after=2)


def test_replayed_rows_are_state_below_the_floor_and_history_above() -> None:
    cache = ResourceCache()
    for row in rows(("a", "1", False), ("b", "1", False), ("a", "1", True)):
        cache.apply(row, remember=row.revision > 1)
    assert list(cache.items) == ["ns/b"]
    assert [entry.name for entry in cache.select_at(Scope(), 1)] == ["a"]
    with pytest.raises(HistoryGone):
        cache.watch(Scope(), after=0)


def test_namespaces_do_not_leak_into_each_other() -> None:
    cache = ResourceCache()
    for revision, key in enumerate(("a/x", "a-b/y", "ab/z", "a/w"), 1):
        obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": key[-1]}}
        cache.apply(Row(revision, f"configmaps/{key}", 0, False, encode(obj)), remember=True)
    assert [entry.key for entry in cache.select(Scope(namespace="a"))] == ["a/w", "a/x"]
    assert [entry.key for entry in cache.select(Scope(name="x"))] == ["a/x"]
    assert [entry.key for entry in cache.select(Scope())] == ["a-b/y", "a/w", "a/x", "ab/z"]
