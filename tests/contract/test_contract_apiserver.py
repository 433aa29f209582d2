"""What a client may rely on, of the real API server (in this process, on SQLite) and of the tests' scripted one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controlplane import bootstrap
from controlplane import config as serverconfig
from controlplane.apiserver import app
from controlplane.server import prepare
from controlplane.store import sqlite
from controlplane.store.storage import Storage
from kube import pki, scheme, status
from kube.client.events import EventRecorder
from kube.client.identity import User
from kube.client.informer import Informers
from kube.client.inprocess import InProcessTransport
from kube.client.lease import LeaseKeeper
from kube.client.rest import Client
from kube.runtime import metrics
from kube.runtime.clock import SystemClock
from kube.types import ConfigMap
from tests.fakes.apiserver import FakeApiServer

Object = dict[str, Any]


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Client]:
    raw = serverconfig.ServerConfiguration(
        data_dir=str(folder / "data"),
        pki_dir=str(folder / "pki"),
        listen=["127.0.0.1:6443"],
        advertise_address="192.0.2.1",
    )
    settings = serverconfig.check(raw)
    prepare(settings)
    storage = Storage(sqlite.SqliteBackend(settings.data / "store.db"), monotonic=SystemClock().monotonic)
    app.register(storage)
    await storage.open()
    try:
        built = app.build(settings, storage, clock=SystemClock(), registry=metrics.registry(), exposition=lambda: b"")
        await bootstrap.ensure(built.context.objects, settings, client_ca=pki.load_ca(settings.pki).cert_pem.decode())
        yield Client(InProcessTransport(built.app, User("admin", ("system:masters",))))
    finally:
        await storage.close()


@asynccontextmanager
async def scripted(folder: Path) -> AsyncIterator[Client]:
    server = FakeApiServer()
    server.put(scheme.NAMESPACES, {"metadata": {"name": "default"}})
    yield server.client()


@pytest.fixture(params=[real, scripted], ids=["real", "scripted"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(request.param(tmp_path))


def config_map(name: str, value: str = "1", **labels: str) -> Object:
    meta = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"v": value}}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about within 5 s")


async def test_a_created_object_has_identity_and_revision_and_reads_back(client: Client) -> None:
    made = await client.create(scheme.CONFIG_MAPS, config_map("a"))
    assert made["metadata"]["uid"]
    assert int(made["metadata"]["resourceVersion"]) > 0
    assert (await client.get(scheme.CONFIG_MAPS, "a", namespace="default"))["data"] == {"v": "1"}
    with pytest.raises(status.ApiError) as caught:
        await client.create(scheme.CONFIG_MAPS, config_map("a"))
    assert status.is_already_exists(caught.value)


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(status.ApiError, match='configmaps "a" not found') as caught:
        await client.get(scheme.CONFIG_MAPS, "a", namespace="default")
    assert status.is_not_found(caught.value)


async def test_an_update_from_a_stale_revision_is_a_conflict(client: Client) -> None:
    made = await client.create(scheme.CONFIG_MAPS, config_map("a"))
    changed = await client.update(scheme.CONFIG_MAPS, {**made, "data": {"v": "2"}})
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    with pytest.raises(status.ApiError) as caught:
        await client.update(scheme.CONFIG_MAPS, {**made, "data": {"v": "3"}})
    assert status.is_conflict(caught.value)


async def test_a_merge_patch_changes_and_removes(client: Client) -> None:
    await client.create(scheme.CONFIG_MAPS, config_map("a"))
    patch = {"data": {"v": None, "w": "2"}}
    assert (await client.patch(scheme.CONFIG_MAPS, "a", patch, namespace="default"))["data"] == {"w": "2"}


async def test_a_write_that_changes_nothing_keeps_the_revision(client: Client) -> None:
    made = await client.create(scheme.CONFIG_MAPS, config_map("a"))
    for again in (
        await client.update(scheme.CONFIG_MAPS, made),
        await client.patch(scheme.CONFIG_MAPS, "a", {"data": {"v": "1"}}, namespace="default"),
    ):
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_lists_are_narrowed_by_selectors(client: Client) -> None:
    await client.create(scheme.CONFIG_MAPS, config_map("a", app="web"))
    await client.create(scheme.CONFIG_MAPS, config_map("b", app="db"))

    async def names(**selectors: str) -> list[str]:
        found = await client.list(scheme.CONFIG_MAPS, namespace="default", **selectors)  # type: ignore[arg-type]
        return [item["metadata"]["name"] for item in found["items"] if item["metadata"]["name"] in "ab"]

    assert await names() == ["a", "b"]
    assert await names(label_selector="app=web") == ["a"]
    assert await names(field_selector="metadata.name=b") == ["b"]


async def test_a_watch_from_a_list_tells_what_happened_since(client: Client) -> None:
    made = await client.create(scheme.CONFIG_MAPS, config_map("a"))
    revision = (await client.list(scheme.CONFIG_MAPS, namespace="default"))["metadata"]["resourceVersion"]
    await client.update(scheme.CONFIG_MAPS, {**made, "data": {"v": "2"}})
    await client.delete(scheme.CONFIG_MAPS, "a", namespace="default")
    seen: list[tuple[str, str]] = []
    revisions: list[int] = [int(revision)]
    async with asyncio.timeout(5):
        async for event in client.watch(scheme.CONFIG_MAPS, namespace="default", resource_version=revision):
            if event.type != "BOOKMARK":
                obj = msgspec.json.decode(event.raw)
                seen.append((event.type, obj["data"]["v"]))
                revisions.append(int(obj["metadata"]["resourceVersion"]))
            if len(seen) == 2:
                break
    assert seen == [("MODIFIED", "2"), ("DELETED", "2")]
    assert revisions == sorted(set(revisions))


async def test_initial_events_end_with_their_bookmark(client: Client) -> None:
    await client.create(scheme.CONFIG_MAPS, config_map("a"))
    names: list[str] = []
    async with asyncio.timeout(5):
        async for event in client.watch(scheme.CONFIG_MAPS, namespace="default", initial_events=True):
            meta = msgspec.json.decode(event.raw)["metadata"]
            if event.type == "BOOKMARK":
                assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
                assert int(meta["resourceVersion"]) > 0
                break
            names.append(meta["name"])
    assert "a" in names


async def test_an_informer_keeps_up_with_writes(client: Client) -> None:
    await client.create(scheme.CONFIG_MAPS, config_map("before", app="x"))
    informers = Informers(client, clock=SystemClock())
    informer = informers.get(scheme.CONFIG_MAPS, ConfigMap, namespace="default", label_selector="app=x")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informers.run())
        await until(lambda: informer.synced)
        assert list(informer.cache) == ["default/before"]
        made = await client.create(scheme.CONFIG_MAPS, config_map("after", app="x"))
        await until(lambda: "default/after" in informer.cache)
        await client.update(scheme.CONFIG_MAPS, {**made, "metadata": {**made["metadata"], "labels": {"app": "y"}}})
        await client.delete(scheme.CONFIG_MAPS, "before", namespace="default")
        await until(lambda: not informer.cache)
        task.cancel()


async def test_events_are_recorded_and_counted_up(client: Client) -> None:
    recorder = EventRecorder(client, component="kubelet", host="n1", clock=SystemClock())
    pod = {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "web", "uid": "u1"}
    for _ in range(2):
        recorder.event(pod, "Normal", "Pulled", "Image is present")
    await recorder.flush(seconds=5)
    (event,) = (await client.list(scheme.EVENTS, namespace="default"))["items"]
    assert (event["count"], event["reason"], event["involvedObject"]["name"]) == (2, "Pulled", "web")


async def test_a_lease_is_kept(client: Client) -> None:
    keeper = LeaseKeeper(client, name="n1", namespace="default", holder="n1", duration=40, clock=SystemClock())
    await keeper.renew()
    await keeper.renew()
    found = await client.get(scheme.LEASES, "n1", namespace="default")
    assert found["spec"]["holderIdentity"] == "n1"
