"""Volumes of pods on a real file system, with a fake mounter and a fake API."""

from __future__ import annotations

import asyncio
import base64
import datetime
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes.volume_api import FakeVolumeApi
from fakes.volume_mounter import FakeMounter
from kube import scheme, status, types
from kube.client.watch import WatchEvent
from kube.runtime.clock import SystemClock
from nodeagent.volumes import VolumeError, Volumes


class Node:
    """The volumes of one node, running."""

    def __init__(self, root: Path) -> None:
        self.root, self.api, self.mounter, self.clock = root, FakeVolumeApi(), FakeMounter(), TurnedClock()
        self.api.now = self.clock.now
        self.volumes = self.restarted()

    def restarted(self) -> Volumes:
        return Volumes(root=self.root, client=self.api, clock=self.clock, mounter=self.mounter)  # type: ignore[arg-type]


class TurnedClock(SystemClock):
    """The wall clock, moved on at will."""

    offset = datetime.timedelta()

    def now(self) -> datetime.datetime:
        return super().now() + self.offset

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.volumes.run())
        yield made
        task.cancel()


def a_pod(
    *volumes: dict[str, Any], uid: str = "u1", mounts: Any = (), security: Any = None, **metadata: Any
) -> types.Pod:
    container = {"name": "c", "volumeMounts": list(mounts)}
    spec = {"containers": [container], "volumes": list(volumes), "securityContext": security or {}}
    meta = {"name": "p", "namespace": "ns", "uid": uid, **metadata}
    return msgspec.convert({"metadata": meta, "spec": spec}, types.Pod)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 (the effect is on files: nothing else tells)
            await asyncio.sleep(0.01)


async def test_a_config_map_becomes_files_through_the_data_link(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"}, binaryData={"raw": base64.b64encode(b"\xff").decode()})
    paths = await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}}))
    path = paths["v"]
    assert path == node.root / "pods/u1/volumes/kubernetes.io~configmap/v"
    assert (path / "a").read_text() == "1"
    assert (path / "raw").read_bytes() == b"\xff"
    assert os.readlink(path / "a") == "..data/a"
    assert mode(path / "a") == 0o644
    assert node.mounter.mounted == []


async def test_a_secret_lies_in_memory(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("hidden")})
    volume = {"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400}}
    path = (await node.volumes.mount(a_pod(volume)))["v"]
    assert (path / "k").read_text() == "hidden"
    assert mode(path / "k") == 0o400
    assert node.mounter.mounted == [path]


async def test_chosen_keys_get_their_paths_and_modes(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1", "b": "2", "c": "3"})
    items = [{"key": "a", "path": "deep/er/a"}, {"key": "b", "path": "b", "mode": 0o600}]
    path = (
        await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m", "items": items, "defaultMode": 0o640}}))
    )["v"]
    assert (path / "deep/er/a").read_text() == "1"
    assert (mode(path / "deep/er/a"), mode(path / "b")) == (0o640, 0o600)
    assert not (path / "c").exists()


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "x"}}, 'MountVolume.SetUp failed for volume "v" : configmap "x" not found'),
        ({"secret": {"secretName": "x"}}, 'MountVolume.SetUp failed for volume "v" : secret "x" not found'),
        (
            {"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}},
            "configmap references non-existent config key: z",
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}},
            "references non-existent secret key: z",
        ),
        ({"configMap": {"name": "m", "items": [{"key": "a", "path": "../z"}]}}, "must not contain '..'"),
        ({"configMap": {"name": "m", "items": [{"key": "a", "path": "/z"}]}}, "must be relative"),
        (
            {"hostPath": {"path": "/proc/none", "type": "Directory"}},
            "hostPath type check failed: /proc/none: No such file",
        ),
        ({"hostPath": {"path": "/proc/self", "type": "File"}}, "hostPath type check failed: /proc/self is not a file"),
        ({"hostPath": {"path": "/a/../etc"}}, "must not contain '..'"),
        ({"emptyDir": {"medium": "HugePages"}}, "medium HugePages is not supported"),
        ({"nfs": {"server": "s", "path": "/"}}, "kind of volume is not supported"),
        (
            {"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "spec.x"}}]}},
            "unsupported fieldPath: spec.x",
        ),
    ],
)
async def test_what_cannot_be_mounted_is_named(node: Node, volume: dict[str, Any], message: str) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    node.api.put(scheme.SECRETS, "s", data={})
    with pytest.raises(VolumeError) as caught:
        await node.volumes.mount(a_pod({"name": "v", **volume}))
    assert message in caught.value.message
    assert caught.value.reason == "FailedMount"


