"""The node's part in the pod network against a scripted API server, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.config import CNIConfiguration
from cni.network import Network
from cni.overlay.plan import Change, Route
from cni.overlay.watch import Concern
from fakes.apiserver import FakeApiServer
from fakes.fabric import FakeFabric
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.types import Node

pytestmark = pytest.mark.looptime


class World:
    """Node `a` in a cluster."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.server, self.fabric = FakeApiServer(), FakeFabric()
        self.rules: list[str] = []
        self.reports = 0
        self.mended = 0
        self.accepted: list[str] = []
        self.notes: list[Mapping[str, str | None]] = []
        self.config = CNIConfiguration(conf_dir=str(folder), **config)
        clock = SystemClock()
        self.informers = Informers(self.server.client(), clock=clock)
        self.network = Network(
            self.config,
            node_name="a",
            node_ip="192.0.2.1",
            nodes=self.informers.get(scheme.NODES, Node),
            fabric=self.fabric,
            apply_rules=self._apply,
            annotate=self._annotate,
            accept_forwarding=self._accept,
            mend_bridge=self._mend,
            report=self._report,
        )

    async def _apply(self, text: str) -> None:
        self.rules.append(text)

    async def _accept(self, cidrs: Sequence[str]) -> None:
        self.accepted = list(cidrs)

    async def _mend(self) -> None:
        self.mended += 1

    async def _report(self) -> None:
        self.reports += 1

    async def _annotate(self, notes: Mapping[str, str | None]) -> None:
        self.notes.append(notes)

    def node(self, name: str, cidr: str, address: str, notes: Mapping[str, str] | None = None) -> None:
        spec = {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}
        addresses = [{"type": "InternalIP", "address": address}]
        self.server.put(
            scheme.NODES,
            {"metadata": {"name": name, "annotations": notes or {}}, "spec": spec, "status": {"addresses": addresses}},
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.informers.run()), group.create_task(self.network.run())]
            await asyncio.sleep(5)
            yield
            for task in tasks:
                task.cancel()


async def test_the_runtime_gets_its_configuration_once_the_range_is_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "", "192.0.2.1")
    async with world.running():
        assert not world.config.conflist.exists()
        assert "podCIDR" in (world.network.ready() or "")
        world.node("a", "10.244.0.0/24", "192.0.2.1")
        await asyncio.sleep(2)
        plugin = json.loads(world.config.conflist.read_text())["plugins"][0]
        assert plugin["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}]]
        assert plugin["mtu"] == 1400
        assert world.config.conflist.stat().st_mode & 0o777 == 0o600
        assert world.network.ready() is None
        assert world.reports == 1
        assert world.accepted == ["10.244.0.0/24"]


async def test_routes_follow_nodes_that_come_move_and_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "192.0.2.2")
    async with world.running():
        assert world.fabric.table() == {"10.244.1.0/24": "192.0.2.2"}
        world.node("c", "10.244.2.0/24", "192.0.2.3")
        await asyncio.sleep(2)
        assert world.fabric.table() == {"10.244.1.0/24": "192.0.2.2", "10.244.2.0/24": "192.0.2.3"}
        world.node("b", "10.244.1.0/24", "192.0.2.9")
        await asyncio.sleep(2)
        assert world.fabric.table()["10.244.1.0/24"] == "192.0.2.9"
        world.server.remove(scheme.NODES, "c")
        await asyncio.sleep(2)
        assert world.fabric.table() == {"10.244.1.0/24": "192.0.2.9"}


async def test_a_range_that_passes_to_another_node_keeps_a_route(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "192.0.2.2")
    async with world.running():
        world.node("c", "10.244.1.0/24", "192.0.2.3")
        world.server.remove(scheme.NODES, "b")
        await asyncio.sleep(2)
        assert world.fabric.table() == {"10.244.1.0/24": "192.0.2.3"}


async def test_routes_left_from_before_are_removed_at_the_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.fabric.apply(Change(add=(Route(ip_network("10.244.9.0/24"), ip_address("192.0.2.9")),)))
    async with world.running():
        assert world.fabric.table() == {}


