"""Static pods: what a manifest becomes, what is refused, what the API shows of it, and a node without any API."""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nodeagent_given import pod
from nodeagent_node import Facts, Node, eventually, sleeping

from kube import scheme, types
from kube.runtime.clock import SystemClock
from nodeagent import bundle, config, errors
from nodeagent.pods import admit, mirror, observe, pool, spec
from nodeagent.sources import api, files, nowhere
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime


def manifest(name: str = "web", **body: Any) -> dict[str, Any]:
    meta = {"name": name, **body.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [sleeping()], **body}}


def put(folder: Path, name: str, *documents: dict[str, Any] | str) -> Path:
    """A file that appears whole, as editors and configuration tools write it."""
    folder.mkdir(exist_ok=True)
    texts = [each if isinstance(each, str) else json.dumps(each) for each in documents]
    (folder / ".new").write_text("\n---\n".join(texts))
    return (folder / ".new").rename(folder / name)


def test_a_manifest_becomes_a_pod_of_this_node(tmp_path: Path) -> None:
    put(tmp_path, "web.yaml", manifest(tolerations=[{"key": "own"}]))
    found, complaints = files.read(tmp_path, node_name="n1")
    ((uid, obj),) = found.items()
    assert complaints == {}
    assert (obj["metadata"]["name"], obj["metadata"]["namespace"], len(uid)) == ("web-n1", "default", 32)
    assert obj["metadata"]["annotations"] == {spec.CONFIG_SOURCE: "file", spec.CONFIG_HASH: uid}
    assert obj["spec"]["nodeName"] == "n1"
    assert obj["spec"]["tolerations"] == [{"key": "own"}, {"operator": "Exists", "effect": "NoExecute"}]


def test_the_same_manifest_is_the_same_pod_and_a_changed_one_another(tmp_path: Path) -> None:
    put(tmp_path, "web.yaml", manifest())
    first, _ = files.read(tmp_path, node_name="n1")
    put(tmp_path, "web.yaml", manifest())
    again, _ = files.read(tmp_path, node_name="n1")
    put(tmp_path, "web.yaml", manifest(hostNetwork=True))
    changed, _ = files.read(tmp_path, node_name="n1")
    assert first.keys() == again.keys() and not first.keys() & changed.keys()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("a: [", "not YAML"),
        ("just text", "want a mapping, found str"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}, "kind: Service: only Pod is supported"),
        (manifest(metadata={"name": ""}), "metadata.name: required"),
        (manifest(containers=[]), "spec.containers: required"),
        (manifest(containers=[{"name": "x"}]), "spec.containers[0]: name and image are required"),
        (manifest(containers=3), "Expected `array`, got `int` - at `$.spec.containers`"),
        (manifest(serviceAccountName="x"), "spec.serviceAccountName: a static pod has no service account"),
        (
            manifest(volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
            "spec.volumes[0].secret: a static pod may not depend on objects of the API",
        ),
    ],
)
def test_a_bad_file_is_told_with_its_field_and_hinders_no_other(
    tmp_path: Path, document: dict[str, Any] | str, message: str
) -> None:
    put(tmp_path, "bad.yaml", document)
    put(tmp_path, "good.yaml", manifest("good"))
    put(tmp_path, ".hidden.yaml", manifest("hidden"))
    found, complaints = files.read(tmp_path, node_name="n1")
    assert [obj["metadata"]["name"] for obj in found.values()] == ["good-n1"]
    (text,) = complaints.values()
    assert str(tmp_path / "bad.yaml") in text and message in text


def test_two_files_for_one_pod_are_told(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", manifest())
    put(tmp_path, "b.yaml", manifest())
    found, complaints = files.read(tmp_path, node_name="n1")
    assert len(found) == 1
    assert complaints == {
        str(
            tmp_path / "b.yaml"
        ): f"{tmp_path}/b.yaml: metadata.name: the pod default/web-n1 is also in {tmp_path}/a.yaml"
    }


def test_a_mirror_is_the_pod_with_its_hash_and_belongs_to_the_node(tmp_path: Path) -> None:
    put(tmp_path, "web.yaml", manifest())
    ((uid, obj),) = files.read(tmp_path, node_name="n1")[0].items()
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}
    shown = mirror.mirror_of(obj, owner=owner)
    assert shown["metadata"]["annotations"][spec.MIRROR] == uid and "uid" not in shown["metadata"]
    assert shown["metadata"]["ownerReferences"] == [{**owner, "controller": True}]
    it, static = msgspec.convert(shown, types.Pod), msgspec.convert(obj, types.Pod)
    assert spec.is_mirror(it) and not spec.is_static(it) and spec.is_static(static)
    assert mirror.stands_for(it, static) and not spec.is_static(pod())