async def test_optional_objects_and_keys_may_be_missing(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")})
    paths = await node.volumes.mount(
        a_pod(
            {"name": "a", "configMap": {"name": "none", "optional": True}},
            {"name": "b", "secret": {"secretName": "s", "optional": True, "items": [{"key": "z", "path": "z"}]}},
        )
    )
    assert [e.name for e in paths["a"].iterdir() if not e.name.startswith("..")] == []
    assert [e.name for e in paths["b"].iterdir() if not e.name.startswith("..")] == []


async def test_a_change_reaches_the_files_in_one_swap_and_removed_keys_vanish(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1", "old": "x"})
    path = (await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}})))["v"]
    await eventually(lambda: len(node.api.watches) == 1)
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "2", "new": "y"})
    await eventually(lambda: (path / "a").read_text() == "2" and not (path / "old").is_symlink())
    assert (path / "new").read_text() == "y"
    assert len([e for e in path.iterdir() if e.name.startswith("..2")]) == 1


async def test_an_optional_object_appears_when_it_is_made(node: Node) -> None:
    path = (await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m", "optional": True}})))["v"]
    await eventually(lambda: len(node.api.watches) == 1)
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    await eventually(lambda: (path / "a").exists())


async def test_a_deleted_object_leaves_the_files_as_they_are(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    path = (await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}})))["v"]
    await eventually(lambda: len(node.api.watches) == 1)
    node.api.drop(scheme.CONFIG_MAPS, "m")
    await asyncio.sleep(0.05)
    assert (path / "a").read_text() == "1"


async def test_nonsense_on_a_watch_ends_neither_it_nor_the_others(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    path = (await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}})))["v"]
    await eventually(lambda: len(node.api.watches) == 1)
    node.api.watches[0][1].put_nowait(WatchEvent("MODIFIED", msgspec.Raw(b"{}")))
    await eventually(lambda: node.api.watches == [])
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "2"})
    await eventually(lambda: (path / "a").read_text() == "2")


async def test_one_object_is_watched_once_for_all_pods_and_no_more_after_the_last(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    for uid in ("u1", "u2"):
        await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}}, uid=uid))
    await eventually(lambda: len(node.api.watches) == 1)
    await node.volumes.unmount("u1")
    await asyncio.sleep(0.02)
    assert len(node.api.watches) == 1
    await node.volumes.unmount("u2")
    await eventually(lambda: node.api.watches == [])
    assert node.api.requests.count("get configmaps ns/m") == 1


