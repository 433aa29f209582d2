"""Volumes on the real kernel: memory file systems, sub paths that cannot be tricked, and nothing left behind."""

import asyncio
import base64
import ctypes
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes.volume_api import FakeVolumeApi
from kube import scheme, types
from kube.runtime.clock import SystemClock
from nodeagent.volumes import VolumeError, Volumes
from nodeagent.volumes.kernel import KernelMounter

AT_FDCWD, EXCHANGE = -100, 2


@pytest.fixture
async def node(root: None, tmp_path: Path) -> AsyncIterator[Volumes]:
    api = FakeVolumeApi()
    api.put(scheme.SECRETS, "s", data={"k": base64.b64encode(b"hidden").decode()})
    made = Volumes(root=tmp_path, client=api, clock=SystemClock())  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.run())
        yield made
        await made.unmount("u1")
        task.cancel()
    assert KernelMounter().under(tmp_path) == []


def a_pod(*volumes: dict[str, Any], mounts: Any = (), fs_group: int | None = None) -> types.Pod:
    container = {"name": "c", "volumeMounts": list(mounts)}
    security = {} if fs_group is None else {"fsGroup": fs_group}
    spec = {"containers": [container], "volumes": list(volumes), "securityContext": security}
    return msgspec.convert({"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "spec": spec}, types.Pod)


def mount_lines(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == str(path)]


async def test_secrets_and_memory_volumes_never_touch_a_disk(node: Volumes) -> None:
    paths = await node.mount(
        a_pod(
            {"name": "s", "secret": {"secretName": "s"}},
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}},
            fs_group=4242,
        )
    )
    assert (paths["s"] / "k").read_text() == "hidden"
    assert "tmpfs" in mount_lines(paths["s"])[0]
    assert "size=64k" in mount_lines(paths["m"])[0]
    assert [(paths[n].stat().st_gid, oct(paths[n].stat().st_mode & 0o7777)) for n in "sm"] == [
        (4242, "0o2775"),
        (4242, "0o3777"),
    ]
    assert (paths["s"] / "k").stat().st_gid == 4242
    with pytest.raises(OSError, match="No space left"):
        (paths["m"] / "large").write_bytes(bytes(1 << 20))


async def test_mounting_twice_mounts_once(node: Volumes, tmp_path: Path) -> None:
    pod = a_pod({"name": "s", "secret": {"secretName": "s"}})
    path = (await node.mount(pod))["s"]
    again = Volumes(root=tmp_path, client=node._objects._client, clock=SystemClock())
    assert (await again.mount(pod))["s"] == path
    assert len(mount_lines(path)) == 1


async def test_a_sub_path_shows_what_was_opened_and_a_new_one_replaces_it(node: Volumes) -> None:
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPath": "a"}])
    paths = await node.mount(pod)
    [first] = node.mounts(pod, pod.spec.containers[0], paths)
    (paths["e"] / "a" / "file").write_text("seen")
    assert (Path(first.host_path) / "file").read_text() == "seen"
    os.rename(paths["e"] / "a", paths["e"] / "moved")
    [second] = node.mounts(pod, pod.spec.containers[0], paths)
    assert second == first
    assert os.listdir(second.host_path) == []
    assert len(mount_lines(Path(second.host_path))) == 1


async def test_a_folder_swapped_for_a_link_again_and_again_never_shows_the_host(node: Volumes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "host-secret").touch()
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPath": "a/b"}])
    paths = await node.mount(pod)
    stop = threading.Event()

    shown, link = paths["e"] / "a", paths["e"] / "link"
    (shown / "b").mkdir(parents=True)
    (outside / "b").symlink_to("/")
    link.symlink_to(outside)

    def swap() -> None:
        libc = ctypes.CDLL(None)
        while not stop.is_set():
            assert libc.renameat2(AT_FDCWD, os.fsencode(shown), AT_FDCWD, os.fsencode(link), EXCHANGE) == 0

    racer = threading.Thread(target=swap)
    racer.start()
    outcomes = set()
    try:
        for _ in range(300):
            try:
                [mount] = node.mounts(pod, pod.spec.containers[0], paths)
            except VolumeError:
                outcomes.add("refused")
                continue
            outcomes.add("shown")
            entries = os.listdir(mount.host_path)
            assert "host-secret" not in entries
            assert "etc" not in entries
    finally:
        stop.set()
        racer.join()
    assert outcomes == {"refused", "shown"}, "the race was never run"
