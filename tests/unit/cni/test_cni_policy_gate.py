"""Where ADD waits for policies: calls in threads, policies on a loop, and what a restart finds on disk."""

import asyncio
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni import errors
from cni.attachment import Attachment, Bridge
from cni.policy.attached import Attached, Attachments
from cni.policy.controller import Policies
from cni.policy.gate import PolicyGate
from cni.spec import Environment
from fakes.apiserver import FakeApiServer
from fakes.policy_rules import FakeRules
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock

ADDRESS = "10.244.0.2"
ATTACHMENT = Attachment(
    host_name="veth1",
    pod_name="eth0",
    pod_mac="0a:58:0a:f4:00:02",
    mtu=1500,
    hairpin=True,
    bridge=Bridge(name="cni0", mac="", mtu=1500, gateways=()),
    addresses=(ip_interface(f"{ADDRESS}/24"),),
    routes=(),
)


def environment(*, command: str = "ADD", pod: str = "web") -> Environment:
    arguments = {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": pod, "K8S_POD_UID": "u1"} if pod else {}
    return Environment(command=command, container_id="sandbox1", netns="/run/netns/a", ifname="eth0", args=arguments)


class World:
    """A gate over policies that watch a scripted API server."""

    def __init__(self, folder: Path) -> None:
        self.server, self.rules, self.folder = FakeApiServer(), FakeRules(), folder / "attached"
        clock = SystemClock()
        self.informers = Informers(self.server.client(), clock=clock)
        self.policies = Policies(self.rules, informers=self.informers, node_name="n1", clock=clock)
        self.gate = PolicyGate(self.policies, Attachments(self.folder))

    async def __aenter__(self) -> "World":
        self.gate.open(sandboxes=[])
        self._group = await asyncio.TaskGroup().__aenter__()
        self._tasks = [self._group.create_task(part.run()) for part in (self.informers, self.policies)]
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    async def attach(self, **more: Any) -> None:
        await asyncio.to_thread(self.gate.attached, environment(**more), ATTACHMENT)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_pod_without_policies_passes_and_is_remembered_until_del(world: World) -> None:
    async with world:
        await world.attach()
        assert [path.name for path in world.folder.iterdir()] == ["sandbox1"]
        await asyncio.to_thread(world.gate.detached, environment(command="DEL"))
        assert list(world.folder.iterdir()) == []


async def test_a_sandbox_of_another_runtime_has_no_policies(world: World) -> None:
    world.gate.attached(environment(pod=""), ATTACHMENT)
    assert not world.folder.exists()


async def test_before_the_policies_run_the_runtime_is_to_try_again(world: World) -> None:
    with pytest.raises(errors.CniError) as caught:
        world.gate.attached(environment(), ATTACHMENT)
    assert caught.value.code == errors.TRY_AGAIN_LATER


async def test_a_pod_whose_rules_do_not_come_is_to_be_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni.policy.controller.ADMISSION_SECONDS", 0.2)
    spec = {"podSelector": {}}
    world.server.put(scheme.NETWORK_POLICIES, {"metadata": {"namespace": "default", "name": "p"}, "spec": spec})
    async with world:
        with pytest.raises(errors.CniError) as caught:
            await world.attach()
        assert caught.value.code == errors.TRY_AGAIN_LATER
        assert "default/web" in caught.value.details
        assert list(world.folder.iterdir()) == []


def test_records_outlive_the_process_for_sandboxes_that_do(tmp_path: Path) -> None:
    kept = Attached(sandbox="a", key="default/web", uid="u1", addresses=(ADDRESS, "fd00::2"))
    for each in (kept, Attached(sandbox="b", key="default/gone", uid="u2", addresses=("10.244.0.3",))):
        Attachments(tmp_path).put(each)
    (tmp_path / "c").write_text("no json")
    assert Attachments(tmp_path).load(sandboxes=["a", "c"]) == [kept]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_a_folder_there_are_no_records(tmp_path: Path) -> None:
    assert Attachments(tmp_path / "none").load(sandboxes=["a"]) == []