async def test_an_immutable_object_is_not_watched(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")}, immutable=True)
    await node.volumes.mount(a_pod({"name": "v", "secret": {"secretName": "s"}}))
    await asyncio.sleep(0.02)
    assert node.api.requests == ["get secrets ns/s"]


async def test_mounting_again_costs_no_request_and_changes_nothing(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"}, immutable=True)
    pod = a_pod({"name": "v", "configMap": {"name": "m"}}, {"name": "e", "emptyDir": {}})
    first = await node.volumes.mount(pod)
    before = os.readlink(first["v"] / "..data")
    assert await node.volumes.mount(pod) == first
    assert os.readlink(first["v"] / "..data") == before
    assert len(node.api.requests) == 1


async def test_the_agent_finds_its_volumes_again_after_a_restart(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")})
    pod = a_pod(
        {"name": "v", "secret": {"secretName": "s"}},
        {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    )
    first = await node.volumes.mount(pod)
    (first["e"] / "kept").write_text("by the container")
    first["e"].chmod(0o700)
    before = os.readlink(first["v"] / "..data")
    assert await node.restarted().mount(pod) == first
    assert os.readlink(first["v"] / "..data") == before
    assert (first["e"] / "kept").read_text() == "by the container"
    assert mode(first["e"]) == 0o700
    assert sorted(node.mounter.mounted) == sorted(first.values())
    assert node.mounter.sizes[first["e"]] == 1 << 20


async def test_an_empty_dir_is_open_to_all_and_belongs_to_the_fs_group(node: Node) -> None:
    group = os.getgid()
    paths = await node.volumes.mount(a_pod({"name": "e", "emptyDir": {}}))
    assert mode(paths["e"]) == 0o777
    paths = await node.volumes.mount(a_pod({"name": "e", "emptyDir": {}}, uid="u2", security={"fsGroup": group}))
    assert mode(paths["e"]) == 0o2777
    assert paths["e"].stat().st_gid == group
    paths = await node.volumes.mount(a_pod({"name": "e", "emptyDir": {"medium": "Memory"}}, uid="u3"))
    assert mode(paths["e"]) == 0o1777, "as any tmpfs: nobody removes what is another's"


async def test_the_fs_group_may_read_generated_files(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")})
    volume = {"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400}}
    path = (await node.volumes.mount(a_pod(volume, security={"fsGroup": os.getgid()})))["v"]
    assert mode(path / "k") == 0o440
    assert mode(path) & 0o2000


PROJECTED = {
    "name": "v",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            {"secret": {"name": "s"}},
        ]
    },
}


async def test_the_service_account_volume_has_token_ca_and_namespace(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "kube-root-ca.crt", data={"ca.crt": "PEM"})
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")})
    path = (await node.volumes.mount(a_pod(PROJECTED)))["v"]
    contents = {name: (path / name).read_text() for name in ("token", "ca.crt", "namespace", "k")}
    assert contents == {"token": "token-1", "ca.crt": "PEM", "namespace": "ns", "k": "v"}
    assert node.mounter.mounted == [path]
    spec = node.api.last_token_request["spec"]
    assert spec == {
        "expirationSeconds": 3607,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"},
    }


async def test_a_token_is_renewed_at_four_fifths_of_its_life(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "kube-root-ca.crt", data={"ca.crt": "PEM"})
    node.api.put(scheme.SECRETS, "s", data={})
    path = (await node.volumes.mount(a_pod(PROJECTED)))["v"]
    node.clock.offset = datetime.timedelta(seconds=0.79 * 3600 - 11)
    node.volumes._wake.set()
    await asyncio.sleep(0.05)
    assert (path / "token").read_text() == "token-1"
    node.clock.offset = datetime.timedelta(seconds=0.8 * 3600 + 1)
    node.volumes._wake.set()
    await eventually(lambda: (path / "token").read_text() == "token-2")


async def test_a_token_that_cannot_be_renewed_is_kept_while_it_is_valid(node: Node) -> None:
    source = {"serviceAccountToken": {"path": "token", "audience": "vault"}}
    pod = a_pod({"name": "v", "projected": {"sources": [source]}})
    path = (await node.volumes.mount(pod))["v"]
    assert node.api.last_token_request["spec"]["audiences"] == ["vault"]
    node.api.broken = status.unavailable("down")
    node.clock.offset = datetime.timedelta(seconds=0.9 * 3600)
    await node.volumes.mount(a_pod({"name": "v", "projected": {"sources": [source]}}, labels={"changed": "1"}))
    assert (path / "token").read_text() == "token-1"
    with pytest.raises(VolumeError, match="failed to fetch token: "):
        await node.volumes.mount(a_pod({"name": "v", "projected": {"sources": [source]}}, uid="u2"))


async def test_changed_labels_reach_the_downward_api_file(node: Node) -> None:
    volume = {"name": "v", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
    path = (await node.volumes.mount(a_pod(volume, labels={"a": "1"})))["v"]
    assert (path / "labels").read_text() == 'a="1"'
    await node.volumes.mount(a_pod(volume, labels={"a": "2"}))
    assert (path / "labels").read_text() == 'a="2"'


@pytest.mark.parametrize(("kind", "check"), [("DirectoryOrCreate", Path.is_dir), ("FileOrCreate", Path.is_file)])
async def test_a_host_path_is_made_when_its_type_says_so(
    node: Node, tmp_path: Path, kind: str, check: Callable[[Path], bool]
) -> None:
    wanted = tmp_path / "made"
    paths = await node.volumes.mount(a_pod({"name": "h", "hostPath": {"path": str(wanted), "type": kind}}))
    assert paths == {"h": wanted}
    assert check(wanted)


async def test_mounts_of_a_container(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    pod = a_pod(
        {"name": "m", "configMap": {"name": "m"}},
        {"name": "h", "hostPath": {"path": "/srv"}},
        mounts=[
            {"name": "m", "mountPath": "/etc/m"},
            {"name": "h", "mountPath": "/srv", "readOnly": True, "mountPropagation": "HostToContainer"},
        ],
    )
    paths = await node.volumes.mount(pod)
    config, host = node.volumes.mounts(pod, pod.spec.containers[0], paths)
    assert (config.host_path, config.container_path, config.readonly, config.propagation) == (
        str(paths["m"]),
        "/etc/m",
        True,
        "private",
    )
    assert (host.host_path, host.readonly, host.propagation) == ("/srv", True, "host_to_container")


async def test_a_mount_of_a_volume_the_pod_does_not_have_is_refused(node: Node) -> None:
    pod = a_pod(mounts=[{"name": "ghost", "mountPath": "/x"}])
    with pytest.raises(VolumeError, match='mounts volume "ghost"'):
        node.volumes.mounts(pod, pod.spec.containers[0], await node.volumes.mount(pod))


async def test_a_sub_path_is_made_and_shown_at_a_path_of_its_own(node: Node) -> None:
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPathExpr": "a/$(WHO)"}])
    paths = await node.volumes.mount(pod)
    [mount] = node.volumes.mounts(pod, pod.spec.containers[0], paths, env=[("WHO", "me")])
    assert mount.host_path == str(node.root / "pods/u1/volume-subpaths/e/c/0")
    assert (paths["e"] / "a/me").is_dir()
    node.volumes.mounts(pod, pod.spec.containers[0], paths, env=[("WHO", "me")])
    assert [str(point) for point in node.mounter.mounted] == [mount.host_path]


async def test_a_sub_path_that_is_made_has_its_volumes_mode_with_the_group_bit(node: Node) -> None:
    """[sig-storage] EmptyDir volumes when FSGroup is specified: nonexistent volume subPath should have the correct mode
    and owner using FSGroup [NodeConformance]."""
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPath": "a/b"}])
    paths = await node.volumes.mount(pod)
    paths["e"].chmod(0o3775)
    node.volumes.mounts(pod, pod.spec.containers[0], paths)
    made = (paths["e"] / "a", paths["e"] / "a/b")
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o3775, 0o3775]


async def test_a_variable_of_a_sub_path_must_exist(node: Node) -> None:
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPathExpr": "$(WHO)"}])
    paths = await node.volumes.mount(pod)
    with pytest.raises(VolumeError, match='missing value for "WHO"'):
        node.volumes.mounts(pod, pod.spec.containers[0], paths)


async def test_a_sub_path_of_a_config_map_is_the_file_itself(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    pod = a_pod({"name": "m", "configMap": {"name": "m"}}, mounts=[{"name": "m", "mountPath": "/x", "subPath": "a"}])
    [mount] = node.volumes.mounts(pod, pod.spec.containers[0], await node.volumes.mount(pod))
    assert open(mount.host_path).read() == "1"  # noqa: ASYNC230, SIM115


@pytest.mark.parametrize("sub", ["link", "link/deeper", "inner/link2", "../up", "/etc"])
async def test_a_sub_path_never_leaves_its_volume(node: Node, tmp_path: Path, sub: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPath": sub}])
    paths = await node.volumes.mount(pod)
    (paths["e"] / "link").symlink_to(outside)
    (paths["e"] / "inner").mkdir()
    (paths["e"] / "inner/link2").symlink_to("../../../../../../../outside")
    with pytest.raises(VolumeError, match=r"out of its volume|must not contain"):
        node.volumes.mounts(pod, pod.spec.containers[0], paths)
    assert list(outside.iterdir()) == []


async def test_a_link_inside_the_volume_may_be_followed(node: Node) -> None:
    pod = a_pod({"name": "e", "emptyDir": {}}, mounts=[{"name": "e", "mountPath": "/x", "subPath": "link/new"}])
    paths = await node.volumes.mount(pod)
    (paths["e"] / "real").mkdir()
    (paths["e"] / "link").symlink_to("real")
    node.volumes.mounts(pod, pod.spec.containers[0], paths)
    assert (paths["e"] / "real/new").is_dir()


async def test_unmounting_removes_everything_and_may_be_repeated(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")})
    pod = a_pod(
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "e", "emptyDir": {}},
        mounts=[{"name": "e", "mountPath": "/x", "subPath": "a"}],
    )
    node.volumes.mounts(pod, pod.spec.containers[0], await node.volumes.mount(pod))
    assert node.volumes.leftovers([]) == set()
    await node.volumes.unmount("u1")
    await node.volumes.unmount("u1")
    assert node.mounter.mounted == []
    assert list((node.root / "pods/u1").iterdir()) == []


async def test_a_restarted_agent_cleans_what_an_earlier_one_left(node: Node) -> None:
    node.api.put(scheme.SECRETS, "s", data={"k": b64("v")})
    await node.volumes.mount(a_pod({"name": "s", "secret": {"secretName": "s"}}))
    later = node.restarted()
    assert later.leftovers([]) == {"u1"}
    assert later.leftovers(["u1"]) == set()
    await later.unmount("u1")
    assert node.mounter.mounted == []


async def test_what_an_environment_needs_is_read(node: Node) -> None:
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "a"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "a"}}},
    ]
    container = msgspec.convert({"name": "c", "env": env}, types.Container)
    maps, secrets = await node.volumes.environment_sources(a_pod(), container)
    assert (maps, secrets) == ({"m": {"a": b"1"}}, {})


async def test_a_server_that_does_not_answer_fails_the_mount_with_its_words(node: Node) -> None:
    node.api.broken = status.forbidden("no relationship found")
    with pytest.raises(VolumeError, match=r"cannot read configmap ns/m: .*no relationship found"):
        await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}}))
    node.api.broken = None
    node.api.put(scheme.CONFIG_MAPS, "m", data={"a": "1"})
    paths = await node.volumes.mount(a_pod({"name": "v", "configMap": {"name": "m"}}))
    assert (paths["v"] / "a").read_text() == "1"


async def test_a_cancelled_mount_has_ended_its_file_work_before_an_unmount_begins(node: Node) -> None:
    begun, slow = asyncio.Event(), node.volumes._folders.prepare
    loop = asyncio.get_running_loop()

    def prepare(*arguments: Any, **named: Any) -> Path:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.1)
        return slow(*arguments, **named)

    node.volumes._folders.prepare = prepare
    async with asyncio.TaskGroup() as group:
        task = group.create_task(node.volumes.mount(a_pod({"name": "e", "emptyDir": {"medium": "Memory"}})))
        await begun.wait()
        task.cancel()
    await node.volumes.unmount("u1")
    assert node.mounter.mounted == []
    assert list((node.root / "pods/u1").iterdir()) == []
