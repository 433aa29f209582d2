"""A kubelet's pods over a fake runtime and a fake API server, for tests of whole lives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nodeagent_given import UID, container

from kube import scheme
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime.clock import SystemClock
from nodeagent import config
from nodeagent.devices import plugins
from nodeagent.images import keeper, mounts
from nodeagent.pods import admit, files, kit, observe, pool, userns
from nodeagent.probes import Probes
from nodeagent.resources import cgroups, tree
from nodeagent.sources import api
from nodeagent.status import write
from nodeagent.volumes import Volumes
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.mortal import Mortal, MortalRuntime
from tests.fakes.runtime import FakeRuntime
from tests.fakes.volume_mounter import FakeMounter

LAYOUT = cgroups.Layout(version=1, driver="cgroupfs", root="/t")


class Facts:
    """A node with a network."""

    host_ips = ("192.168.77.11",)
    memory_capacity = 1 << 30
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": "110"}
    network_problem: str | None = None


class FakeImageStore(FakeMounter):
    """Shows images by a file in the folder."""

    async def mount(self, image: str, target: Path) -> None:
        (target / "image").write_text(image)
        self.mounted.append(target)

    async def release(self, target: Path) -> None:
        self.mounted.remove(target)


class Node:
    """A kubelet's pods over fakes. Entering it starts everything; leaving it leaves the runtime as it is.

    With a `life` all it does can be the last it does.
    """

    def __init__(
        self,
        folder: Path,
        server: FakeApiServer,
        runtime: FakeRuntime,
        *,
        life: Mortal | None = None,
        user_namespaces: bool = False,
    ) -> None:
        self.folder, self.server, self.runtime = folder, server, runtime
        life = life or Mortal()
        (folder / "cgroup" / "memory").mkdir(parents=True, exist_ok=True)
        self.facts = Facts()
        self.image_store = FakeImageStore()
        self.devices = plugins.DevicePlugins(
            folder / "k" / "device-plugins", clock=SystemClock(), on_change=lambda: None
        )
        self.clock = SystemClock()
        client = Client(life.around(server, name="API", only=("request",)))
        watched = MortalRuntime(runtime, life)
        self.events = EventRecorder(client, component="kubelet", host="n1", clock=self.clock)
        self.informers = Informers(client, clock=self.clock)
        documents = {
            "AgentConfiguration": [
                {
                    "kind": "AgentConfiguration",
                    "nodeName": "n1",
                    "rootDir": str(folder / "k"),
                    "logDir": str(folder / "l"),
                }
            ],
            "KubeletConfiguration": [
                {"kind": "KubeletConfiguration", "crashLoopBackOff": {"maxContainerRestartPeriod": "300ms"}}
            ],
        }
        settings = config.build(documents, source="test")
        self.observer = observe.Observer(watched, clock=self.clock, on_change=lambda uid: self.pool.wake(uid))
        self.probes = Probes(exec=watched.execs.run, clock=self.clock, on_result=lambda uid, *_: self.pool.wake(uid))
        self.statuses = write.StatusWriter(client)
        self.volumes = Volumes(root=settings.root, client=client, clock=self.clock)
        self.kit = kit.Kit(
            settings=settings,
            runtime=watched,
            client=client,
            events=self.events,
            clock=self.clock,
            volumes=life.around(self.volumes, name="volumes", only=("mount", "unmount")),
            images=keeper.ImageKeeper(watched.images, events=self.events, clock=self.clock),
            devices=self.devices,
            users=userns.UserNamespaces(settings.root),
            image_volumes=mounts.ImageVolumes(watched, self.image_store, mounter=self.image_store),
            files=life.around(
                files.PodFiles(settings.root, pod_logs=settings.pod_logs, container_logs=settings.container_logs),
                name="files",
                only=("prepare_pod", "prepare_container", "link_log", "remove_pod", "remove_folder"),
            ),
            cgroups=life.around(tree.Tree(LAYOUT, mount=folder / "cgroup"), name="cgroups", only=("create", "remove")),
            layout=LAYOUT,
            facts=self.facts,
            observer=self.observer,
            statuses=self.statuses,
            probes=self.probes,
            services=list,
            others=lambda uid: self.pool.others(uid),
        )
        source = api.pods_of(self.informers, node_name="n1")
        admission = admit.Node(name="n1", labels={}, allocatable=Facts.allocatable, user_namespaces=user_namespaces)
        self.pool = pool.PodPool(self.kit, sources=[source], node=lambda: admission)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for part in (
                self.informers,
                self.events,
                self.observer,
                self.probes,
                self.statuses,
                self.volumes,
                self.pool,
            ):
                group.create_task(part.run())

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator["Node"]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.run())
            yield self
            task.cancel()

    def put(self, *containers: dict[str, Any], name: str = "web", uid: str = UID, **spec: Any) -> None:
        metadata = {"name": name, "namespace": "default", "uid": uid, **spec.pop("metadata", {})}
        body = {"nodeName": "n1", "terminationGracePeriodSeconds": 1, "containers": list(containers) or [sleeping()]}
        self.server.put(scheme.PODS, {"metadata": metadata, "spec": {**body, **spec}})

    def delete(self, name: str = "web", *, grace: int = 1) -> None:
        pod = self.server.find(scheme.PODS, name, namespace="default")
        assert pod is not None
        marks = {"deletionTimestamp": "2026-11-23T15:00:00Z", "deletionGracePeriodSeconds": grace}
        self.server.put(scheme.PODS, {**pod, "metadata": {**pod["metadata"], **marks}})

    def status(self, name: str = "web") -> dict[str, Any]:
        pod = self.server.find(scheme.PODS, name, namespace="default") or {}
        found: dict[str, Any] = pod.get("status", {})
        return found

    def ready(self, name: str = "web") -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in self.status(name).get("conditions", []))

    def waiting(self, name: str = "web") -> str:
        entries = self.status(name).get("containerStatuses", [])
        return str(entries[0]["state"].get("waiting", {}).get("reason", "")) if entries else ""

    def reasons(self) -> list[str]:
        return [e["reason"] for e in self.server.all(scheme.EVENTS)]


def sleeping(name: str = "main", **fields: Any) -> dict[str, Any]:
    return container(name, command=["sleep", "1000"], **fields)


def exiting(code: int, name: str = "main", **fields: Any) -> dict[str, Any]:
    return container(name, command=["sh", "-c", f"exit {code}"], **fields)


async def eventually(true: Callable[[], Any], *, seconds: float = 20.0) -> None:
    """Waits until `true()` holds; what cannot be looked up yet does not hold."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(LookupError):
                if true():
                    return
            await asyncio.sleep(0.01)
