"""A container runtime in memory: it keeps the CRI contract and understands `sleep` and `sh -c "exit N"`."""

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from nodeagent import errors
from nodeagent.cri import records
from nodeagent.cri.v1 import cri_pb2 as cri

BUSYBOX = "nodeagent.local/busybox:1"


class FakeRuntime:
    """All four groups over one set of dictionaries. `fail` maps a call to the error it shall raise once."""

    def __init__(self, *, now: Callable[[], int] | None = None) -> None:
        ticks = itertools.count(1_700_000_000_000_000_000, 1_000_000)
        self.now = now or (lambda: next(ticks))
        self.boxes: dict[str, records.Sandbox] = {}
        self.made: dict[str, records.Container] = {}
        self.configs: dict[str, cri.ContainerConfig] = {}
        self.updates: dict[str, cri.LinuxContainerResources] = {}
        self.store: dict[str, records.Image] = {BUSYBOX: records.Image(id="sha256:bb", tags=(BUSYBOX,), size=1)}
        self.registry: dict[str, records.Image] = {}
        self.calls: list[str] = []
        self.logins: list[str] = []
        self.fail: dict[str, errors.RuntimeFault] = {}
        self.network_ready = True
        self.name, self.version = "fake", "1"
        self.with_events = False
        self.stop_seconds = 0.0
        self._events: asyncio.Queue[records.RuntimeEvent] = asyncio.Queue()
        self._ids = itertools.count(1)
        self.sandboxes = Sandboxes(self)
        self.containers = Containers(self)
        self.execs = Execs(self)
        self.images = Images(self)

    def called(self, name: str) -> None:
        self.calls.append(name)
        failure = self.fail.pop(name, None)
        if failure is not None:
            raise failure

    def new_id(self) -> str:
        return f"id{next(self._ids):04}"

    def changed(self, uid: str, container_id: str = "") -> None:
        self._events.put_nowait(records.RuntimeEvent(pod_uid=uid, container_id=container_id))

    def exit(self, container_id: str, code: int, *, reason: str = "") -> None:
        """Ends a container from inside."""
        container = self.made[container_id]
        reason = reason or ("Completed" if code == 0 else "Error")
        self.made[container_id] = dataclasses.replace(
            container, state="exited", exit_code=code, reason=reason, finished_at=self.now()
        )
        self.changed(container.labels.get("io.kubernetes.pod.uid", ""), container_id)

    def running(self, name: str) -> records.Container:
        """The one container of a name that runs; LookupError if there is none."""
        for container in self.made.values():
            if container.name == name and container.state == "running":
                return container
        raise LookupError(f"no container {name} runs")

    async def info(self) -> records.RuntimeInfo:
        self.called("Status")
        return records.RuntimeInfo(name=self.name, version=self.version, ready=True, network_ready=self.network_ready)

    async def events(self) -> AsyncIterator[records.RuntimeEvent]:
        if not self.with_events:
            raise errors.RuntimeUnimplemented("GetContainerEvents", "method not implemented")
        while True:
            yield await self._events.get()

    async def close(self) -> None:
        self.called("close")


def carries(labels: Mapping[str, str], wanted: Mapping[str, str] | None) -> bool:
    return all(labels.get(name) == value for name, value in (wanted or {}).items())


class Sandboxes:
    def __init__(self, fake: FakeRuntime) -> None:
        self._fake = fake

    async def run(self, config: cri.PodSandboxConfig, *, handler: str = "") -> str:
        self._fake.called("RunPodSandbox")
        meta, id_ = config.metadata, self._fake.new_id()
        on_host = config.linux.security_context.namespace_options.network == cri.NODE
        self._fake.boxes[id_] = records.Sandbox(
            id=id_,
            uid=meta.uid,
            namespace=meta.namespace,
            name=meta.name,
            attempt=meta.attempt,
            created_at=self._fake.now(),
            ips=() if on_host else (f"10.0.0.{len(self._fake.boxes) + 1}",),
            host_network=on_host,
            labels=dict(config.labels),
            annotations=dict(config.annotations),
        )
        return id_

    async def stop(self, sandbox_id: str) -> None:
        self._fake.called("StopPodSandbox")
        if sandbox_id in self._fake.boxes:
            for container in list(self._fake.made.values()):
                if container.sandbox_id == sandbox_id and container.state == "running":
                    self._fake.exit(container.id, 137)
            box = self._fake.boxes[sandbox_id]
            self._fake.boxes[sandbox_id] = dataclasses.replace(box, ready=False, ips=())

    async def remove(self, sandbox_id: str) -> None:
        self._fake.called("RemovePodSandbox")
        self._fake.boxes.pop(sandbox_id, None)
        for container in list(self._fake.made.values()):
            if container.sandbox_id == sandbox_id:
                del self._fake.made[container.id]

    async def status(self, sandbox_id: str) -> records.Sandbox:
        if sandbox_id not in self._fake.boxes:
            raise errors.RuntimeNotFound("PodSandboxStatus", f"sandbox {sandbox_id} not found")
        return self._fake.boxes[sandbox_id]

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Sandbox]:
        self._fake.called("ListPodSandbox")
        return [dataclasses.replace(b, ips=()) for b in self._fake.boxes.values() if carries(b.labels, labels)]


