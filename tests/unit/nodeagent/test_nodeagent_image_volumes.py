"""Images as volumes: by the runtime where it can, mounted by the agent where it cannot."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nodeagent_given import IMAGE
from nodeagent_node import Node, eventually, sleeping

from nodeagent.images import mounts
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with Node(tmp_path, FakeApiServer(), FakeRuntime(now=time.time_ns)).alive() as found:
        yield found


VOLUME = {"name": "art", "image": {"reference": IMAGE}}
SHOWN = {"name": "art", "mountPath": "/art"}


async def test_an_image_is_a_volume_mounted_here_where_the_runtime_cannot(node: Node) -> None:
    node.put(sleeping(volumeMounts=[SHOWN]), volumes=[VOLUME])
    await eventually(node.ready)
    [config] = node.runtime.configs.values()
    [mount] = [m for m in config.mounts if m.container_path == "/art"]
    assert mount.readonly and not mount.HasField("image")
    assert (Path(mount.host_path) / "image").read_text() == "sha256:bb"
    assert node.image_store.mounted == [Path(mount.host_path)]
    node.delete()
    await eventually(lambda: not node.pool.workers)
    assert node.image_store.mounted == []
    assert not os.path.exists(mount.host_path)  # noqa: ASYNC240 - a look at the disk of the test


async def test_an_image_is_a_volume_mounted_by_a_runtime_that_can(node: Node) -> None:
    node.runtime.name, node.runtime.version = "containerd", "v2.1.4"
    node.put(sleeping(volumeMounts=[{**SHOWN, "subPath": "bin"}]), volumes=[VOLUME])
    await eventually(node.ready)
    [config] = node.runtime.configs.values()
    [mount] = [m for m in config.mounts if m.container_path == "/art"]
    assert (mount.image.image, mount.image_sub_path, mount.host_path) == ("sha256:bb", "bin", "")


async def test_an_image_that_is_a_volume_and_missing_is_told_like_any_other(node: Node) -> None:
    absent = {"name": "art", "image": {"reference": "nodeagent.local/absent:1"}}
    node.put(sleeping(volumeMounts=[SHOWN]), volumes=[absent])
    await eventually(lambda: node.waiting() == "ErrImagePull")


@pytest.mark.parametrize(
    ("name", "version", "can"),
    [
        ("containerd", "1.6.20~ds1", False),
        ("containerd", "v2.0.5", False),
        ("containerd", "2.1.0", True),
        ("cri-o", "1.33.1", True),
        ("other", "9.9", False),
        ("containerd", "unknown", False),
    ],
)
def test_which_runtimes_mount_images_themselves(name: str, version: str, can: bool) -> None:
    assert mounts.mounts_images(name, version) is can
