"""Carrying out a PodPlan: sandboxes and containers made, started and killed through the runtime.

It decides nothing but how; what cannot be made becomes a StartError with the waiting reason.
"""

import asyncio
import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from kube import scheme, status, types
from kube.client import errors as client_errors
from nodeagent import errors
from nodeagent.cri import records
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.devices import assign, plugins
from nodeagent.images import credentials
from nodeagent.pods import container as containers
from nodeagent.pods import dns, environment, files, hooks, observed, plan, sandbox, spec, userns
from nodeagent.pods.kit import Kit
from nodeagent.resources import cgroups
from nodeagent.volumes import Mount, VolumeError

log = logging.getLogger(__name__)

MINIMUM_GRACE: Final = 2
"""Seconds a container always gets between SIGTERM and SIGKILL."""
KEPT_CREATE_REASONS: Final = ("RROUnsupported", "ImageVolumeMountFailed")
PROPAGATION: Final = {
    "private": cri.PROPAGATION_PRIVATE,
    "host_to_container": cri.PROPAGATION_HOST_TO_CONTAINER,
    "bidirectional": cri.PROPAGATION_BIDIRECTIONAL,
}


class Executor:
    """Effects for pods, through the kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        kubelet = kit.settings.kubelet
        self._cluster = dns.Cluster(servers=tuple(kubelet.cluster_dns), domain=kubelet.cluster_domain)

    def event(self, pod: types.Pod, type_: str, reason: str, message: str, *, container: str = "") -> None:
        """Tells the user something about the pod or one of its containers."""
        self._kit.events.event(spec.reference(pod, container), type_, reason, message)

    # ---- sandboxes -------------------------------------------------------------------------------------------

    def cgroup(self, pod: types.Pod) -> cgroups.PodCgroup:
        """The pod's cgroup as it shall be."""
        kubelet = self._kit.settings.kubelet
        return cgroups.plan(pod, layout=self._kit.layout, cfs_quota=kubelet.cpu_cfs_quota, pids=kubelet.pod_pids_limit)

    def sandbox_config(self, pod: types.Pod, attempt: int) -> cri.PodSandboxConfig:
        """The sandbox's configuration, the same each time it is asked for."""
        kubelet = self._kit.settings.kubelet
        facts = sandbox.Facts(
            log_directory=str(self._kit.files.logs_of(pod)),
            cgroup_parent=self.cgroup(pod).parent,
            resolver=dns.resolver(pod, host=self._host_resolver(), cluster=self._cluster),
            cluster=self._cluster,
            seccomp_default=kubelet.seccomp_default,
            cfs_quota=kubelet.cpu_cfs_quota,
            first_id=self._kit.users.of(pod),
        )
        return sandbox.config(pod, attempt=attempt, facts=facts)

    def _host_resolver(self) -> dns.Resolver:
        try:
            return dns.parse(Path(self._kit.settings.kubelet.resolv_conf).read_text())
        except OSError as e:
            log.warning("resolvConf %s: %s; pods get the cluster's servers only", e.filename, e.strerror)
            return dns.Resolver()

    async def create_sandbox(self, pod: types.Pod, *, attempt: int) -> str:
        """Makes cgroup, folders and sandbox; returns its id. StartError if the runtime or the kernel refuses."""
        try:
            handler = await self._handler(pod)
            await asyncio.to_thread(self._kit.users.of, pod)
            everybody = [pod, *self._kit.others(pod.metadata.uid)]
            await asyncio.to_thread(self._prepare, pod, cgroups.classes(everybody, layout=self._kit.layout))
            return await self._kit.runtime.sandboxes.run(self.sandbox_config(pod, attempt), handler=handler)
        except errors.RuntimeUnavailable:
            raise
        except errors.RuntimeFault as e:
            message = f"Failed to create pod sandbox: {e.message}"
            self.event(pod, "Warning", "FailedCreatePodSandBox", message)
            raise errors.StartError("CreatePodSandboxError", message + oom_hint(e.message)) from e
        except OSError as e:
            message = f"unable to ensure pod container exists: {e}"
            self.event(pod, "Warning", "FailedCreatePodContainer", message)
            raise errors.StartError("CreatePodSandboxError", message) from e

    async def _handler(self, pod: types.Pod) -> str:
        """The runtime's own name for the pod's RuntimeClass, "" for the default one."""
        name = pod.spec.runtime_class_name
        if not name:
            return ""
        try:
            found = await self._kit.client.get(scheme.RUNTIME_CLASSES, name)
        except (status.ApiError, client_errors.ClientError) as e:
            message = f"Failed to create pod sandbox: RuntimeClass {name!r} cannot be read: {e}"
            if isinstance(e, status.ApiError) and status.is_not_found(e):
                message = (
                    f'Failed to create pod sandbox: failed to get sandbox runtime: RuntimeClass "{name}" not found'
                )
            self.event(pod, "Warning", "FailedCreatePodSandBox", message)
            raise errors.StartError("CreatePodSandboxError", message) from e
        return str(found.get("handler", ""))

    def _prepare(self, pod: types.Pod, classes: Iterable[cgroups.PodCgroup]) -> None:
        for each in (*classes, self.cgroup(pod)):
            self._kit.cgroups.create(each)
        self._kit.files.prepare_pod(pod)

    # ---- containers ------------------------------------------------------------------------------------------

    async def start(
        self, pod: types.Pod, start: plan.Start, seen: observed.Observed, *, volumes: Mapping[str, Path]
    ) -> str:
        """Image, creation, start and postStart of one container; its id. StartError says why it waits instead."""
        it, box = spec.find(pod, start.name), seen.sandbox
        if it is None or box is None:
            raise errors.StartError("ContainerCreating", f"container {start.name} has no sandbox yet")
        for unused in [c for c in seen.of(it.name) if c.state == "created"]:
            await self._kit.runtime.containers.remove(unused.id)  # its name would be taken
        sandbox_config = self.sandbox_config(pod, box.attempt)
        logins = functools.partial(self._logins, pod)
        image = await self._kit.images.ensure(pod, it, sandbox=sandbox_config, logins=logins)
        try:
            granted = await self._kit.devices.allocate(pod, it)
        except assign.NoDeviceError as e:
            raise self._failed(pod, it, "CreateContainerConfigError", str(e)) from e
        shown = await self._image_volumes(pod, it, volumes, sandbox=sandbox_config)
        config = await self._config(pod, it, start, seen, image=image, volumes=volumes, shown=shown, granted=granted)
        try:
            container_id = await self._kit.runtime.containers.create(box.id, config, sandbox=sandbox_config)
        except errors.RuntimeUnavailable:
            raise
        except errors.RuntimeFault as e:
            reason = next((r for r in KEPT_CREATE_REASONS if e.message.startswith(r)), "CreateContainerError")
            raise self._failed(pod, it, reason, e.message) from e
        self.event(pod, "Normal", "Created", "Container created", container=it.name)
        try:
            await self._kit.runtime.containers.start(container_id)
        except errors.RuntimeUnavailable:
            raise
        except errors.RuntimeFault as e:
            raise self._failed(pod, it, "RunContainerError", e.message) from e
        self.event(pod, "Normal", "Started", "Container started", container=it.name)
        self._kit.files.link_log(pod, it.name, container_id, restart_count=start.restart_count)
        await self._post_start(pod, it, container_id, seen)
        return container_id

    async def _image_volumes(
        self,
        pod: types.Pod,
        it: spec.AnyContainer,
        volumes: Mapping[str, Path],
        *,
        sandbox: cri.PodSandboxConfig,
    ) -> dict[str, str]:
        """Has the images a container mounts present, and shown; by volume name those the runtime shows itself."""
        found: dict[str, str] = {}
        mounted = {mount.name for mount in it.volume_mounts}
        for volume in pod.spec.volumes:
            if volume.image is None or volume.name not in mounted:
                continue
            source = types.Container(
                name=it.name, image=volume.image.reference or "", image_pull_policy=volume.image.pull_policy
            )
            logins = functools.partial(self._logins, pod)
            image = await self._kit.images.ensure(pod, source, sandbox=sandbox, logins=logins)
            if await self._kit.image_volumes.native():
                found[volume.name] = image.id
                continue
            try:
                await self._kit.image_volumes.show(image.id, volumes[volume.name])
            except errors.StartError as e:
                raise self._failed(pod, it, e.reason, e.message) from e
        return found

    async def _logins(self, pod: types.Pod) -> list[credentials.Credential]:
        """What the pod's pull secrets say; one that is missing or broken is told and left out, as upstream does."""
        found: list[credentials.Credential] = []
        for reference in pod.spec.image_pull_secrets:
            try:
                content = await self._kit.volumes.secret(pod.metadata.namespace, reference.name)
                found += credentials.of_secret(content) if content is not None else []
                why = "it does not exist" if content is None else ""
            except (VolumeError, ValueError) as e:
                why = str(e)
            if why:
                message = f"Unable to retrieve some image pull secrets ({reference.name}); attempting to pull the image"
                self.event(pod, "Warning", "FailedToRetrieveImagePullSecret", f"{message} may not succeed.")
                log.info("pod %s: pull secret %s: %s", spec.key(pod), reference.name, why)
        return found

    def _failed(self, pod: types.Pod, it: spec.AnyContainer, reason: str, message: str) -> errors.StartError:
        self.event(pod, "Warning", "Failed", f"Error: {message}", container=it.name)
        return errors.StartError(reason, message)

    async def _config(
        self,
        pod: types.Pod,
        it: spec.AnyContainer,
        start: plan.Start,
        seen: observed.Observed,
        *,
        image: records.Image,
        volumes: Mapping[str, Path],
        shown: Mapping[str, str],
        granted: plugins.Granted,
    ) -> cri.ContainerConfig:
        kit, kubelet = self._kit, self._kit.settings.kubelet
        try:
            variables = [*granted.envs.items(), *await self._environment(pod, it, seen)]
            mounts = kit.volumes.mounts(pod, it, volumes, env=variables, images=shown)
            hosts = self._hosts(pod, it, seen)
            await asyncio.to_thread(
                kit.files.prepare_container, pod, it.name, restart_count=start.restart_count, hosts=hosts
            )
            target = getattr(it, "target_container_name", None) or ""
            looked_into = seen.latest(target) if target else None
            facts = containers.Facts(
                image=image,
                restart_count=start.restart_count,
                environment=variables,
                command=environment.expand_words(it.command, variables),
                args=environment.expand_words(it.args, variables),
                mounts=self._mounts(pod, it, start, mounts, hosts=hosts is not None),
                memory_capacity=kit.facts.memory_capacity,
                target=looked_into.id if looked_into else "",
                seccomp_default=kubelet.seccomp_default,
                cfs_quota=kubelet.cpu_cfs_quota,
                first_id=kit.users.of(pod),
                unified=cgroups.unified(layout=kit.layout, one_by_one=kubelet.single_process_oom_kill),
            )
            return containers.with_devices(containers.config(pod, it, facts), granted)
        except (environment.EnvError, VolumeError, OSError) as e:
            raise self._failed(pod, it, "CreateContainerConfigError", str(e)) from e
        except errors.StartError as e:
            raise self._failed(pod, it, e.reason, e.message) from e

    async def _environment(
        self, pod: types.Pod, it: spec.AnyContainer, seen: observed.Observed
    ) -> list[tuple[str, str]]:
        config_maps, secrets = await self._kit.volumes.environment_sources(pod, it)
        host_ips = self._kit.facts.host_ips
        ips = host_ips if pod.spec.host_network else seen.ips
        return environment.expand(
            pod,
            it,
            services=self._kit.services(),
            config_maps=config_maps,
            secrets=secrets,
            pod_ips=ips,
            host_ip=host_ips[0] if host_ips else "",
            allocatable=self._kit.facts.allocatable,
        )

    def _hosts(self, pod: types.Pod, it: spec.AnyContainer, seen: observed.Observed) -> str | None:
        if not files.manages_hosts(pod, it):
            return None
        host_text = Path("/etc/hosts").read_text() if pod.spec.host_network else ""
        return dns.hosts_file(pod, ips=seen.ips, cluster=self._cluster, host_text=host_text)

    def _mounts(
        self, pod: types.Pod, it: spec.AnyContainer, start: plan.Start, own: list[Mount], *, hosts: bool
    ) -> list[cri.Mount]:
        found = [
            cri.Mount(
                host_path=m.host_path,
                container_path=m.container_path,
                readonly=m.readonly,
                propagation=PROPAGATION[m.propagation],
                image=cri.ImageSpec(image=m.image) if m.image else None,
                image_sub_path=m.image_sub_path,
            )
            for m in own
        ]
        uid = pod.metadata.uid
        if hosts:
            found.append(cri.Mount(host_path=str(self._kit.files.hosts(uid)), container_path="/etc/hosts"))
        message = self._kit.files.message(uid, it.name, start.restart_count)
        path = it.termination_message_path or containers.DEFAULT_MESSAGE_PATH
        found.append(cri.Mount(host_path=str(message), container_path=path))
        ids = userns.mappings(self._kit.users.of(pod))
        for mount in found:
            mount.uidMappings.extend(ids)
            mount.gidMappings.extend(ids)
        return found

    async def _post_start(
        self, pod: types.Pod, it: spec.AnyContainer, container_id: str, seen: observed.Observed
    ) -> None:
        if it.lifecycle is None or it.lifecycle.post_start is None:
            return
        try:
            await self._hook(pod, it.lifecycle.post_start, it, container_id, seen, timeout=None)
        except hooks.HookError as e:
            self.event(pod, "Warning", "FailedPostStartHook", f"PostStartHook failed: {e}", container=it.name)
            kill = plan.Kill(id=container_id, name=it.name, message="FailedPostStartHook")
            await self.kill(pod, kill, seen, grace=spec.grace(pod))
            raise errors.StartError("PostStartHookError", str(e)) from e

    async def _hook(
        self,
        pod: types.Pod,
        handler: types.LifecycleHandler,
        it: spec.AnyContainer,
        container_id: str,
        seen: observed.Observed,
        *,
        timeout: float | None,
    ) -> None:
        ips = seen.ips or self._kit.facts.host_ips
        in_the_clear = await hooks.run(
            handler,
            it,
            container_id,
            pod_ip=ips[0] if ips else "",
            timeout=timeout,
            execs=self._kit.runtime.execs,
            clock=self._kit.clock,
        )
        if in_the_clear:
            message = f"request to HTTPS lifecycle hook {in_the_clear} got HTTP response, retry with HTTP succeeded"
            self.event(pod, "Warning", "LifecycleHTTPFallback", message)

    async def kill(self, pod: types.Pod, kill: plan.Kill, seen: observed.Observed, *, grace: int) -> None:
        """preStop, then SIGTERM, then SIGKILL, all within `grace` seconds and a little."""
        grace = kill.grace if kill.grace is not None else grace
        self.event(pod, "Normal", "Killing", kill.message, container=kill.name)
        began = self._kit.clock.monotonic()
        it = spec.find(pod, kill.name)
        if it is not None and it.lifecycle is not None and it.lifecycle.pre_stop is not None and grace > 0:
            try:
                await self._hook(pod, it.lifecycle.pre_stop, it, kill.id, seen, timeout=float(grace))
            except hooks.HookError as e:
                self.event(pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {e}", container=kill.name)
        left = grace - round(self._kit.clock.monotonic() - began)
        await self._kit.runtime.containers.stop(kill.id, grace=max(MINIMUM_GRACE, left))

    async def reset(self, pod: types.Pod, container: records.Container, seen: observed.Observed) -> None:
        """Ends and removes a container whose pod starts anew."""
        if container.state == "running":
            message = f"Container {container.name} will be restarted: all containers of the pod are"
            await self.kill(pod, plan.Kill(id=container.id, name=container.name, message=message), seen, grace=0)
        await self._kit.runtime.containers.remove(container.id)

    async def tidy(self, pod: types.Pod, seen: observed.Observed) -> bool:
        """Removes all but the newest ended container of each name, whose logs are `kubectl logs --previous`.

        True if any was removed.
        """
        removed = False
        for name in {c.name for c in seen.containers}:
            for dead in [c for c in seen.of(name) if c.state == "exited"][1:]:
                await self._kit.runtime.containers.remove(dead.id)
                await asyncio.to_thread(self._kit.files.remove_container, pod, dead)
                removed = True
        return removed


def oom_hint(message: str) -> str:
    """What to do where root may not lower oom_score_adj, which fails every sandbox."""
    if "oom_score_adj" not in message:
        return ""
    return " (this root lacks CAP_SYS_RESOURCE: set restrict_oom_score_adj = true in containerd's CRI section)"
