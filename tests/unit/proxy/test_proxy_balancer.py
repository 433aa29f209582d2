"""Nodes that answer for addresses of a pool, against one API server, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes.apiserver import FakeApiServer
from fakes.clock import LoopClock
from kube import scheme
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.types import EndpointSlice, Service
from proxy.balancer.balancer import Balancer
from proxy.balancer.config import LoadBalancerConfiguration
from proxy.services import tracker

pytestmark = pytest.mark.looptime
CONFIG = LoadBalancerConfiguration(addresses=("192.0.2.8-192.0.2.9", "fd00::8/126"), kubeconfig="-")


class FakeLink:
    """Which addresses a node answers for, and how often each was announced."""

    def __init__(self) -> None:
        self.addresses: frozenset[str] = frozenset()
        self.announced: list[str] = []

    def answer_for(self, addresses: Collection[str]) -> None:
        self.announced += sorted(set(addresses) - self.addresses)
        self.addresses = frozenset(addresses)

    async def run(self) -> None:
        await asyncio.Event().wait()


class World:
    """Nodes and their API server."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.server, self.group = FakeApiServer(), group
        self.links: dict[str, FakeLink] = {}
        self.tasks: dict[str, list[asyncio.Task[None]]] = {}
        self.leaving: set[str] = set()
        self.local: dict[str, int] = {}

    def start(self, node: str) -> None:
        client, clock = self.server.client(), LoopClock()
        informers, link = Informers(client, clock=clock), FakeLink()
        slices = informers.get(scheme.ENDPOINT_SLICES, EndpointSlice)
        by_service = slices.add_index(lambda found: ["/".join(key)] if (key := tracker.service_of(found)) else [])
        balancer = Balancer(
            CONFIG,
            client=client,
            services=informers.get(scheme.SERVICES, Service),
            slices=lambda key: by_service.get("/".join(key)),
            leaving=lambda: node in self.leaving,
            link=link,
            events=EventRecorder(client, component="proxy", host=node, clock=clock),
            clock=clock,
            node=node,
        )
        self.links[node] = link
        self.tasks[node] = [self.group.create_task(informers.run()), self.group.create_task(balancer.run())]

    def die(self, node: str) -> None:
        """Its process is gone without a word."""
        self.server.reachable = False
        for task in self.tasks.pop(node):
            task.cancel()
        del self.links[node]

    def service(self, name: str, **spec: Any) -> None:
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        whole = {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": ports, "ipFamilies": ["IPv4"]} | spec
        self.server.put(scheme.SERVICES, {"metadata": {"name": name, "namespace": "default"}, "spec": whole})

    def endpoint(self, name: str, node: str) -> None:
        labels = {"kubernetes.io/service-name": name}
        slice_ = {
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "nodeName": node}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }
        self.server.put(scheme.ENDPOINT_SLICES, slice_)

    def status(self, name: str) -> list[str]:
        found = self.server.find(scheme.SERVICES, name, namespace="default") or {}
        ingress = found.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        assert all(each["ipMode"] == "VIP" for each in ingress)
        return [each["ip"] for each in ingress]

    def answering(self, address: str) -> list[str]:
        return [node for node, link in self.links.items() if address in link.addresses]


@asynccontextmanager
async def world(*nodes: str) -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as group:
        made = World(group)
        for node in nodes:
            made.start(node)
        yield made
        for tasks in made.tasks.values():
            for task in tasks:
                task.cancel()


async def test_a_service_gets_an_address_that_one_node_answers_for() -> None:
    async with world("n1", "n2", "n3") as made:
        made.service("web")
        await asyncio.sleep(3)
        assert made.status("web") == ["192.0.2.8"]
        assert len(made.answering("192.0.2.8")) == 1
        await asyncio.sleep(60)
        assert sum(link.announced.count("192.0.2.8") for link in made.links.values()) == 1


async def test_when_its_node_dies_another_takes_over_and_says_so_and_never_two_answer() -> None:
    async with world("n1", "n2") as made:
        made.service("web")
        await asyncio.sleep(3)
        (holder,) = made.answering("192.0.2.8")
        (other,) = {"n1", "n2"} - {holder}
        made.die(holder)
        made.server.reachable = True
        await asyncio.sleep(10)
        assert made.answering("192.0.2.8") == [other]
        assert made.links[other].announced == ["192.0.2.8"]
        assert made.status("web") == ["192.0.2.8"]


async def test_who_cannot_renew_is_silent_before_another_may_answer() -> None:
    async with world("n1") as made:
        made.service("web")
        await asyncio.sleep(3)
        assert made.answering("192.0.2.8") == ["n1"]
        made.server.reachable = False
        await asyncio.sleep(5.5)
        assert made.answering("192.0.2.8") == []
        made.server.reachable = True
        await asyncio.sleep(40)
        assert made.answering("192.0.2.8") == ["n1"]


async def test_a_node_that_leaves_hands_over_at_once() -> None:
    async with world("n1", "n2") as made:
        made.service("web")
        await asyncio.sleep(3)
        (holder,) = made.answering("192.0.2.8")
        made.leaving.add(holder)
        await asyncio.sleep(2)
        (now,) = made.answering("192.0.2.8")
        assert now != holder


async def test_under_a_local_policy_the_node_with_the_endpoint_answers() -> None:
    async with world("n1", "n2", "n3") as made:
        made.endpoint("web", "n2")
        made.service("web", externalTrafficPolicy="Local")
        await asyncio.sleep(3)
        assert made.answering("192.0.2.8") == ["n2"]
        made.endpoint("web", "n3")
        await asyncio.sleep(3)
        assert made.answering("192.0.2.8") == ["n3"]


async def test_two_families_get_an_address_each_and_two_services_never_the_same() -> None:
    async with world("n1", "n2") as made:
        made.service("a", ipFamilies=["IPv4", "IPv6"])
        made.service("b", clusterIP="10.96.0.2")
        await asyncio.sleep(4)
        assert len(made.status("a")) == 2
        (second,) = made.status("b")
        assert {*made.status("a"), second} == {"192.0.2.8", "192.0.2.9", "fd00::8"}


async def test_who_finds_the_pool_used_up_is_told_and_gets_the_next_free_address() -> None:
    async with world("n1") as made:
        for number, name in enumerate("abc"):
            made.service(name, clusterIP=f"10.96.0.{number + 1}")
        await asyncio.sleep(3)
        found = {name: made.status(name) for name in "abc"}
        assert sorted(found.values()) == [[], ["192.0.2.8"], ["192.0.2.9"]]
        (without,) = (name for name, addresses in found.items() if not addresses)
        gone = next(name for name, addresses in found.items() if addresses)
        made.server.remove(scheme.SERVICES, gone, namespace="default")
        await asyncio.sleep(3)
        assert made.status(without) == found[gone]


async def test_a_service_of_another_class_or_type_is_left_alone_and_one_that_was_ours_gives_its_address_back() -> None:
    async with world("n1") as made:
        made.service("other", loadBalancerClass="example.com/lb")
        made.service("web")
        await asyncio.sleep(3)
        assert made.status("other") == []
        made.service("web", type="ClusterIP")
        await asyncio.sleep(3)
        assert made.server.all(scheme.LEASES) == []
        assert made.links["n1"].addresses == frozenset()


async def test_an_address_that_is_asked_for_is_given_or_none() -> None:
    async with world("n1") as made:
        made.service("mine", loadBalancerIP="192.0.2.9")
        made.service("far", loadBalancerIP="198.51.100.1", clusterIP="10.96.0.2")
        await asyncio.sleep(3)
        assert (made.status("mine"), made.status("far")) == (["192.0.2.9"], [])
