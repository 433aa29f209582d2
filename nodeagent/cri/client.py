"""The real Runtime: CRI v1 by grpc.aio over one unix socket. Every call has its deadline from the contract page.

It turns gRPC's errors into ours and reconnects by itself; what a failure means is decided elsewhere.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from nodeagent import errors
from nodeagent.cri import convert, records
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.cri.v1 import cri_pb2_grpc

MAX_MESSAGE: Final = 16 * 1024 * 1024
REQUEST: Final = 120.0  # runtimeRequestTimeout, seconds
RUN_SANDBOX: Final = 2 * REQUEST
LOOK: Final = 10.0  # version and status: an answer later than this is no answer
CRI_IS_OFF: Final = "unknown service runtime.v1"

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)


def fault(call: str, error: grpc.aio.AioRpcError) -> errors.RuntimeFault:
    """Our error for a failed call."""
    code, message = error.code(), error.details() or str(error.code().name)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return (errors.CriDisabled if CRI_IS_OFF in message else errors.RuntimeUnimplemented)(call, message)
    kind = {
        grpc.StatusCode.NOT_FOUND: errors.RuntimeNotFound,
        grpc.StatusCode.UNAVAILABLE: errors.RuntimeUnavailable,
        grpc.StatusCode.DEADLINE_EXCEEDED: errors.RuntimeUnavailable,
    }.get(code, errors.RuntimeFault)
    return kind(call, message)


class Calls:
    """One stub, by method name. The groups below share it."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def __call__(self, method: str, request: Any, *, timeout: float | None = REQUEST) -> Any:
        try:
            return await getattr(self._stub, method)(request, timeout=timeout)
        except grpc.aio.AioRpcError as e:
            raise fault(method, e) from e
        except grpc.aio.UsageError as e:
            raise errors.RuntimeUnavailable(method, f"the connection is closed: {e}") from e

    async def quiet(self, method: str, request: Any, *, timeout: float | None = REQUEST) -> None:
        """A call for which 'not found' is success: stop and remove."""
        try:
            await self(method, request, timeout=timeout)
        except errors.RuntimeNotFound:
            return

    def stream(self, method: str, request: Any) -> Any:
        """Opens a server stream; its errors are gRPC's still."""
        return getattr(self._stub, method)(request)


class GrpcSandboxes:
    """Sandboxes over gRPC."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def run(self, config: cri.PodSandboxConfig, *, handler: str = "") -> str:
        """See `runtime.Sandboxes`."""
        request = cri.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return str((await self._calls("RunPodSandbox", request, timeout=RUN_SANDBOX)).pod_sandbox_id)

    async def stop(self, sandbox_id: str) -> None:
        """See `runtime.Sandboxes`."""
        await self._calls.quiet("StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def remove(self, sandbox_id: str) -> None:
        """See `runtime.Sandboxes`."""
        await self._calls.quiet("RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def status(self, sandbox_id: str) -> records.Sandbox:
        """See `runtime.Sandboxes`."""
        answer = await self._calls("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id))
        return convert.sandbox(answer.status)

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Sandbox]:
        """See `runtime.Sandboxes`."""
        filter_ = cri.PodSandboxFilter(label_selector=labels)
        answer = await self._calls("ListPodSandbox", cri.ListPodSandboxRequest(filter=filter_))
        return [convert.listed_sandbox(item) for item in answer.items]


class GrpcContainers:
    """Containers over gRPC."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, sandbox_id: str, config: cri.ContainerConfig, *, sandbox: cri.PodSandboxConfig) -> str:
        """See `runtime.Containers`."""
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox)
        return str((await self._calls("CreateContainer", request)).container_id)

    async def start(self, container_id: str) -> None:
        """See `runtime.Containers`."""
        await self._calls("StartContainer", cri.StartContainerRequest(container_id=container_id))

    async def stop(self, container_id: str, *, grace: int) -> None:
        """See `runtime.Containers`."""
        request = cri.StopContainerRequest(container_id=container_id, timeout=grace)
        await self._calls.quiet("StopContainer", request, timeout=grace + REQUEST)

    async def remove(self, container_id: str) -> None:
        """See `runtime.Containers`."""
        await self._calls.quiet("RemoveContainer", cri.RemoveContainerRequest(container_id=container_id))

    async def status(self, container_id: str) -> records.Container:
        """See `runtime.Containers`."""
        answer = await self._calls("ContainerStatus", cri.ContainerStatusRequest(container_id=container_id))
        return convert.container(answer.status)

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Container]:
        """See `runtime.Containers`."""
        filter_ = cri.ContainerFilter(label_selector=labels)
        answer = await self._calls("ListContainers", cri.ListContainersRequest(filter=filter_))
        return [convert.listed_container(item) for item in answer.containers]

    async def update(self, container_id: str, resources: cri.LinuxContainerResources) -> None:
        """See `runtime.Containers`."""
        request = cri.UpdateContainerResourcesRequest(container_id=container_id, linux=resources)
        await self._calls("UpdateContainerResources", request)

    async def reopen_log(self, container_id: str) -> None:
        """See `runtime.Containers`."""
        await self._calls("ReopenContainerLog", cri.ReopenContainerLogRequest(container_id=container_id))


