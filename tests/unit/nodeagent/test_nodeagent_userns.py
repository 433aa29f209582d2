"""Pods with users of their own: which ids they get, that they keep them, and what the runtime is told."""

import json
import time
from pathlib import Path

import pytest
from nodeagent_given import UID, container, pod
from nodeagent_node import Node, eventually, sleeping

from nodeagent.cri import convert
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.node import object as nodes
from nodeagent.pods import admit, userns
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime


def test_each_pod_gets_a_block_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    blocks = userns.UserNamespaces(tmp_path)
    assert [blocks.first_id("a"), blocks.first_id("b"), blocks.first_id("a")] == [65536, 131072, 65536]
    assert userns.UserNamespaces(tmp_path).first_id("b") == 131072, "another agent finds it again"
    text = json.loads((tmp_path / "pods" / "a" / "userns").read_text())
    assert text["uidMappings"] == text["gidMappings"] == [{"hostId": 65536, "containerId": 0, "length": 65536}]


def test_a_block_is_free_again_when_its_pod_is_gone(tmp_path: Path) -> None:
    blocks = userns.UserNamespaces(tmp_path)
    blocks.first_id("a")
    blocks.first_id("b")
    (tmp_path / "pods" / "a" / "userns").unlink()
    blocks.forget("a")
    assert blocks.first_id("c") == 65536


def test_a_node_without_a_free_block_says_so() -> None:
    with pytest.raises(userns.NoIdsLeftError, match="no range of user ids"):
        userns.free(range(userns.LENGTH, 1 << 32, userns.LENGTH))


def test_a_pod_that_does_not_ask_has_the_nodes_users(tmp_path: Path) -> None:
    assert userns.UserNamespaces(tmp_path).of(pod()) == 0 and not (tmp_path / "pods").exists()


def test_a_runtime_that_cannot_is_no_place_for_such_a_pod() -> None:
    wants = pod(container(), hostUsers=False)
    node = admit.Node(name="n", labels={}, allocatable={"pods": "9"})
    end = admit.reject(wants, others=[], node=node)
    assert end is not None and "user namespaces are not supported" in end.message
    able = admit.Node(name="n", labels={}, allocatable={"pods": "9"}, user_namespaces=True)
    assert admit.reject(wants, others=[], node=able) is None


def test_the_node_tells_what_its_runtime_can() -> None:
    features = cri.RuntimeHandlerFeatures(user_namespaces=True, recursive_read_only_mounts=True)
    status = cri.StatusResponse(runtime_handlers=[cri.RuntimeHandler(name="runc", features=features)])
    info = convert.info(cri.VersionResponse(runtime_name="containerd"), status, None)
    assert nodes.handlers(info)["runtimeHandlers"] == [
        {"name": "runc", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": True}}
    ]
    assert nodes.handlers(convert.info(cri.VersionResponse(), cri.StatusResponse(), None)) == {}


async def test_sandbox_container_and_mounts_are_told_of_the_ids(tmp_path: Path) -> None:
    runtime = FakeRuntime(now=time.time_ns)
    node = Node(tmp_path, FakeApiServer(), runtime, user_namespaces=True)
    async with node.alive():
        node.put(sleeping(), hostUsers=False)
        await eventually(node.ready)
        [config] = runtime.configs.values()
        options = config.linux.security_context.namespace_options.userns_options
        assert options.mode == cri.POD and options.uids[0].host_id == options.gids[0].host_id == 65536
        assert {mount.uidMappings[0].host_id for mount in config.mounts} == {65536}
        assert (tmp_path / "k" / "pods" / UID / "userns").exists()
        node.delete()
        await eventually(lambda: not node.pool.workers)
