"""A transport that calls an ASGI application directly: the control plane's own parts speak the same API as everyone.

Owns the small part of HTTP that remains without a socket: scope, body, chunks with back-pressure, deadlines.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, urlencode

import kube.runtime.log
from kube.client.errors import Unreachable
from kube.client.identity import User
from kube.client.transport import Response, StreamResponse

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

MAX_CHUNKS_AHEAD = 16


class InProcessTransport:
    """Asks an application as `user`, who is put into `scope["state"]["user"]` and needs no further proof."""

    def __init__(self, app: Application, user: User) -> None:
        self._app, self._user = app, user

    @property
    def server(self) -> str:
        return "the API server in this process"

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """See `Transport.request`."""
        exchange = _Whole(body)
        try:
            async with asyncio.timeout(timeout):
                await self._app(self._scope(method, path, params, headers, body), exchange.receive, exchange.send)
        except TimeoutError as error:
            raise Unreachable(self.server, f"no answer to {method} {path} within {timeout:g} s") from error
        except Exception as error:
            raise self._broken(method, path, error) from error
        if exchange.status is None:
            raise Unreachable(self.server, f"{method} {path} was not answered")
        return Response(exchange.status, exchange.headers, b"".join(exchange.chunks))

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> AsyncIterator[StreamResponse]:
        """See `Transport.stream`."""
        exchange = _Streamed(body)
        scope = self._scope(method, path, params, headers, body)
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._serve(scope, exchange), name=f"in-process {path}")
            try:
                yield await self._head(exchange, f"{method} {path}", timeout)
            except (Exception, GeneratorExit) as error:
                failure = error
            finally:
                exchange.disconnected.set()
                serving.cancel()
        if failure is not None:  # raised outside of the group, which would wrap it
            raise failure

    async def _head(self, exchange: "_Streamed", what: str, timeout: float) -> StreamResponse:
        try:
            async with asyncio.timeout(timeout):
                await exchange.started.wait()
        except TimeoutError as error:
            raise Unreachable(self.server, f"no answer to {what} within {timeout:g} s") from error
        if exchange.status is None:
            raise Unreachable(self.server, f"{what} was not answered")
        return StreamResponse(exchange.status, exchange.headers, exchange.chunks())

    async def close(self) -> None:
        """Nothing is held."""

    async def _serve(self, scope: Message, exchange: "_Streamed") -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            kube.runtime.log.failure(log, f"{scope['method']} {scope['path']} in this process failed", error)
            exchange.broken = kube.runtime.log.describe(error)
        await exchange.finish()

    def _broken(self, method: str, path: str, error: Exception) -> Unreachable:
        kube.runtime.log.failure(log, f"{method} {path} in this process failed", error)
        return Unreachable(self.server, f"{method} {path} failed: {kube.runtime.log.describe(error)}")

    def _scope(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: bytes | None,
    ) -> Message:
        wire = [(b"host", b"kubernetes.default.svc")]
        wire += [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in (headers or {}).items()]
        if body is not None:
            wire.append((b"content-length", str(len(body)).encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": urlencode(params or {}).encode(),
            "root_path": "",
            "headers": wire,
            "client": None,
            "server": None,
            "state": {"user": self._user},
            "extensions": {},
        }


class _Whole:
    """Collects one answer; nothing runs beside the caller."""

    def __init__(self, body: bytes | None) -> None:
        self._body: bytes | None = body or b""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []

    async def receive(self) -> Message:
        if self._body is None:
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], _decoded(message.get("headers", ()))
        elif body := message.get("body"):
            self.chunks.append(bytes(body))


class _Streamed:
    """Hands chunks over as they are sent, at most MAX_CHUNKS_AHEAD of them before the sender waits."""

    def __init__(self, body: bytes | None) -> None:
        self._body: bytes | None = body or b""
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_CHUNKS_AHEAD)
        self.started, self.disconnected = asyncio.Event(), asyncio.Event()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.broken: str | None = None

    async def receive(self) -> Message:
        if self._body is None:
            await self.disconnected.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], _decoded(message.get("headers", ()))
            self.started.set()
        elif body := message.get("body"):
            await self._queue.put(bytes(body))

    async def finish(self) -> None:
        self.started.set()
        await self._queue.put(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._queue.get()) is not None:
            yield chunk
        if self.broken is not None:
            raise Unreachable("the API server in this process", self.broken)


def _decoded(headers: Any) -> dict[str, str]:
    return {bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1") for name, value in headers}
