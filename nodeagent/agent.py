"""The kubelet as a component: its parts put together. It contains no behaviour of its own."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from kube import pki, scheme, types
from kube.runtime.component import Deps
from nodeagent import config, errors
from nodeagent.certificates import node as certificates
from nodeagent.cri import client as cri_client
from nodeagent.devices import plugins
from nodeagent.eviction import watch
from nodeagent.images import keeper as images
from nodeagent.images import mounts, unused
from nodeagent.logs import rotate
from nodeagent.node import health, keeper, machine
from nodeagent.pods import admit, downward, files, kit, mirror, observe, pool, spec, userns, view
from nodeagent.probes import Probes
from nodeagent.resources import cgroups, tree
from nodeagent.server import KubeletServer
from nodeagent.shutdown import watch as shutdown
from nodeagent.sources import api
from nodeagent.sources import files as manifests
from nodeagent.stats import collect
from nodeagent.status import write
from nodeagent.volumes import Volumes, kernel, reclaim

log = logging.getLogger(__name__)

SERVE_RETRY: Final = 5.0


class Kubelet:
    """Pods of this node through CRI, and the node itself in the API."""

    name = "kubelet"

    def __init__(self, settings: config.Settings, deps: Deps) -> None:
        self._settings = settings
        self._deps = deps
        self._node: keeper.NodeKeeper | None = None
        self._health: health.RuntimeHealth | None = None

    async def run(self) -> None:
        """Node, runtime, pods, and the kubelet's own API, until cancelled."""
        runtime = cri_client.GrpcRuntime(self._settings.runtime_endpoint)
        try:
            await self._run(runtime)
        finally:
            await runtime.close()

    async def _run(self, runtime: cri_client.GrpcRuntime) -> None:
        parts = Parts(self._settings, self._deps, runtime)
        self._node, self._health = parts.node, parts.health
        await parts.health.ask()
        parts.settle_layout()
        await parts.hold_pods()
        async with asyncio.TaskGroup() as group:
            group.create_task(parts.health.run(), name="runtime health")
            for name, run in (*parts.with_api(), *parts.certificates.runs()):
                group.create_task(run(), name=name)
            group.create_task(parts.volumes.run(), name="volumes")
            group.create_task(parts.probes.run(), name="probes")
            group.create_task(self._serve(parts), name="server")
            group.create_task(parts.rotator.run(), name="log rotation")
            if parts.folder is not None:
                group.create_task(parts.folder.run(), name="static pods")
            if not self._settings.standalone:
                await parts.services.wait_synced()
                await parts.registered.wait_synced()
            group.create_task(parts.observer.run(), name="observer")
            group.create_task(parts.pool.run(), name="pods")
            group.create_task(parts.unused.run(), name="unused images")
            group.create_task(parts.pressure.run(), name="pressure")
            group.create_task(parts.shutdown.run(), name="shutdown")
            group.create_task(parts.devices.run(), name="device plugins")

    async def _serve(self, parts: "Parts") -> None:
        """The kubelet's own API. What keeps it from serving is told and tried again; pods do not wait for it."""
        await parts.certificates.serving_there()
        complaint = ""
        while True:
            try:
                await parts.server().run()
            except (OSError, pki.PkiError, errors.ConfigError) as e:
                if str(e) != complaint:
                    complaint = str(e)
                    log.error("the kubelet's API is not served, logs and exec will fail: %s", e)
                await self._deps.clock.sleep(SERVE_RETRY)

    def ready(self) -> str | None:
        """Ready once the node is registered and the runtime answers; pods' network may still be on its way."""
        if self._node is None or self._health is None:
            return "starting"
        if not self._node.registered and not self._settings.standalone:
            return "the node is not registered in the API yet"
        return self._health.runtime_problem()

    async def reload(self) -> None:
        """Nothing of the kubelet's configuration is safe to change while it runs."""

    async def close(self) -> None:
        """Everything ends with `run`."""


