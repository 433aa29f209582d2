"""The proxy's loop against a scripted API server and a backend that follows packets, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fakes.apiserver import FakeApiServer
from fakes.nft import FakeNft, Outcome
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.types import EndpointSlice, Service
from proxy.backends.nftables import NftablesBackend
from proxy.backends.protocol import BackendError
from proxy.metrics import Metrics
from proxy.rules.plan import Changes
from proxy.services.model import ThisNode
from proxy.syncer import Syncer

pytestmark = pytest.mark.looptime


class Flaky(NftablesBackend):
    """The real backend on the fake kernel, failing on order and counting its writes."""

    def __init__(self, nft: FakeNft) -> None:
        super().__init__(nft)
        self.fail_changes = 0
        self.full = 0

    async def replace(self, rules: Any) -> None:
        self.full += 1
        await super().replace(rules)

    async def change(self, changes: Changes) -> None:
        if self.fail_changes:
            self.fail_changes -= 1
            raise BackendError("on order")
        await super().change(changes)


class World:
    """A node's proxy with its API server."""

    def __init__(self) -> None:
        self.server, self.nft = FakeApiServer(), FakeNft()
        self.backend = Flaky(self.nft)
        self.forgotten: list[Changes] = []
        self.registry = CollectorRegistry()
        client, clock = self.server.client(), SystemClock()
        self.informers = Informers(client, clock=clock)
        self.syncer = Syncer(
            self.backend,
            services=self.informers.get(scheme.SERVICES, Service),
            slices=self.informers.get(scheme.ENDPOINT_SLICES, EndpointSlice),
            node=ThisNode(name="node-1"),
            clock=clock,
            metrics=Metrics(self.registry),
            forget_flows=self._forget,
        )

    async def _forget(self, changes: Changes) -> None:
        self.forgotten.append(changes)

    def service(self, name: str, address: str, **more: Any) -> None:
        ports = [{"name": "", "port": 80, "protocol": "TCP", "nodePort": 30080}]
        spec = {"clusterIP": address, "clusterIPs": [address], "ports": ports} | more
        self.server.put(scheme.SERVICES, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    def endpoints(self, name: str, *addresses: str, changed: str = "") -> None:
        noted = {"endpoints.kubernetes.io/last-change-trigger-time": changed} if changed else {}
        labels = {"kubernetes.io/service-name": name}
        self.server.put(
            scheme.ENDPOINT_SLICES,
            {
                "metadata": {"name": f"{name}-1", "namespace": "default", "labels": labels, "annotations": noted},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
                "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            },
        )

    def reach(self, address: str, port: int = 80) -> set[str]:
        ends: set[Outcome] = self.nft.connect(source="10.0.9.9", to=address, protocol="tcp", port=port)
        return {end.address or end.verdict for end in ends}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.informers.run()), group.create_task(self.syncer.run())]
            await asyncio.sleep(5)
            yield
            for task in tasks:
                task.cancel()


async def test_what_is_there_at_the_start_is_written_at_once_and_whole() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    world.endpoints("web", "10.0.0.1")
    async with world.running():
        assert world.reach("10.96.0.1") == {"10.0.0.1"}
        assert world.backend.full == 1


async def test_a_new_endpoint_costs_elements_and_no_script() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    world.endpoints("web", "10.0.0.1")
    async with world.running():
        scripts = len(world.nft.scripts)
        world.endpoints("web", "10.0.0.1", "10.0.0.2")
        await asyncio.sleep(1)
        assert world.reach("10.96.0.1") == {"10.0.0.1", "10.0.0.2"}
        assert len(world.nft.scripts) == scripts


async def test_a_service_that_appears_after_its_endpoints_is_served() -> None:
    world = World()
    async with world.running():
        world.endpoints("web", "10.0.0.1")
        await asyncio.sleep(1)
        world.service("web", "10.96.0.1")
        await asyncio.sleep(1)
        assert world.reach("10.96.0.1") == {"10.0.0.1"}


