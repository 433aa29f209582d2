"""Volumes behind claims on the node: found through the API, waited for, and cleaned up after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes.volume_api import FakeVolumeApi
from fakes.volume_mounter import FakeMounter
from kube import scheme, status, types
from kube.runtime.clock import SystemClock
from nodeagent.volumes import VolumeError, Volumes, persistent, reclaim
from tests.fakes.clock import LoopClock

CLAIM = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
UID = "0a1b2c3d-0000-4000-8000-000000000001"


class Api(FakeVolumeApi):
    """The same, and objects without a namespace."""

    async def get(self, resource: scheme.Resource, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        return await super().get(resource, name, namespace=namespace or "")

    def claim(self, name: str = "c", *, volume: str = "pv", phase: str = "Bound", **metadata: Any) -> None:
        self.put(scheme.PERSISTENT_VOLUME_CLAIMS, name, spec={"volumeName": volume}, status={"phase": phase})
        self.objects["persistentvolumeclaims", "ns", name]["metadata"] |= {"uid": f"u-{name}", **metadata}

    def volume(self, *, claim: str = "c", **source: Any) -> None:
        ref = {"namespace": "ns", "name": claim, "uid": f"u-{claim}"}
        self.put(scheme.PERSISTENT_VOLUMES, "pv", namespace="", spec={"claimRef": ref, **source})


def a_pod(*volumes: dict[str, Any], **spec: Any) -> types.Pod:
    mounts = [{"name": volume["name"], "mountPath": "/" + volume["name"]} for volume in volumes]
    body = {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": list(volumes), **spec}
    return msgspec.convert({"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "spec": body}, types.Pod)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def volumes(tmp_path: Path, api: Api) -> Volumes:
    return Volumes(root=tmp_path / "k", client=api, clock=SystemClock(), mounter=FakeMounter())  # type: ignore[arg-type]


async def test_a_claim_leads_to_the_folder_of_its_volume(tmp_path: Path, api: Api, volumes: Volumes) -> None:
    api.claim()
    api.volume(hostPath={"path": str(tmp_path / "data"), "type": "DirectoryOrCreate"})
    pod = a_pod(CLAIM)
    paths = await volumes.mount(pod)
    assert paths["v"] == tmp_path / "data" and (tmp_path / "data").is_dir()
    [mount] = volumes.mounts(pod, pod.spec.containers[0], paths)
    assert (mount.host_path, mount.readonly) == (str(tmp_path / "data"), False)
    only = a_pod({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}})
    assert volumes.mounts(only, only.spec.containers[0], paths)[0].readonly
    await volumes.unmount("u1")
    assert (tmp_path / "data").is_dir(), "what a claim keeps outlives the pod"


async def test_a_local_volume_must_be_there_and_is_given_to_the_pods_group(
    tmp_path: Path, api: Api, volumes: Volumes
) -> None:
    api.claim()
    api.volume(local={"path": str(tmp_path / "disk")})
    with pytest.raises(VolumeError, match="does not exist"):
        await volumes.mount(a_pod(CLAIM))
    (tmp_path / "disk" / "sub").mkdir(parents=True)
    (tmp_path / "disk" / "sub" / "f").write_text("x")
    await volumes.mount(a_pod(CLAIM, securityContext={"fsGroup": os.getegid()}))
    assert (tmp_path / "disk").stat().st_mode & 0o7777 == 0o2775
    assert (tmp_path / "disk/sub/f").stat().st_mode & 0o660 == 0o660


def test_a_group_is_not_given_again_where_the_top_is_right(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    persistent.give(folder, folder.stat().st_gid, always=False)
    (folder / "f").touch(0o600)
    persistent.give(folder, folder.stat().st_gid, always=False)
    assert (folder / "f").stat().st_mode & 0o777 == 0o600
    persistent.give(folder, folder.stat().st_gid, always=True)
    assert (folder / "f").stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, 'persistentvolumeclaim "c" not found'),
        ({"phase": "Pending"}, "is not bound to a volume yet"),
        ({"volume": "absent"}, 'persistentvolume "absent" not found'),
    ],
)
async def test_a_pod_waits_for_its_claim(api: Api, volumes: Volumes, made: dict[str, Any], said: str) -> None:
    if made:
        api.claim(**made)
    with pytest.raises(VolumeError, match=said):
        await volumes.mount(a_pod(CLAIM))


async def test_a_volume_of_another_claim_is_refused(api: Api, volumes: Volumes) -> None:
    api.claim()
    api.volume(claim="other", hostPath={"path": "/x"})
    with pytest.raises(VolumeError, match='is not bound to claim "c"'):
        await volumes.mount(a_pod(CLAIM))


async def test_kinds_this_node_cannot_mount_are_told(api: Api, volumes: Volumes) -> None:
    api.claim()
    api.volume(nfs={"server": "s", "path": "/"})
    with pytest.raises(VolumeError, match="this kind of volume is not supported"):
        await volumes.mount(a_pod(CLAIM))


async def test_an_ephemeral_volume_takes_only_a_claim_made_for_its_pod(
    tmp_path: Path, api: Api, volumes: Volumes
) -> None:
    pod = a_pod({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}})
    api.claim("p-v")
    with pytest.raises(VolumeError, match="was not created for pod p"):
        await volumes.mount(pod)
    api.claim("p-v", ownerReferences=[{"kind": "Pod", "name": "p", "uid": "u1"}])
    api.volume(claim="p-v", hostPath={"path": str(tmp_path)})
    assert (await volumes.mount(pod))["v"] == tmp_path


async def test_folders_go_with_their_volumes_and_nothing_else_does(tmp_path: Path, api: Api) -> None:
    for name in (f"pvc-{UID}", f"pvc-{UID[:-1]}2", "mine"):
        (tmp_path / name).mkdir()
    api.put(scheme.PERSISTENT_VOLUMES, f"pvc-{UID}", namespace="")
    reclaimer = reclaim.Reclaimer(api, clock=LoopClock(), folder=tmp_path)  # type: ignore[arg-type]
    await reclaimer.look()
    assert set(os.listdir(tmp_path)) == {f"pvc-{UID}", "mine"}
    api.broken = status.unavailable("busy")
    with pytest.raises(status.ApiError):
        await reclaimer.look()
    assert (tmp_path / f"pvc-{UID}").exists()
