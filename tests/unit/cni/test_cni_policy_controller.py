"""The policy loop against a scripted API server, in virtual time: what is in force, and who waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cni.policy.attached import Attached
from cni.policy.controller import NotAdmitted, Policies
from fakes.apiserver import FakeApiServer
from fakes.policy_rules import FakeRules
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock

pytestmark = pytest.mark.looptime

WEB, CLIENT = "10.244.0.2", "10.244.1.2"


def attached(name: str, *, uid: str, sandbox: str = "s1") -> Attached:
    return Attached(sandbox=sandbox, key=f"default/{name}", uid=uid, addresses=(WEB,))


class World:
    """Node `n1` in a cluster."""

    def __init__(self) -> None:
        self.server, self.rules = FakeApiServer(), FakeRules()
        clock = SystemClock()
        self.informers = Informers(self.server.client(), clock=clock)
        self.policies = Policies(self.rules, informers=self.informers, node_name="n1", clock=clock)

    @asynccontextmanager
    async def running(self, *, settle: float = 1.0) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.informers.run()), group.create_task(self.policies.run())]
            await asyncio.sleep(settle)
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    def namespace(self, name: str, **labels: str) -> None:
        self.server.put(scheme.NAMESPACES, {"metadata": {"name": name, "labels": labels}})

    def pod(self, name: str, address: str, *, node: str = "n1", uid: str = "", **more: Any) -> None:
        meta = {"namespace": "default", "name": name, "labels": {"app": name}, "uid": uid or name}
        meta |= more.pop("metadata", {})
        spec = {"nodeName": node, "containers": [], "hostNetwork": more.pop("host_network", False)}
        address_status = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
        self.server.put(scheme.PODS, {"metadata": meta, "spec": spec, "status": {"phase": "Running", **address_status}})

    def policy(self, name: str, **spec: Any) -> None:
        self.server.put(scheme.NETWORK_POLICIES, {"metadata": {"namespace": "default", "name": name}, "spec": spec})

    def protect(self, app: str, *clients: str) -> None:
        """Only these may connect to the pods of an app."""
        peers = [{"podSelector": {"matchLabels": {"app": client}}} for client in clients]
        self.policy(app, podSelector={"matchLabels": {"app": app}}, ingress=[{"from": peers}] if peers else [])

    def watched(self) -> set[str]:
        """Collections that were asked for."""
        return {request.path.rsplit("/", 1)[-1] for request in self.server.requests if request.method == "GET"}


@pytest.fixture
def world() -> World:
    made = World()
    made.namespace("default")
    return made


async def test_without_a_policy_there_is_no_table_and_no_copy_of_the_pods(world: World) -> None:
    world.pod("web", WEB)
    async with world.running():
        assert world.policies.ready() is None
        assert not world.rules.there
        assert world.watched() == {"networkpolicies"}
        await world.policies.admit(attached("web", uid="web"))


async def test_a_policy_that_selects_no_pod_of_this_node_makes_no_table(world: World) -> None:
    world.pod("web", WEB, node="n2")
    world.protect("web")
    async with world.running():
        assert world.policies.ready() is None
        assert not world.rules.there


async def test_the_last_policy_takes_the_table_and_the_copies_with_it(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web")
    async with world.running():
        assert not world.rules.passes(CLIENT, WEB)
        world.server.remove(scheme.NETWORK_POLICIES, "web", namespace="default")
        await asyncio.sleep(1)
        assert not world.rules.there
        world.server.requests.clear()
        world.pod("other", CLIENT)
        world.protect("web")
        await asyncio.sleep(1)
        assert not world.rules.passes(CLIENT, WEB)
        assert "pods" in world.watched()


async def test_a_pod_that_comes_is_a_change_of_elements(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web", "client")
    async with world.running():
        assert not world.rules.passes(CLIENT, WEB)
        wholes = len(world.rules.wholes)
        world.pod("client", CLIENT, node="n2")
        await asyncio.sleep(1)
        assert world.rules.passes(CLIENT, WEB)
        assert len(world.rules.wholes) == wholes
        assert not world.rules.changes[-1].structural
        assert len(world.rules.changes[-1].add) == 1


async def test_a_new_pod_waits_until_its_rules_are_in(world: World) -> None:
    world.protect("web")
    async with world.running(), asyncio.TaskGroup() as group:
        admitted = group.create_task(world.policies.admit(attached("web", uid="1")))
        await asyncio.sleep(2)
        assert not admitted.done()
        world.pod("web", "", uid="1")
        await admitted
        assert not world.rules.passes(CLIENT, WEB)


async def test_a_pod_that_the_api_does_not_know_is_to_be_tried_again(world: World) -> None:
    world.protect("web")
    async with world.running():
        with pytest.raises(NotAdmitted, match="does not know the pod"):
            await world.policies.admit(attached("web", uid="1"))


async def test_an_older_pod_of_the_same_name_is_not_taken_for_the_new_one(world: World) -> None:
    world.pod("web", "10.244.0.9", uid="old")
    world.protect("web")
    async with world.running():
        with pytest.raises(NotAdmitted):
            await world.policies.admit(attached("web", uid="new"))


async def test_an_address_is_not_given_to_an_older_pod_of_the_same_name(world: World) -> None:
    world.pod("web", "10.244.0.9", uid="old")
    world.protect("web")
    async with world.running(), asyncio.TaskGroup() as group:
        admitted = group.create_task(world.policies.admit(attached("web", uid="new")))
        await asyncio.sleep(1)
        assert not world.rules.passes(CLIENT, "10.244.0.9")
        assert world.rules.passes(CLIENT, WEB)
        world.pod("web", "", uid="new")
        await admitted
        assert not world.rules.passes(CLIENT, WEB)


async def test_the_mirror_of_a_static_pod_stands_for_it(world: World) -> None:
    world.pod("web", "", uid="api", metadata={"annotations": {"kubernetes.io/config.mirror": "file"}})
    world.protect("web")
    async with world.running():
        await world.policies.admit(attached("web", uid="file"))
        assert not world.rules.passes(CLIENT, WEB)


async def test_without_an_api_server_nothing_is_admitted(world: World) -> None:
    world.server.reachable = False
    async with world.running():
        with pytest.raises(NotAdmitted, match="waiting for the list of networkpolicies"):
            await world.policies.admit(attached("web", uid="1"))


async def test_an_address_used_anew_is_judged_by_its_new_pod(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web")
    async with world.running():
        world.pod("other", "")
        await world.policies.admit(attached("other", uid="other"))
        assert world.rules.passes(CLIENT, WEB)
        world.server.remove(scheme.PODS, "web", namespace="default")
        await asyncio.sleep(1)
        assert world.rules.passes(CLIENT, WEB)


async def test_after_del_an_address_is_the_pods_as_the_api_says(world: World) -> None:
    world.pod("web", "")
    world.protect("web")
    async with world.running():
        await world.policies.admit(attached("web", uid="web"))
        assert not world.rules.passes(CLIENT, WEB)
        world.policies.forget(attached("web", uid="web", sandbox="another"))
        await asyncio.sleep(1)
        assert not world.rules.passes(CLIENT, WEB)
        world.policies.forget(attached("web", uid="web"))
        await asyncio.sleep(1)
        assert world.rules.passes(CLIENT, WEB)


async def test_a_sandbox_from_before_a_restart_is_isolated_though_the_api_has_no_address_yet(world: World) -> None:
    world.pod("web", "")
    world.protect("web")
    world.policies.restore([attached("web", uid="web")])
    async with world.running():
        assert not world.rules.passes(CLIENT, WEB)


async def test_pods_that_ended_or_use_the_nodes_network_have_no_address_here(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web", "client")
    world.pod("client", CLIENT, host_network=True)
    async with world.running():
        assert not world.rules.passes(CLIENT, WEB)


async def test_a_refused_write_is_followed_by_all_rules_anew(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web", "client")
    async with world.running():
        world.rules.fail = 2
        world.pod("client", CLIENT, node="n2")
        await asyncio.sleep(2)
        assert world.policies.ready() is None
        assert world.rules.passes(CLIENT, WEB)


async def test_rules_that_somebody_flushed_are_back(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web")
    async with world.running():
        world.rules.flush()
        assert world.rules.passes(CLIENT, WEB)
        assert world.policies.table_families() == {"ip", "ip6"}
        await world.policies.rules_gone()
        await asyncio.sleep(0.1)
        assert not world.rules.passes(CLIENT, WEB)


async def test_all_rules_are_written_anew_now_and_then(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web")
    async with world.running():
        world.rules.elements.clear()
        await asyncio.sleep(301)
        assert not world.rules.passes(CLIENT, WEB)


async def test_a_policy_that_cannot_be_read_changes_nothing(world: World) -> None:
    world.pod("web", WEB)
    world.protect("web")
    async with world.running():
        broken = {"from": [{"ipBlock": {"cidr": "no block"}}]}
        world.policy("web", podSelector={}, ingress=[broken])
        await asyncio.sleep(1)
        assert not world.rules.passes(CLIENT, WEB)