async def test_a_deleted_service_leaves_no_element() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    world.endpoints("web", "10.0.0.1")
    async with world.running():
        world.server.remove(scheme.SERVICES, "web", namespace="default")
        await asyncio.sleep(1)
        sets = world.nft.tables["ip", "nodeagent-proxy"].sets
        assert all(not found for name, found in sets.items() if not name.startswith("picks"))


async def test_after_a_failed_write_all_is_written_anew_and_is_right() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    async with world.running():
        world.backend.fail_changes = 1
        world.endpoints("web", "10.0.0.7")
        await asyncio.sleep(60)
        assert world.reach("10.96.0.1") == {"10.0.0.7"}
        assert world.backend.full == 2


async def test_rules_that_somebody_flushed_come_back() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    world.endpoints("web", "10.0.0.1")
    async with world.running():
        world.nft.flush()
        await asyncio.sleep(0.01)
        assert world.reach("10.96.0.1") == {"10.0.0.1"}


async def test_an_unreachable_server_leaves_the_rules_as_they_are() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    world.endpoints("web", "10.0.0.1")
    async with world.running():
        world.server.reachable = False
        world.server.disconnect()
        await asyncio.sleep(600)
        assert world.reach("10.96.0.1") == {"10.0.0.1"}


async def test_an_address_two_services_want_is_the_first_ones_until_it_lets_go() -> None:
    world = World()
    for name, endpoint in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        world.service(name, f"10.96.0.{endpoint[-1]}", externalIPs=["203.0.113.5"])
        world.endpoints(name, endpoint)
    async with world.running():
        assert world.reach("203.0.113.5") == {"10.0.0.1"}
        world.endpoints("b", "10.0.0.3")
        await asyncio.sleep(1)
        assert world.reach("203.0.113.5") == {"10.0.0.1"}
        world.server.remove(scheme.SERVICES, "a", namespace="default")
        await asyncio.sleep(1)
        assert world.reach("203.0.113.5") == {"10.0.0.3"}


async def test_node_ports_follow_the_nodes_addresses() -> None:
    world = World()
    world.service("web", "10.96.0.1", type="NodePort")
    world.endpoints("web", "10.0.0.1")
    async with world.running():
        world.syncer.place(ThisNode(name="node-1", node_port_addresses=("192.168.7.1",)))
        await asyncio.sleep(1)
        assert world.reach("192.168.7.1", 30080) == {"10.0.0.1"}
        world.syncer.place(ThisNode(name="node-1", node_port_addresses=("192.168.7.2",)))
        await asyncio.sleep(1)
        assert world.reach("192.168.7.1", 30080) == {"192.168.7.1"}
        assert world.reach("192.168.7.2", 30080) == {"10.0.0.1"}


async def test_how_long_a_change_took_to_get_here_is_measured_when_the_slice_says_when_it_was() -> None:
    world = World()
    world.service("web", "10.96.0.1")
    name = "kubeproxy_network_programming_duration_seconds_count"
    async with world.running():
        world.endpoints("web", "10.0.0.1", changed="2020-01-01T00:00:00Z")  # before our time
        await asyncio.sleep(1)
        assert world.registry.get_sample_value(name, {"ip_family": "IPv4"}) in (None, 0)
        world.endpoints("web", "10.0.0.2", changed=SystemClock().now().isoformat())
        await asyncio.sleep(1)
        assert world.registry.get_sample_value(name, {"ip_family": "IPv4"}) == 1


async def test_services_without_endpoints_here_are_counted_by_policy() -> None:
    world = World()
    world.service("web", "10.96.0.1", internalTrafficPolicy="Local")
    world.endpoints("web", "10.0.0.1")
    name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
    async with world.running():
        assert world.registry.get_sample_value(name, {"traffic_policy": "internal", "ip_family": "IPv4"}) == 1
        assert world.registry.get_sample_value(name, {"traffic_policy": "external", "ip_family": "IPv4"}) == 0