class Parts:
    """The kubelet's parts, wired to each other."""

    def __init__(self, settings: config.Settings, deps: Deps, runtime: cri_client.GrpcRuntime) -> None:
        self._deps = deps
        self._settings = settings
        self.runtime = runtime
        self.health = health.RuntimeHealth(runtime, clock=deps.clock, on_change=self._runtime_changed)
        self.node = keeper.NodeKeeper(
            settings, deps, runtime=runtime, health=self.health, machine=machine.read(settings.root)
        )
        self.services = deps.informers.get(scheme.SERVICES, types.Service)
        own = f"metadata.name={settings.node_name}"
        self.registered = deps.informers.get(scheme.NODES, types.Node, field_selector=own)
        self.statuses = write.StatusWriter(deps.client)
        self.volumes = Volumes(root=settings.root, client=deps.client, clock=deps.clock, facts=self._downward)
        self.probes = Probes(exec=runtime.execs.run, clock=deps.clock, on_result=self._probed)
        self.observer = observe.Observer(runtime, clock=deps.clock, on_change=lambda uid: self.pool.wake(uid))
        self.rotator = rotate.Rotator(
            pod_logs=settings.pod_logs,
            containers=runtime.containers,
            clock=deps.clock,
            max_bytes=settings.log_max_bytes,
            max_files=settings.kubelet.container_log_max_files,
        )
        self.devices = plugins.DevicePlugins(
            settings.root / "device-plugins", clock=deps.clock, on_change=self._devices_changed
        )
        self.folder = None
        if settings.static_pods is not None:
            self.folder = manifests.ManifestFolder(
                settings.static_pods, node_name=settings.node_name, clock=deps.clock, period=settings.file_check
            )
        self.certificates = certificates.NodeCertificates(settings, deps, ips=lambda: self.node.host_ips)
        self.files = files.PodFiles(settings.root, pod_logs=settings.pod_logs, container_logs=settings.container_logs)

    def _pressure(self) -> watch.PressureWatch:
        return watch.PressureWatch(
            figures=self.figures,
            pool=self.pool,
            thresholds=self._settings.thresholds,
            transition=self._settings.pressure_transition,
            soft_grace=self._settings.kubelet.eviction_max_pod_grace_period,
            free_images=self.unused.free,
            tell=self.node.pressed,
            events=self._deps.events,
            clock=self._deps.clock,
        )

    def _figures(self) -> collect.Collector:
        settings = self._settings
        return collect.Collector(
            node_name=settings.node_name,
            clock=self._deps.clock,
            layout=lambda: self.kit.layout,
            pods=lambda: [(worker.fresh, worker.seen) for worker in self.pool.workers],
            root=machine.existing(settings.root),
            pod_root=settings.root / "pods",
            logs=self.files.logs_of,
        )

    def settle_layout(self) -> None:
        """cgroup names as the runtime wants them, where it can say so; then everything that depends on them."""
        info = self.health.info
        driver = (info.cgroup_driver if info else None) or self._settings.kubelet.cgroup_driver
        layout = cgroups.Layout(
            version=tree.version(),
            driver="systemd" if driver == "systemd" else "cgroupfs",
            root=self._settings.kubelet.cgroup_root,
        )
        self.kit = self._kit(layout)
        name, sources = self._settings.node_name, list[api.Source]()
        if not self._settings.standalone:
            sources.append(api.pods_of(self._deps.informers, node_name=name))
        if self.folder is not None:
            sources.append(self.folder)
        self.pool = pool.PodPool(self.kit, sources=sources, node=self._admission)
        self.figures = self._figures()
        kubelet = self._settings.kubelet
        self.unused = unused.UnusedImages(
            self.runtime,
            clock=self._deps.clock,
            disk=machine.existing(self._settings.root),
            percent=(kubelet.image_gc_high_threshold_percent, kubelet.image_gc_low_threshold_percent),
            least_age=self._settings.image_age,
        )
        self.pressure = self._pressure()
        self.shutdown = shutdown.ShutdownWatch(
            shares=self._settings.shutdown_shares, pool=self.pool, tell=self.node.stopping, clock=self._deps.clock
        )

    async def hold_pods(self) -> None:
        """Keeps all pods together out of what is reserved; where the kernel refuses, pods run all the same."""
        cpu, memory = self.node.for_pods
        cgroup = cgroups.all_pods(layout=self.kit.layout, cpu=cpu, memory=memory)
        try:
            await asyncio.to_thread(self.kit.cgroups.create, cgroup)
        except OSError as e:
            log.warning("pods are not held to what is not reserved, cgroup %s: %s", cgroup.path, e)

    def with_api(self) -> list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """The parts that only make sense with an API server, by name."""
        if self._settings.standalone:
            return []
        reclaimer = reclaim.Reclaimer(self._deps.client, clock=self._deps.clock)
        found = [("node", self.node.run), ("pod statuses", self.statuses.run), ("volume folders", reclaimer.run)]
        if self.folder is not None:
            mirrors = mirror.Mirrors(
                self._deps.client,
                folder=self.folder,
                mirrors=api.mirrors_of(self._deps.informers, node_name=self._settings.node_name),
                statuses=self.statuses,
                owner=lambda: self.node.lease.owner,
            )
            found.append(("mirror pods", mirrors.run))
        return found

    def _kit(self, layout: cgroups.Layout) -> kit.Kit:
        deps = self._deps
        return kit.Kit(
            settings=self._settings,
            runtime=self.runtime,
            client=deps.client,
            events=deps.events,
            clock=deps.clock,
            volumes=self.volumes,
            images=images.ImageKeeper(self.runtime.images, events=deps.events, clock=deps.clock),
            image_volumes=mounts.ImageVolumes(
                self.runtime, mounts.ContainerdStore(self._settings.runtime_endpoint), mounter=kernel.KernelMounter()
            ),
            files=self.files,
            users=userns.UserNamespaces(self._settings.root),
            devices=self.devices,
            cgroups=tree.Tree(layout),
            layout=layout,
            facts=self.node,
            observer=self.observer,
            statuses=self.statuses,
            probes=self.probes,
            services=lambda: self.services.cache.values(),
            others=lambda uid: self.pool.others(uid),
        )

    def server(self) -> KubeletServer:
        """The kubelet's own API, on the certificate configured or one signed by itself."""
        kubelet = self._settings.kubelet
        return KubeletServer(
            address=_joined(kubelet.address, kubelet.port),
            health_address=_joined(kubelet.healthz_bind_address, kubelet.healthz_port),
            tls=self.certificates.serving_context,
            pods=lambda: view.pods(self.pool),
            runtime=self.runtime,
            client=self._deps.client,
            clock=self._deps.clock,
            registry=self._deps.registry,
            node_name=self._settings.node_name,
            health=self.health.runtime_problem,
            figures=self.figures,
            configz=lambda: msgspec.to_builtins(kubelet),
            probed=lambda: self.probes.tallies,
        )

    def _devices_changed(self) -> None:
        self.node.devices = self.devices.amounts
        self.node.changed()

    def _runtime_changed(self) -> None:
        self.node.changed()
        self.pool.network_ready()

    def _admission(self) -> admit.Node:
        return admit.Node(
            name=self._settings.node_name,
            labels=self._labels(),
            allocatable=self.node.allocatable,
            unsafe_sysctls=tuple(self._settings.kubelet.allowed_unsafe_sysctls),
            under=self.node.under or frozenset(),
            groups_policy=self.health.info is None or self.health.info.groups_policy,
            going_down=self.node.going_down,
            user_namespaces=self.health.info is not None and any(h.user_namespaces for h in self.health.info.handlers),
        )

    def _labels(self) -> dict[str, str]:
        """The labels pods choose this node by: its own, and what others have given it."""
        known = self.registered.cache.get(self._settings.node_name)
        return self.node.labels | (dict(known.metadata.labels) if known is not None else {})

    def _downward(self, pod: types.Pod) -> downward.Facts:
        worker = self.pool.worker(pod.metadata.uid)
        own = worker.seen.ips if worker is not None else ()
        host_ips = self.node.host_ips
        ips = host_ips if pod.spec.host_network else own
        return downward.Facts(pod_ips=ips, host_ips=host_ips, allocatable=self.node.allocatable)

    def _probed(self, uid: str, container: str, kind: str, passed: bool, message: str) -> None:
        worker = self.pool.worker(uid)
        if worker is None:
            return
        if message:
            reason = "ProbeWarning" if passed else "Unhealthy"
            self._deps.events.event(spec.reference(worker.pod, container), "Warning", reason, message)
        worker.wake()


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def build(documents: Mapping[str, list[dict[str, Any]]], deps: Deps) -> Kubelet:
    """The kubelet from configuration documents by kind."""
    return Kubelet(config.build(documents, source="configuration"), deps)
