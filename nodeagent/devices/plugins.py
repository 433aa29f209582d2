"""The plugins of this node: their registration, their devices as they come and go, and what they grant containers.

Owns the sockets and the file of who has what. Must not decide who gets what: `assign` does. One file system folder
holds it all: our socket, where plugins register, theirs, and the record that a restarted agent reads.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import msgspec

from kube import types
from kube.runtime import files
from kube.runtime.clock import Clock
from nodeagent.devices import assign
from nodeagent.devices.v1beta1 import devices_pb2 as api

log = logging.getLogger(__name__)

SOCKET: Final = "kubelet.sock"
RECORD: Final = "nodeagent_checkpoint.json"
VERSION: Final = "v1beta1"
SECONDS: Final = 10.0
UNHEALTHY: Final = "Unhealthy"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What plugins have a container given besides what its spec says."""

    envs: dict[str, str] = dataclasses.field(default_factory=dict)
    annotations: dict[str, str] = dataclasses.field(default_factory=dict)
    mounts: tuple[api.Mount, ...] = ()
    devices: tuple[api.DeviceSpec, ...] = ()
    cdi: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What is written down: who has what, and which resources plugins have brought: they are not there without one."""

    held: assign.Held
    resources: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin as it registered."""

    resource: str
    endpoint: str
    pre_start: bool