class GrpcExecs:
    """Commands and stream addresses over gRPC."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def run(self, container_id: str, command: Sequence[str], *, timeout: float) -> records.ExecResult:
        """See `runtime.Execs`."""
        whole = max(1, round(timeout)) if timeout else 0
        request = cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=whole)
        answer = await self._calls("ExecSync", request, timeout=timeout + REQUEST if timeout else None)
        return records.ExecResult(stdout=answer.stdout, stderr=answer.stderr, exit_code=answer.exit_code)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """See `runtime.Execs`."""
        request = cri.ExecRequest(
            container_id=container_id, cmd=command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return str((await self._calls("Exec", request)).url)

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        """See `runtime.Execs`."""
        request = cri.AttachRequest(container_id=container_id, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        return str((await self._calls("Attach", request)).url)

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        """See `runtime.Execs`."""
        request = cri.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await self._calls("PortForward", request)).url)


class GrpcImages:
    """Images over gRPC."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self) -> list[records.Image]:
        """See `runtime.Images`."""
        return [convert.image(item) for item in (await self._calls("ListImages", cri.ListImagesRequest())).images]

    async def status(self, image: str) -> records.Image | None:
        """See `runtime.Images`."""
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=image))
        answer = await self._calls("ImageStatus", request)
        return convert.image(answer.image) if answer.image.id else None

    async def pull(
        self, image: str, *, auth: cri.AuthConfig | None = None, sandbox: cri.PodSandboxConfig | None = None
    ) -> str:
        """See `runtime.Images`."""
        request = cri.PullImageRequest(image=cri.ImageSpec(image=image), auth=auth, sandbox_config=sandbox)
        return str((await self._calls("PullImage", request, timeout=None)).image_ref)

    async def remove(self, image: str) -> None:
        """See `runtime.Images`."""
        await self._calls.quiet("RemoveImage", cri.RemoveImageRequest(image=cri.ImageSpec(image=image)))

    async def usage(self) -> Mapping[str, int]:
        """See `runtime.Images`."""
        answer = await self._calls("ImageFsInfo", cri.ImageFsInfoRequest())
        return {fs.fs_id.mountpoint: fs.used_bytes.value for fs in answer.image_filesystems}


class GrpcRuntime:
    """A runtime behind a unix socket. Make it inside the running loop: a gRPC channel belongs to one."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.aio.insecure_channel(endpoint, options=OPTIONS)
        calls = Calls(cri_pb2_grpc.RuntimeServiceStub(self._channel))  # type: ignore[no-untyped-call]
        self._calls = calls
        self.sandboxes = GrpcSandboxes(calls)
        self.containers = GrpcContainers(calls)
        self.execs = GrpcExecs(calls)
        self.images = GrpcImages(Calls(cri_pb2_grpc.ImageServiceStub(self._channel)))  # type: ignore[no-untyped-call]
        self._version: cri.VersionResponse | None = None
        self._config: cri.RuntimeConfigResponse | None = None

    async def info(self) -> records.RuntimeInfo:
        """See `runtime.Runtime`. Version and driver are asked once: they change only with the process."""
        status = await self._calls("Status", cri.StatusRequest(), timeout=LOOK)
        if self._version is None:
            self._version = await self._calls("Version", cri.VersionRequest(version="0.1.0"), timeout=LOOK)
            self._config = await self._runtime_config()
        return convert.info(self._version, status, self._config)

    async def _runtime_config(self) -> cri.RuntimeConfigResponse | None:
        try:
            answer: cri.RuntimeConfigResponse = await self._calls(
                "RuntimeConfig", cri.RuntimeConfigRequest(), timeout=LOOK
            )
        except errors.RuntimeUnimplemented:
            return None
        return answer

    async def events(self) -> AsyncIterator[records.RuntimeEvent]:
        """See `runtime.Runtime`."""
        try:
            async for event in self._calls.stream("GetContainerEvents", cri.GetEventsRequest()):
                uid = event.pod_sandbox_status.metadata.uid
                if uid:
                    yield records.RuntimeEvent(pod_uid=uid, container_id=event.container_id)
        except grpc.aio.AioRpcError as e:
            raise fault("GetContainerEvents", e) from e

    async def close(self) -> None:
        """See `runtime.Runtime`."""
        await self._channel.close(grace=None)