async def test_a_heartbeat_of_a_node_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "192.0.2.2")
    async with world.running():
        before = (world.fabric.writes, len(world.rules))
        world.node("b", "10.244.1.0/24", "192.0.2.2")
        await asyncio.sleep(2)
        assert (world.fabric.writes, len(world.rules)) == before


async def test_a_route_that_the_kernel_refused_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        world.fabric.failures = 2
        world.node("b", "10.244.1.0/24", "192.0.2.2")
        await asyncio.sleep(30)
        assert world.fabric.table() == {"10.244.1.0/24": "192.0.2.2"}


FAR = {
    "flannel.alpha.coreos.com/backend-type": "vxlan",
    "flannel.alpha.coreos.com/backend-data": '{"VNI":1,"VtepMAC":"0a:58:0a:f4:01:00"}',
    "flannel.alpha.coreos.com/public-ip": "198.51.100.2",
}


def mtu(world: World) -> int:
    return int(json.loads(world.config.conflist.read_text())["plugins"][0]["mtu"])


async def test_a_node_behind_a_router_is_reached_by_vxlan_and_pods_leave_room_for_its_headers(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        assert mtu(world) == 1400
        world.node("b", "10.244.1.0/24", "198.51.100.2", FAR)
        await asyncio.sleep(2)
        assert world.fabric.table() == {"10.244.1.0/24": "10.244.1.0"}
        assert len(world.fabric.present) == 3
        assert mtu(world) == 1350
        world.server.remove(scheme.NODES, "b")
        await asyncio.sleep(2)
        assert world.fabric.present == {}
        assert mtu(world) == 1400


async def test_the_node_tells_the_others_how_it_is_reached(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        notes = world.notes[-1]
        assert notes["flannel.alpha.coreos.com/public-ip"] == "192.0.2.1"
        assert notes["flannel.alpha.coreos.com/backend-type"] == "vxlan"
        data = json.loads(notes["flannel.alpha.coreos.com/backend-data"] or "")
        assert data == {"VNI": 1, "VtepMAC": "0a:58:0a:f4:00:00"}
        assert notes["flannel.alpha.coreos.com/kube-subnet-manager"] == "true"


async def test_annotations_that_are_right_are_not_written_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        written = {key: value for key, value in world.notes[-1].items() if value is not None}
        count = len(world.notes)
        world.node("a", "10.244.0.0/24", "192.0.2.1", written)
        await asyncio.sleep(2)
        assert len(world.notes) == count


async def test_entries_that_somebody_flushed_come_back_when_the_kernel_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "198.51.100.2", FAR)
    async with world.running():
        world.fabric.present.clear()
        world.network.recheck(Concern.OVERLAY)
        await asyncio.sleep(0.5)
        assert len(world.fabric.present) == 3


async def test_without_vxlan_nodes_on_the_link_are_still_reached(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fabric.without_vxlan = True
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "198.51.100.2", FAR)
    world.node("c", "10.244.2.0/24", "192.0.2.3")
    async with world.running():
        assert world.fabric.table() == {"10.244.2.0/24": "192.0.2.3"}
        assert world.notes[-1]["flannel.alpha.coreos.com/backend-type"] == "host-gw"
        assert world.mended
        assert world.notes[-1]["flannel.alpha.coreos.com/backend-data"] is None


async def test_a_new_address_of_the_own_node_moves_the_vxlan_device(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        world.node("a", "10.244.0.0/24", "192.0.2.77")
        await asyncio.sleep(2)
        assert str(world.fabric.devices["nodeagent.1"].local) == "192.0.2.77"


async def test_masquerading_that_somebody_removed_comes_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        assert len(world.rules) == 1
        await world.network.rules_gone()
        assert world.network.ready() is None
        await asyncio.sleep(1)
        assert world.rules == [world.rules[0]] * 2


async def test_what_another_cni_left_before_ours_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("05-left.conflist", "10-flannel.conflist", "99-later.conf", "00-notes.txt"):
        (tmp_path / name).write_text("{}")
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        world.network.recheck_own()
        await asyncio.sleep(1)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert "05-left.conflist, 10-flannel.conflist before ours" in told[0]
