"""The real API server over a store in memory, asked without a socket: requests in, status and plain values out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from controlplane import bootstrap, config
from controlplane.apiserver import app
from controlplane.server import prepare
from controlplane.store.storage import Storage
from kube.client.identity import User
from kube.client.inprocess import InProcessTransport
from kube.client.transport import Response
from kube.runtime import metrics
from kube.runtime.clock import SystemClock
from tests.fakes.memory_store import MemoryBackend

Object = dict[str, Any]
ADMIN = User("admin", ("system:masters",))
JSON = {"content-type": "application/json"}


class Harness:
    """One API server; every helper asserts nothing and answers (code, body)."""

    def __init__(
        self, server: app.ApiServer, storage: Storage, backend: MemoryBackend, settings: config.Settings
    ) -> None:
        self.server = server
        self.storage = storage
        self.backend = backend
        self.settings = settings

    async def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: User = ADMIN,
        headers: Mapping[str, str] = JSON,
        **params: str,
    ) -> Response:
        """One request with a body of bytes."""
        transport = InProcessTransport(self.server.app, user)
        return await transport.request(method, path, params=params, headers=headers, body=body)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: User = ADMIN,
        headers: Mapping[str, str] = JSON,
        **params: str,
    ) -> tuple[int, Object]:
        """One request with a JSON body."""
        data = None if body is None else orjson.dumps(body)
        answer = await self.raw(method, path, data, user=user, headers=headers, **params)
        return answer.status, orjson.loads(answer.body) if answer.body else {}

    async def watch(
        self, path: str, *, user: User = ADMIN, seconds: float = 2.0, **params: str
    ) -> AsyncIterator[Object]:
        """The events of a watch, until it ends or for `seconds`."""
        transport = InProcessTransport(self.server.app, user)
        async with transport.stream("GET", path, params={"watch": "1", **params}) as answer, asyncio.timeout(seconds):
            rest = b""
            async for chunk in answer.chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield orjson.loads(line)


@asynccontextmanager
async def harness(folder: Path) -> AsyncIterator[Harness]:
    """A fresh server with the objects every cluster starts with."""
    raw = config.ServerConfiguration(
        data_dir=str(folder / "data"),
        pki_dir=str(folder / "pki"),
        listen=["127.0.0.1:6443"],
        advertise_address="192.0.2.1",
    )
    settings = config.check(raw)
    if not (settings.pki / "ca.crt").exists():
        prepare(settings)
    backend = MemoryBackend()
    storage = Storage(backend)
    app.register(storage)
    await storage.open()
    registry = metrics.registry()
    server = app.build(settings, storage, clock=SystemClock(), registry=registry, exposition=lambda: b"")
    await bootstrap.ensure(server.context.objects, settings, client_ca="CA")
    made = Harness(server, storage, backend, settings)
    await made.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    try:
        yield made
    finally:
        await storage.close()