class DevicePlugins:
    """Every plugin of the node. `on_change` is called when the resources to be counted have changed."""

    def __init__(self, folder: Path, *, clock: Clock, on_change: Callable[[], None]) -> None:
        self._folder, self._clock, self._on_change = folder, clock, on_change
        self._plugins: dict[str, Plugin] = {}
        self._devices: dict[str, dict[str, str]] = {}
        self._held: assign.Held = {}
        self._registered: asyncio.Queue[Plugin] = asyncio.Queue()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._allocating = asyncio.Lock()

    @property
    def amounts(self) -> dict[str, tuple[int, int]]:
        """Capacity and what of it pods may have, by resource."""
        return assign.amounts(self._devices)

    async def run(self) -> None:
        """Listens for plugins and follows them until cancelled."""
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((registration(self._register),))
        try:
            await asyncio.to_thread(self._prepare)
            server.add_insecure_port(f"unix://{self._folder / SOCKET}")
        except (OSError, RuntimeError) as e:
            log.warning("no device plugin can register, pods run all the same: %s: %s", self._folder / SOCKET, e)
            return
        await server.start()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    plugin = await self._registered.get()
                    if (old := self._following.get(plugin.resource)) is not None:
                        old.cancel()
                    self._plugins[plugin.resource] = plugin
                    name = f"devices {plugin.resource}"
                    self._following[plugin.resource] = group.create_task(self._follow(plugin), name=name)
        finally:
            await server.stop(grace=None)

    async def allocate(self, pod: types.Pod, container: types.Container | types.EphemeralContainer) -> Granted:
        """Gives a container its devices. Raises NoDeviceError when there are too few, or a plugin refuses."""
        if isinstance(container, types.EphemeralContainer) or not assign.wanted(container, self._devices):
            return Granted()
        async with self._allocating:
            chosen = assign.choose(pod, container, devices=self._devices, held=self._held)
            if away := chosen.keys() - self._plugins.keys():
                raise assign.NoDeviceError(f"no device plugin for {', '.join(sorted(away))} is there")
            answers = [await self._ask(self._plugins[name], ids) for name, ids in chosen.items()]
            self._held.setdefault(pod.metadata.uid, {})[container.name] = chosen
            await asyncio.to_thread(self._record)
        return together(answers)

    async def release(self, uid: str) -> None:
        """Takes back what a pod had."""
        if self._held.pop(uid, None) is not None:
            await asyncio.to_thread(self._record)

    def _prepare(self) -> None:
        """A folder with the record alone: plugins register anew when they see our socket come."""
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.is_socket():
                path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
            kept = msgspec.json.decode((self._folder / RECORD).read_bytes(), type=Kept)
            self._held, self._devices = kept.held, {name: {} for name in kept.resources}

    def _record(self) -> None:
        kept = Kept(self._held, tuple(sorted(self._devices)))
        files.replace(self._folder / RECORD, msgspec.json.encode(kept))

    async def _register(self, request: api.RegisterRequest, context: Any) -> api.Empty:
        """A plugin says that it is there. One that speaks otherwise is refused with the reason."""
        name = request.resource_name
        if request.version != VERSION:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"version {request.version}: want {VERSION}")
        if "/" not in name or "kubernetes.io/" in name or "/" in request.endpoint or not request.endpoint:
            what = f"resource {name!r} at {request.endpoint!r}: want a name like example.com/device and a socket's"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, what)
        log.info("device plugin for %s at %s", name, request.endpoint)
        self._registered.put_nowait(Plugin(name, request.endpoint, request.options.pre_start_required))
        return api.Empty()

    @contextlib.asynccontextmanager
    async def _channel(self, plugin: Plugin) -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.insecure_channel(f"unix://{self._folder / plugin.endpoint}") as channel:
            yield channel

    async def _follow(self, plugin: Plugin) -> None:
        """Hears of its devices for as long as it lives; those of one that is gone are sick until it is back."""
        try:
            async with self._channel(plugin) as channel:
                call = channel.unary_stream(
                    f"/{VERSION}.DevicePlugin/ListAndWatch",
                    request_serializer=api.Empty.SerializeToString,
                    response_deserializer=api.ListAndWatchResponse.FromString,
                )
                async for answer in call(api.Empty()):
                    self._note(plugin, {device.ID: device.health for device in answer.devices})
        except grpc.aio.AioRpcError as e:
            log.warning("device plugin for %s: %s", plugin.resource, e.details())
        self._note(plugin, dict.fromkeys(self._devices.get(plugin.resource, {}), UNHEALTHY))

    def _note(self, plugin: Plugin, devices: dict[str, str]) -> None:
        if self._devices.get(plugin.resource) != devices:
            self._devices[plugin.resource] = devices
            self._on_change()

    async def _ask(self, plugin: Plugin, ids: tuple[str, ...]) -> api.ContainerAllocateResponse:
        request = api.AllocateRequest(container_requests=[api.ContainerAllocateRequest(devices_ids=ids)])
        try:
            async with self._channel(plugin) as channel:
                allocate = channel.unary_unary(
                    f"/{VERSION}.DevicePlugin/Allocate",
                    request_serializer=api.AllocateRequest.SerializeToString,
                    response_deserializer=api.AllocateResponse.FromString,
                )
                answer = await allocate(request, timeout=SECONDS)
                if plugin.pre_start:
                    start = channel.unary_unary(
                        f"/{VERSION}.DevicePlugin/PreStartContainer",
                        request_serializer=api.PreStartContainerRequest.SerializeToString,
                        response_deserializer=api.PreStartContainerResponse.FromString,
                    )
                    await start(api.PreStartContainerRequest(devices_ids=ids), timeout=SECONDS)
        except grpc.aio.AioRpcError as e:
            raise assign.NoDeviceError(f"device plugin for {plugin.resource}: {e.details()}") from e
        if len(answer.container_responses) != 1:
            raise assign.NoDeviceError(f"device plugin for {plugin.resource} did not answer for the one container")
        found: api.ContainerAllocateResponse = answer.container_responses[0]
        return found


def registration(register: Callable[[api.RegisterRequest, Any], Any]) -> Any:
    """The service plugins call, without generated code: it has one method."""
    method = grpc.unary_unary_rpc_method_handler(
        register,
        request_deserializer=api.RegisterRequest.FromString,
        response_serializer=api.Empty.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(f"{VERSION}.Registration", {"Register": method})


def together(answers: list[api.ContainerAllocateResponse]) -> Granted:
    """What several plugins grant one container; the first of equal names wins, as upstream has it."""
    granted = Granted()
    for answer in answers:
        granted = Granted(
            envs={**answer.envs, **granted.envs},
            annotations={**answer.annotations, **granted.annotations},
            mounts=(*granted.mounts, *answer.mounts),
            devices=(*granted.devices, *answer.devices),
            cdi=(*granted.cdi, *(each.name for each in answer.cdi_devices)),
        )
    return granted
