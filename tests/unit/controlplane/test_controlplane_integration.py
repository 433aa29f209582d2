"""The control plane whole, in this process: store, API server, scheduler, controllers; its kubelets only report."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane import bootstrap, config, controllers, part, scheduler
from controlplane.apiserver import app
from controlplane.store import sqlite
from controlplane.store.storage import Storage
from kube import pki, scheme, status
from kube.client.identity import User
from kube.client.inprocess import InProcessTransport
from kube.client.rest import Client
from kube.runtime import metrics
from kube.runtime.clock import SystemClock
from kube.runtime.component import Component, Deps
from tests.fakes.kubelet import FakeKubelet

Object = dict[str, Any]
CA = "-----BEGIN CERTIFICATE-----\nthe cluster's own\n"
SECONDS = 8.0  # until a test gives up; everything here takes a fraction of one


class Cluster:
    """A running control plane and the nodes a test starts."""

    def __init__(self, api: app.ApiServer, settings: config.Settings, group: asyncio.TaskGroup) -> None:
        self._api, self._settings, self._group = api, settings, group
        self.client = self.as_user("admin", "system:masters")
        self.kubelets: dict[str, FakeKubelet] = {}
        self._parts: dict[str, asyncio.Task[None]] = {}
        self._kubelet_tasks: list[asyncio.Task[None]] = []

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return [*self._kubelet_tasks, *self._parts.values()]

    def as_user(self, name: str, *groups: str) -> Client:
        return Client(InProcessTransport(self._api.app, User(name, groups)))

    def start(self, name: str) -> None:
        """Start the scheduler or the controllers."""

        def build_controllers(deps: Deps) -> Component:
            return controllers.build(deps, root_ca_pem=CA, cluster_cidr="10.244.0.0/16", node_cidr_mask_size=24)

        builds = {"scheduler": scheduler.build, "controllers": build_controllers}
        client = self.as_user(part.USERS[name])
        made = part.Part(name, builds[name], client=client, clock=SystemClock(), address="127.0.0.1")
        self._parts[name] = self._group.create_task(made.run())

    async def stop(self, name: str) -> None:
        task = self._parts.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def add_nodes(self, *names: str, **more: Any) -> None:
        for name in names:
            kubelet = FakeKubelet(self.client, name, clock=SystemClock(), **more)
            self.kubelets[name] = kubelet
            self._kubelet_tasks.append(self._group.create_task(kubelet.run()))
        await eventually(self._nodes_ready, names)

    async def _nodes_ready(self, names: tuple[str, ...]) -> bool:
        nodes = {n["metadata"]["name"]: n for n in await self.items(scheme.NODES)}
        return all(name in nodes and not nodes[name]["spec"].get("taints") for name in names)

    async def items(self, resource: scheme.Resource, namespace: str = "default") -> list[Object]:
        found = await self.client.list(resource, namespace=namespace if resource.namespaced else None)
        return found["items"]

    async def find(self, resource: scheme.Resource, name: str, namespace: str = "default") -> Object | None:
        try:
            return await self.client.get(resource, name, namespace=namespace if resource.namespaced else None)
        except status.ApiError as error:
            if status.is_not_found(error):
                return None
            raise

    async def deploy(self, name: str = "web", *, namespace: str = "default", replicas: int = 3, **spec: Any) -> Object:
        made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        spec |= {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name)}
        return await self.client.create(scheme.DEPLOYMENTS, made, namespace=namespace)

    async def change(self, name: str, spec: Object) -> None:
        await self.client.patch(scheme.DEPLOYMENTS, name, {"spec": spec}, namespace="default", kind="strategic")

    async def rolled_out(self, name: str = "web", namespace: str = "default") -> bool:
        found = await self.find(scheme.DEPLOYMENTS, name, namespace)
        state, wanted = (found or {}).get("status", {}), (found or {}).get("spec", {}).get("replicas")
        if not found or state.get("observedGeneration") != found["metadata"].get("generation"):
            return False
        counts = [state.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        return counts == [wanted] * 3


def template(name: str, image: str = "v1") -> Object:
    container = {"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}


async def eventually(probe: Callable[..., Awaitable[Any]], *args: Any, within: float = SECONDS) -> Any:
    """The first true answer of a probe."""
    async with asyncio.timeout(within):
        while True:
            if answer := await probe(*args):
                return answer
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def pki_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki.ensure_cluster(folder, service_ip="10.96.0.1", zone="cluster.local", advertise="127.0.0.1", extra_sans=[])
    return folder


@pytest.fixture
def folders(tmp_path: Path, pki_folder: Path) -> tuple[Path, Path]:
    return tmp_path, pki_folder


@contextlib.asynccontextmanager
async def running(folders: tuple[Path, Path], *parts: str) -> AsyncIterator[Cluster]:
    """A control plane with these parts, all of them by default."""
    data, keys = folders
    raw = config.ServerConfiguration(
        data_dir=str(data), pki_dir=str(keys), listen=["127.0.0.1:6443"], advertise_address="192.0.2.1"
    )
    settings, clock = config.check(raw), SystemClock()
    storage = Storage(sqlite.SqliteBackend(data / "store.db"), monotonic=clock.monotonic)
    app.register(storage)
    await storage.open()
    api = app.build(settings, storage, clock=clock, registry=metrics.registry(), exposition=lambda: b"")
    await bootstrap.ensure(api.context.objects, settings, client_ca="")
    try:
        async with asyncio.TaskGroup() as group:
            cluster = Cluster(api, settings, group)
            for part in parts or ("scheduler", "controllers"):
                cluster.start(part)
            yield cluster
            for task in cluster.tasks:
                task.cancel()
    finally:
        await storage.close()


async def test_a_deployment_runs_scales_rolls_and_goes_back(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1", "n2", "n3")
        await cluster.deploy(replicas=3)
        await eventually(cluster.rolled_out)
        [first] = await cluster.items(scheme.REPLICA_SETS)
        pods = await cluster.items(scheme.PODS)
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 3, "one on each of three equal nodes"
        assert all(pod["metadata"]["name"].startswith(f"{first['metadata']['name']}-") for pod in pods)

        await cluster.change("web", {"replicas": 6})
        await eventually(cluster.rolled_out)
        assert len(await cluster.items(scheme.PODS)) == 6

        await cluster.change("web", {"template": template("web", "v2")})
        await eventually(cluster.rolled_out)
        images = [pod["spec"]["containers"][0]["image"] for pod in await eventually(living, cluster, 6)]
        assert images == ["v2"] * 6

        await cluster.change("web", {"template": template("web", "v1")})
        await eventually(cluster.rolled_out)
        sets = {rs["metadata"]["name"]: rs for rs in await cluster.items(scheme.REPLICA_SETS)}
        assert len(sets) == 2, "going back makes no third replica set"
        back = sets[first["metadata"]["name"]]["metadata"]["annotations"]
        assert back["deployment.kubernetes.io/revision"] == "3"
        assert back["deployment.kubernetes.io/revision-history"] == "1"


async def living(cluster: Cluster, count: int, namespace: str = "default") -> list[Object] | None:
    """Pods not on their way out, once there are so many of them and no others."""
    pods = await cluster.items(scheme.PODS, namespace)
    return pods if len(pods) == count and not any(p["metadata"].get("deletionTimestamp") for p in pods) else None


async def test_a_rollout_that_never_becomes_ready_keeps_the_old_pods(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1")
        await cluster.deploy(replicas=4)
        await eventually(cluster.rolled_out)
        cluster.kubelets["n1"].hold = True
        await cluster.change("web", {"template": template("web", "broken")})

        async def stands_still() -> bool:
            found = await cluster.find(scheme.DEPLOYMENTS, "web")
            return bool(found) and found["status"].get("updatedReplicas") == 2 and found["status"]["replicas"] == 5

        await eventually(stands_still)
        await asyncio.sleep(0.1)
        assert await stands_still()
        found = await cluster.find(scheme.DEPLOYMENTS, "web")
        assert found is not None
        assert found["status"]["availableReplicas"] == 3
        await cluster.kubelets["n1"].release()
        await eventually(cluster.rolled_out)


async def test_a_service_shows_its_pods_and_follows_them(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1", "n2")
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
        await cluster.client.create(scheme.SERVICES, service, namespace="default")
        [empty] = await eventually(own_slices, cluster)
        assert not empty.get("endpoints"), "nothing to show is shown, too"
        await cluster.deploy(replicas=3)
        shown = await eventually(addresses, cluster, 3)
        pods = {pod["status"]["podIP"]: pod for pod in await cluster.items(scheme.PODS)}
        assert set(shown) == set(pods)
        for ip, endpoint in shown.items():
            assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
            assert endpoint["nodeName"] == pods[ip]["spec"]["nodeName"]
            assert endpoint["targetRef"]["uid"] == pods[ip]["metadata"]["uid"]
        [slice] = await own_slices(cluster)
        assert slice["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]

        async def old_kind_agrees() -> bool:
            subsets = (await cluster.find(scheme.ENDPOINTS, "web") or {}).get("subsets") or [{}]
            return {a["ip"] for a in subsets[0].get("addresses", ())} == set(pods)

        await eventually(old_kind_agrees)
        await cluster.change("web", {"replicas": 1})
        await eventually(addresses, cluster, 1)
        await cluster.client.delete(scheme.SERVICES, "web", namespace="default")

        async def gone() -> bool:
            return not await own_slices(cluster) and not await cluster.find(scheme.ENDPOINTS, "web")

        await eventually(gone)
        assert await cluster.find(scheme.ENDPOINTS, "kubernetes"), "the API server's own are left alone"


async def own_slices(cluster: Cluster) -> list[Object]:
    found = await cluster.items(scheme.ENDPOINT_SLICES)
    return [one for one in found if one["metadata"]["labels"]["kubernetes.io/service-name"] == "web"]


async def addresses(cluster: Cluster, count: int) -> dict[str, Object] | None:
    """Endpoints by address, once the slices show exactly so many."""
    slices = await own_slices(cluster)
    shown = {end["addresses"][0]: end for one in slices for end in one.get("endpoints") or []}
    return shown if slices and len(shown) == count else None


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_deleting_a_deployment_takes_what_it_made(folders: tuple[Path, Path], policy: str) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1")
        await cluster.deploy(replicas=3)
        await eventually(cluster.rolled_out)
        await cluster.client.delete(scheme.DEPLOYMENTS, "web", namespace="default", propagation=policy)
        if policy == "Foreground":
            assert await cluster.find(scheme.DEPLOYMENTS, "web"), "the owner stays until its dependents are gone"

        async def all_gone() -> bool:
            kinds = (scheme.DEPLOYMENTS, scheme.REPLICA_SETS, scheme.PODS)
            return not any([await cluster.items(kind) for kind in kinds])

        await eventually(all_gone)


async def test_orphans_stay_and_are_taken_in_by_the_next_deployment(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1")
        await cluster.deploy(replicas=2)
        await eventually(cluster.rolled_out)
        before = {pod["metadata"]["uid"] for pod in await cluster.items(scheme.PODS)}
        await cluster.client.delete(scheme.DEPLOYMENTS, "web", namespace="default", propagation="Orphan")

        async def orphaned() -> bool:
            sets = await cluster.items(scheme.REPLICA_SETS)
            return not await cluster.find(scheme.DEPLOYMENTS, "web") and not sets[0]["metadata"].get("ownerReferences")

        await eventually(orphaned)
        await cluster.deploy(replicas=2)
        await eventually(cluster.rolled_out)
        assert {pod["metadata"]["uid"] for pod in await cluster.items(scheme.PODS)} == before
        [adopted] = await cluster.items(scheme.REPLICA_SETS)
        assert adopted["metadata"]["ownerReferences"][0]["name"] == "web"


async def test_a_replica_set_lets_go_of_a_pod_whose_label_changes_and_replaces_it(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1")
        await cluster.deploy(replicas=2)
        await eventually(cluster.rolled_out)
        stray = (await cluster.items(scheme.PODS))[0]["metadata"]["name"]
        patch = {"metadata": {"labels": {"app": "debug"}}}
        await cluster.client.patch(scheme.PODS, stray, patch, namespace="default")

        async def released() -> bool:
            pod = await cluster.find(scheme.PODS, stray)
            return bool(pod) and not pod["metadata"].get("ownerReferences")

        await eventually(released)
        await eventually(living, cluster, 3)


async def test_a_namespace_goes_pods_first_and_takes_everything(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
        await cluster.client.create(scheme.NAMESPACES, namespace)
        await cluster.deploy(namespace="team", replicas=2)
        await eventually(cluster.rolled_out, "web", "team")
        cluster.kubelets["n1"].silent = True
        await cluster.client.delete(scheme.NAMESPACES, "team")

        async def waits_for_pods() -> bool:
            found = await cluster.find(scheme.NAMESPACES, "team")
            shown = {c["type"]: c for c in (found or {}).get("status", {}).get("conditions", [])}
            remaining = shown.get("NamespaceContentRemaining", {})
            return remaining.get("message") == "Some resources are remaining: pods. has 2 resource instances"

        await eventually(waits_for_pods)
        assert await cluster.find(scheme.CONFIG_MAPS, "kube-root-ca.crt", "team"), "pods may still need it"
        await cluster.kubelets["n1"].end_all()

        async def gone() -> bool:
            return await cluster.find(scheme.NAMESPACES, "team") is None

        await eventually(gone)
        for kind in (scheme.PODS, scheme.REPLICA_SETS, scheme.DEPLOYMENTS, scheme.CONFIG_MAPS, scheme.SERVICE_ACCOUNTS):
            assert await cluster.items(kind, "team") == []


async def test_every_namespace_has_its_account_and_root_certificate_at_once(
    folders: tuple[Path, Path],
) -> None:
    async with running(folders, "controllers") as cluster:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
        await cluster.client.create(scheme.NAMESPACES, namespace)

        async def complete() -> bool:
            account = await cluster.find(scheme.SERVICE_ACCOUNTS, "default", "team")
            published = await cluster.find(scheme.CONFIG_MAPS, "kube-root-ca.crt", "team")
            return account is not None and published is not None and published["data"] == {"ca.crt": CA}

        await eventually(complete, within=3.0)
        await cluster.client.delete(scheme.SERVICE_ACCOUNTS, "default", namespace="team")
        forged = {"data": {"ca.crt": "forged", "more": "x"}}
        await cluster.client.patch(scheme.CONFIG_MAPS, "kube-root-ca.crt", forged, namespace="team")
        await eventually(complete, within=3.0)


async def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_a_node_comes(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("small", cpu="1")
        await eventually(cluster.find, scheme.SERVICE_ACCOUNTS, "default")
        container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": "2"}}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "big"}, "spec": {"containers": [container]}}
        await cluster.client.create(scheme.PODS, pod, namespace="default")
        told = await eventually(scheduled, cluster, "big")
        assert (told["status"], told["reason"]) == ("False", "Unschedulable")
        assert told["message"] == (
            "0/1 nodes are available: 1 Insufficient cpu. "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        await cluster.add_nodes("large", cpu="8")

        async def placed() -> Object | None:
            told = await scheduled(cluster, "big")
            return told if told and told["status"] == "True" else None

        await eventually(placed)
        found = await cluster.find(scheme.PODS, "big")
        assert found is not None
        assert found["spec"]["nodeName"] == "large"

        async def told_people() -> bool:
            events = {event["reason"]: event["message"] for event in await cluster.items(scheme.EVENTS)}
            return (
                events.get("Scheduled") == "Successfully assigned default/big to large" and "FailedScheduling" in events
            )

        await eventually(told_people)


async def scheduled(cluster: Cluster, name: str) -> Object | None:
    """The PodScheduled condition of a pod."""
    pod = await cluster.find(scheme.PODS, name)
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == "PodScheduled"), None)


async def test_nodes_get_blocks_of_pod_addresses_that_never_overlap(folders: tuple[Path, Path]) -> None:
    async with running(folders, "controllers") as cluster:
        await cluster.add_nodes(*(f"n{i}" for i in range(6)))

        async def blocks() -> list[str]:
            given = [node["spec"].get("podCIDR") for node in await cluster.items(scheme.NODES)]
            return given if all(given) else []

        assert sorted(await eventually(blocks)) == [f"10.244.{i}.0/24" for i in range(6)]


async def test_restarts_in_the_middle_of_everything_make_nothing_twice(folders: tuple[Path, Path]) -> None:
    async with running(folders) as cluster:
        await cluster.add_nodes("n1", "n2")
        for image in ("v1", "v2", "v3"):
            if image == "v1":
                await cluster.deploy(replicas=8)
            else:
                await cluster.change("web", {"template": template("web", image)})
            for part in ("controllers", "scheduler"):
                await asyncio.sleep(0.02)
                await cluster.stop(part)
                cluster.start(part)
            most = len(await cluster.items(scheme.PODS))
            await eventually(cluster.rolled_out)
            assert most <= 8 + 2 + 2, "desired, surge, and those on their way out"
        await eventually(living, cluster, 8)
        assert len(await cluster.items(scheme.REPLICA_SETS)) == 3
