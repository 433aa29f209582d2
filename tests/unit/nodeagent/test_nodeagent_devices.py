"""Device plugins over their real sockets: they register, are counted, grant, vanish, and who has what is kept."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from nodeagent_given import container, pod
from nodeagent_node import Node, eventually, sleeping

from kube.runtime.clock import SystemClock
from nodeagent.devices import assign, plugins
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.device_plugin import FakePlugin
from tests.fakes.runtime import FakeRuntime

NAME = "example.com/thing"
TWO = {NAME: {"a": "Healthy", "b": "Healthy", "c": "Unhealthy"}}


def wants(count: int, name: str = "main", **more: Any) -> dict[str, Any]:
    return container(name, resources={"limits": {NAME: str(count)}}, **more)


def chosen(of: Any, which: int = 0, *, held: assign.Held | None = None) -> dict[str, tuple[str, ...]]:
    return assign.choose(of, of.spec.containers[which], devices=TWO, held=held or {})


def test_a_container_gets_free_and_healthy_devices() -> None:
    assert chosen(pod(wants(1))) == {NAME: ("a",)}
    assert chosen(pod(wants(1)), held={"other": {"x": {NAME: ("a",)}}}) == {NAME: ("b",)}
    with pytest.raises(assign.NoDeviceError, match="Requested: 3, Available: 2"):
        chosen(pod(wants(3)))


def test_a_container_that_asks_for_nothing_gets_nothing() -> None:
    assert chosen(pod(container())) == {}


def test_a_restarted_container_keeps_its_devices() -> None:
    it = pod(wants(1))
    assert chosen(it, held={it.metadata.uid: {"main": {NAME: ("b",)}}}) == {NAME: ("b",)}


def test_devices_of_an_init_container_serve_those_after_it() -> None:
    it = pod(wants(2), init=(wants(2, "prepare"),))
    assert chosen(it, held={it.metadata.uid: {"prepare": {NAME: ("a", "b")}}}) == {NAME: ("a", "b")}


def test_capacity_counts_all_and_pods_may_have_the_healthy() -> None:
    assert assign.amounts(TWO) == {NAME: (3, 2)}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: those of sockets hold 107 characters."""
    with tempfile.TemporaryDirectory(prefix="na-") as folder:
        yield Path(folder)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path, FakeApiServer(), FakeRuntime(now=time.time_ns))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.devices.run())
        async with made.alive():
            await eventually(lambda: (made.folder / "k/device-plugins/kubelet.sock").exists())
            yield made
        task.cancel()


async def test_a_plugin_is_counted_grants_and_gets_back(node: Node) -> None:
    async with FakePlugin(node.folder / "k/device-plugins") as plugin:
        await plugin.register()
        await eventually(lambda: node.devices.amounts == {NAME: (2, 2)})
        node.put(sleeping(resources={"limits": {NAME: "2"}}))
        await eventually(node.ready)
        [config] = node.runtime.configs.values()
        assert ("THINGS", b"d0,d1") in [(each.key, each.value) for each in config.envs]
        assert config.devices[0].container_path == "/dev/thing" and config.devices[0].permissions == "rw"
        assert "/thing" in [mount.container_path for mount in config.mounts]
        assert config.CDI_devices[0].name == "example.com/thing=all"
        assert config.annotations["example.com/granted"] == "yes"
        node.put(sleeping(resources={"limits": {NAME: "1"}}), name="late", uid="99999999-2222-3333-4444-555555555555")
        await eventually(lambda: node.waiting("late") == "CreateContainerConfigError")
        plugin.devices["d1"] = "Unhealthy"
        plugin.tell()
        await eventually(lambda: node.devices.amounts == {NAME: (2, 1)})
        node.delete()
        await eventually(lambda: len(node.pool.workers) == 1)
    await eventually(lambda: node.devices.amounts == {NAME: (2, 0)})


@pytest.mark.parametrize(
    ("resource", "version"), [("thing", "v1beta1"), ("example.com/x", "v2"), ("a.kubernetes.io/x", "v1beta1")]
)
async def test_a_plugin_that_speaks_otherwise_is_refused(node: Node, resource: str, version: str) -> None:
    plugin = FakePlugin(node.folder / "k/device-plugins", resource)
    with pytest.raises(grpc.aio.AioRpcError, match="want"):
        await plugin.register(version=version)


async def test_who_has_what_outlives_the_agent(tmp_path: Path) -> None:
    it, other = pod(wants(1)), pod(wants(1), metadata={"uid": "other"})
    async with begun(tmp_path) as devices, FakePlugin(tmp_path) as plugin:
        await plugin.register()
        await eventually(lambda: devices.amounts == {NAME: (2, 2)})
        await devices.allocate(it, it.spec.containers[0])
        assert plugin.asked == [("d0",)]
    async with begun(tmp_path) as again:
        with pytest.raises(assign.NoDeviceError, match=r"unavailable|no device plugin"):
            await again.allocate(other, other.spec.containers[0])
        async with FakePlugin(tmp_path) as plugin:
            await plugin.register()
            await eventually(lambda: again.amounts == {NAME: (2, 2)})
            await again.allocate(other, other.spec.containers[0])
            await again.allocate(it, it.spec.containers[0])
            assert plugin.asked == [("d1",), ("d0",)]
            await again.release("other")
            await again.release(it.metadata.uid)


@contextlib.asynccontextmanager
async def begun(folder: Path) -> AsyncIterator[plugins.DevicePlugins]:
    devices = plugins.DevicePlugins(folder, clock=SystemClock(), on_change=lambda: None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(devices.run())
        await eventually(lambda: (folder / "kubelet.sock").exists())
        yield devices
        task.cancel()


async def test_a_folder_that_cannot_be_costs_only_the_plugins(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    await plugins.DevicePlugins(tmp_path / "taken", clock=SystemClock(), on_change=lambda: None).run()
