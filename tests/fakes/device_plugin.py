"""A device plugin as others write them: registers, tells its devices, grants each as an environment variable."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from nodeagent.devices.v1beta1 import devices_pb2 as api


class FakePlugin:
    """Serves on a socket beside the kubelet's. `devices` may be changed while it runs: call `tell`."""

    def __init__(self, folder: Path, resource: str = "example.com/thing", *, count: int = 2) -> None:
        self.folder, self.resource = folder, resource
        self.endpoint = resource.replace("/", "_") + ".sock"
        self.devices = {f"d{number}": "Healthy" for number in range(count)}
        self.asked: list[tuple[str, ...]] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "FakePlugin":
        self.server = grpc.aio.server()
        handlers = {
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self.watch,
                request_deserializer=api.Empty.FromString,
                response_serializer=api.ListAndWatchResponse.SerializeToString,
            ),
            "Allocate": grpc.unary_unary_rpc_method_handler(
                self.allocate,
                request_deserializer=api.AllocateRequest.FromString,
                response_serializer=api.AllocateResponse.SerializeToString,
            ),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", handlers),))
        self.server.add_insecure_port(f"unix://{self.folder / self.endpoint}")
        await self.server.start()
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self.server.stop(grace=None)

    async def register(self, *, version: str = "v1beta1") -> None:
        async with grpc.aio.insecure_channel(f"unix://{self.folder / 'kubelet.sock'}") as channel:
            call = channel.unary_unary(
                "/v1beta1.Registration/Register",
                request_serializer=api.RegisterRequest.SerializeToString,
                response_deserializer=api.Empty.FromString,
            )
            request = api.RegisterRequest(version=version, endpoint=self.endpoint, resource_name=self.resource)
            await call(request, timeout=5, wait_for_ready=True)

    def tell(self) -> None:
        self._changed.set()

    async def watch(self, request: api.Empty, context: Any) -> AsyncIterator[api.ListAndWatchResponse]:
        while True:
            self._changed.clear()
            devices = [api.Device(ID=name, health=health) for name, health in self.devices.items()]
            yield api.ListAndWatchResponse(devices=devices)
            await self._changed.wait()

    async def allocate(self, request: api.AllocateRequest, context: Any) -> api.AllocateResponse:
        [wanted] = request.container_requests
        self.asked.append(tuple(wanted.devices_ids))
        granted = api.ContainerAllocateResponse(
            envs={"THINGS": ",".join(wanted.devices_ids)},
            devices=[api.DeviceSpec(container_path="/dev/thing", host_path="/dev/null", permissions="rw")],
            mounts=[api.Mount(container_path="/thing", host_path="/opt/thing", read_only=True)],
            annotations={"example.com/granted": "yes"},
            cdi_devices=[api.CDIDevice(name="example.com/thing=all")],
        )
        return api.AllocateResponse(container_responses=[granted])
