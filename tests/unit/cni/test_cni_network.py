"""The node's part in the pod network against a scripted API server, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from cni import netlink
from cni.config import CNIConfiguration
from cni.network import Network
from cni.overlay.plan import Change, Route
from fakes.apiserver import FakeApiServer
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.types import Node

pytestmark = pytest.mark.looptime


class FakeRoutes:
    """`cni.overlay.routes.Routes` in memory; fails on order."""

    def __init__(self) -> None:
        self.present: dict[str, Route] = {}
        self.failures = 0
        self.writes = 0

    def observe(self) -> frozenset[Route]:
        return frozenset(self.present.values())

    def apply(self, change: Change) -> None:
        if self.failures:
            self.failures -= 1
            raise netlink.NetlinkError(101, "add a route")
        self.writes += 1
        for route in change.remove:
            del self.present[str(route.destination)]
        for route in change.add:
            self.present[str(route.destination)] = route

    def table(self) -> dict[str, str]:
        return {destination: str(route.gateway) for destination, route in self.present.items()}


class World:
    """Node `a` in a cluster."""

    def __init__(self, folder: Path) -> None:
        self.server, self.routes = FakeApiServer(), FakeRoutes()
        self.rules: list[str] = []
        self.reports = 0
        self.config = CNIConfiguration(conf_dir=str(folder))
        clock = SystemClock()
        self.informers = Informers(self.server.client(), clock=clock)
        self.network = Network(
            self.config,
            node_name="a",
            nodes=self.informers.get(scheme.NODES, Node),
            routes=self.routes,
            apply_rules=self._apply,
            report=self._report,
            mtu=lambda: 1400,
        )

    async def _apply(self, text: str) -> None:
        self.rules.append(text)

    async def _report(self) -> None:
        self.reports += 1

    def node(self, name: str, cidr: str, address: str) -> None:
        spec = {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}
        addresses = [{"type": "InternalIP", "address": address}]
        self.server.put(scheme.NODES, {"metadata": {"name": name}, "spec": spec, "status": {"addresses": addresses}})

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


async def test_routes_follow_nodes_that_come_move_and_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "192.0.2.2")
    async with world.running():
        assert world.routes.table() == {"10.244.1.0/24": "192.0.2.2"}
        world.node("c", "10.244.2.0/24", "192.0.2.3")
        await asyncio.sleep(2)
        assert world.routes.table() == {"10.244.1.0/24": "192.0.2.2", "10.244.2.0/24": "192.0.2.3"}
        world.node("b", "10.244.1.0/24", "192.0.2.9")
        await asyncio.sleep(2)
        assert world.routes.table()["10.244.1.0/24"] == "192.0.2.9"
        world.server.remove(scheme.NODES, "c")
        await asyncio.sleep(2)
        assert world.routes.table() == {"10.244.1.0/24": "192.0.2.9"}


async def test_a_range_that_passes_to_another_node_keeps_a_route(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "192.0.2.2")
    async with world.running():
        world.node("c", "10.244.1.0/24", "192.0.2.3")
        world.server.remove(scheme.NODES, "b")
        await asyncio.sleep(2)
        assert world.routes.table() == {"10.244.1.0/24": "192.0.2.3"}


async def test_routes_left_from_before_are_removed_at_the_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    old = Route(ip_network("10.244.9.0/24"), netlink.IPv4Address("192.0.2.9"))
    world.routes.present["10.244.9.0/24"] = old
    async with world.running():
        assert world.routes.table() == {}


async def test_a_heartbeat_of_a_node_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    world.node("b", "10.244.1.0/24", "192.0.2.2")
    async with world.running():
        before = (world.routes.writes, len(world.rules))
        world.node("b", "10.244.1.0/24", "192.0.2.2")
        await asyncio.sleep(2)
        assert (world.routes.writes, len(world.rules)) == before


async def test_a_route_that_the_kernel_refused_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("a", "10.244.0.0/24", "192.0.2.1")
    async with world.running():
        world.routes.failures = 2
        world.node("b", "10.244.1.0/24", "192.0.2.2")
        await asyncio.sleep(30)
        assert world.routes.table() == {"10.244.1.0/24": "192.0.2.2"}