class StaticNode(Node):
    """A node with a folder of manifests, and with the API server if `online`."""

    def __init__(self, folder: Path, server: FakeApiServer, runtime: FakeRuntime, *, online: bool = True) -> None:
        super().__init__(folder, server, runtime)
        self.online = online
        self.manifests = files.ManifestFolder(folder / "m", node_name="n1", clock=SystemClock(), period=0.5)
        sources: list[api.Source] = [self.manifests]
        if online:
            sources.append(api.pods_of(self.informers, node_name="n1"))
        admission = admit.Node(name="n1", labels={}, allocatable=Facts.allocatable)
        self.pool = pool.PodPool(self.kit, sources=sources, node=lambda: admission)

    async def run(self) -> None:
        mirrors = mirror.Mirrors(
            self.kit.client,
            folder=self.manifests,
            mirrors=api.mirrors_of(self.informers, node_name="n1"),
            statuses=self.statuses,
            owner=lambda: None,
        )
        parts: list[Any] = [self.observer, self.probes, self.volumes, self.pool, self.manifests]
        if self.online:
            parts += [self.informers, self.events, self.statuses, mirrors]
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.run())

    def shown(self) -> dict[str, Any]:
        return self.server.find(scheme.PODS, "web-n1", namespace="default") or {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "LIST_PERIOD", 0.1)
    monkeypatch.setattr(pool, "HOUSEKEEPING", 0.1)
    monkeypatch.setattr(mirror, "RETRY_CAP", 0.2)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[StaticNode]:
    async with StaticNode(tmp_path, FakeApiServer(), FakeRuntime(now=time.time_ns)).alive() as found:
        assert isinstance(found, StaticNode)
        yield found


async def test_a_static_pod_runs_and_its_status_is_on_its_mirror(node: StaticNode, tmp_path: Path) -> None:
    put(tmp_path / "m", "web.yaml", manifest())
    await eventually(lambda: node.ready("web-n1"))
    made = len(node.runtime.made)
    assert node.status("web-n1")["podIP"] == "10.0.0.1" and made == 1
    put(tmp_path / "m", "web.yaml", manifest(terminationGracePeriodSeconds=0, hostNetwork=False, subdomain="x"))
    await eventually(
        lambda: len(node.runtime.made) == 1 and node.ready("web-n1") and node.shown()["spec"].get("subdomain")
    )
    (tmp_path / "m" / "web.yaml").unlink()
    await eventually(lambda: node.shown() == {} and node.runtime.boxes == {})


async def test_a_deleted_mirror_comes_back_and_the_pod_does_not_notice(node: StaticNode, tmp_path: Path) -> None:
    put(tmp_path / "m", "web.yaml", manifest())
    await eventually(lambda: node.ready("web-n1"))
    before, container = node.shown()["metadata"]["uid"], node.runtime.running("main").id
    node.delete("web-n1")
    await eventually(lambda: node.ready("web-n1") and node.shown()["metadata"]["uid"] != before)
    assert node.runtime.running("main").id == container


async def test_a_mirror_without_its_pod_is_removed(tmp_path: Path) -> None:
    server = FakeApiServer()
    meta = {"name": "web-n1", "namespace": "default", "uid": "old", "annotations": {spec.MIRROR: "gone"}}
    server.put(scheme.PODS, {"metadata": meta, "spec": {"nodeName": "n1", "containers": [sleeping()]}})
    async with StaticNode(tmp_path, server, FakeRuntime(now=time.time_ns)).alive() as node:
        assert isinstance(node, StaticNode)
        await eventually(lambda: node.shown() == {})
        assert node.runtime.made == {}


async def test_a_node_without_api_server_runs_its_static_pods_and_ends_them(tmp_path: Path) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    put(tmp_path / "m", "web.yaml", manifest())
    async with StaticNode(tmp_path, FakeApiServer(), runtime, online=False).alive() as node:
        assert isinstance(node, StaticNode)
        await eventually(lambda: runtime.running("main"))
        first = runtime.running("main").id
    async with StaticNode(tmp_path, FakeApiServer(), runtime, online=False).alive() as node:
        await eventually(lambda: node.pool.workers and node.pool.workers[0].status)
        assert runtime.running("main").id == first, "a restarted agent restarts nothing"
        (tmp_path / "m" / "web.yaml").unlink()
        await eventually(lambda: runtime.boxes == {} and not node.pool.workers)
        assert node.server.all(scheme.PODS) == []


async def test_who_asks_an_api_server_that_is_not_there_is_told_so() -> None:
    from kube.client.errors import Unreachable
    from kube.client.rest import Client

    client = Client(nowhere.NoApiServer())
    with pytest.raises(Unreachable, match="this node stands alone"):
        await client.get(scheme.NODES, "n1")
    with pytest.raises(Unreachable, match="this node stands alone"):
        async for _ in client.watch(scheme.NODES, resource_version="1"):
            pass


def test_manifests_on_the_command_line_need_no_configuration(tmp_path: Path) -> None:
    arguments = argparse.Namespace(config=str(tmp_path / "none"), manifests=str(tmp_path))
    settings = config.build(bundle.documents_of(arguments), source="test")
    assert (settings.standalone, settings.static_pods) == (True, tmp_path)
    with pytest.raises(errors.ConfigError, match="nothing to run without KubeletConfiguration"):
        config.build({"AgentConfiguration": [{"kind": "AgentConfiguration", "standalone": True}]}, source="test")