class Containers:
    def __init__(self, fake: FakeRuntime) -> None:
        self._fake = fake

    async def create(self, sandbox_id: str, config: cri.ContainerConfig, *, sandbox: cri.PodSandboxConfig) -> str:
        self._fake.called("CreateContainer")
        if sandbox_id not in self._fake.boxes:
            raise errors.RuntimeNotFound("CreateContainer", f"sandbox {sandbox_id} not found")
        if not any(config.image.image in (image.id, *image.tags) for image in self._fake.store.values()):
            raise errors.RuntimeNotFound("CreateContainer", f"image {config.image.image} not found")
        id_ = self._fake.new_id()
        self._fake.configs[id_] = config
        self._fake.made[id_] = records.Container(
            id=id_,
            sandbox_id=sandbox_id,
            name=config.metadata.name,
            attempt=config.metadata.attempt,
            created_at=self._fake.now(),
            image=BUSYBOX,
            image_ref=config.image.image,
            labels=dict(config.labels),
            annotations=dict(config.annotations),
        )
        return id_

    async def start(self, container_id: str) -> None:
        self._fake.called("StartContainer")
        container = self._fake.made[container_id]
        started = dataclasses.replace(container, state="running", started_at=self._fake.now())
        self._fake.made[container_id] = started
        self._fake.changed(container.labels.get("io.kubernetes.pod.uid", ""), container_id)
        command = list(self._fake.configs[container_id].command)
        if command[:1] == ["/nonesuch"]:
            self._fake.exit(container_id, 128, reason="StartError")
            raise errors.RuntimeFault("StartContainer", "exec: /nonesuch: no such file or directory")
        if command[:2] == ["sh", "-c"] and command[2].startswith("exit"):
            self._fake.exit(container_id, int(command[2].split()[1]))

    async def stop(self, container_id: str, *, grace: int) -> None:
        self._fake.called(f"StopContainer {grace}")
        if container_id in self._fake.made and self._fake.made[container_id].state == "running":
            await asyncio.sleep(min(self._fake.stop_seconds, grace) / 20)  # a grace second passes in 50 ms
            self._fake.exit(container_id, 137 if grace < self._fake.stop_seconds else 143)

    async def remove(self, container_id: str) -> None:
        self._fake.called("RemoveContainer")
        self._fake.made.pop(container_id, None)

    async def status(self, container_id: str) -> records.Container:
        if container_id not in self._fake.made:
            raise errors.RuntimeNotFound("ContainerStatus", f"container {container_id} not found")
        return dataclasses.replace(self._fake.made[container_id], sandbox_id="")

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Container]:
        self._fake.called("ListContainers")
        found = [c for c in self._fake.made.values() if carries(c.labels, labels)]
        return [dataclasses.replace(c, started_at=0, finished_at=0, exit_code=0, reason="") for c in found]

    async def update(self, container_id: str, resources: cri.LinuxContainerResources) -> None:
        self._fake.called("UpdateContainerResources")
        self._fake.updates[container_id] = resources

    async def reopen_log(self, container_id: str) -> None:
        self._fake.called("ReopenContainerLog")


class Execs:
    def __init__(self, fake: FakeRuntime) -> None:
        self._fake = fake

    async def run(self, container_id: str, command: Sequence[str], *, timeout: float) -> records.ExecResult:
        self._fake.called(f"ExecSync {' '.join(command)}")
        container = self._fake.made.get(container_id)
        if container is None or container.state != "running":
            raise errors.RuntimeNotFound("ExecSync", f"container {container_id} is not running")
        if list(command[:1]) == ["echo"]:
            return records.ExecResult(stdout=" ".join(command[1:]).encode() + b"\n")
        return records.ExecResult(exit_code=1 if list(command) == ["false"] else 0)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        return f"http://127.0.0.1:1/exec/{container_id}"

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        return f"http://127.0.0.1:1/attach/{container_id}"

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        return f"http://127.0.0.1:1/portforward/{sandbox_id}"


class Images:
    def __init__(self, fake: FakeRuntime) -> None:
        self._fake = fake

    async def list(self) -> list[records.Image]:
        return list(self._fake.store.values())

    async def status(self, image: str) -> records.Image | None:
        return next((i for n, i in self._fake.store.items() if image in (n, i.id)), None)

    async def pull(
        self, image: str, *, auth: cri.AuthConfig | None = None, sandbox: cri.PodSandboxConfig | None = None
    ) -> str:
        self._fake.logins.append(auth.username if auth is not None else "")
        self._fake.called(f"PullImage {image}")
        if image not in self._fake.registry:
            raise errors.RuntimeFault("PullImage", f"failed to resolve {image}: not found")
        self._fake.store[image] = self._fake.registry[image]
        return image

    async def remove(self, image: str) -> None:
        self._fake.store.pop(image, None)

    async def usage(self) -> Mapping[str, int]:
        return {"/var/lib/fake": sum(i.size for i in self._fake.store.values())}
