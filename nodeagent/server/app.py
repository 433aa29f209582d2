"""The kubelet's API as an ASGI application: who may, and which handler answers which path.

Owns the routes and the error replies. Must not know how a handler does its work.
Paths follow the 1.36 kubelet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry

from kube.runtime import metrics
from nodeagent import errors
from nodeagent.server import hostlogs
from nodeagent.server.access import Access, AccessError
from nodeagent.server.exchange import Exchange, Receive, ReplyError, Scope, Send
from nodeagent.server.locate import Locator
from nodeagent.server.reading import Reading
from nodeagent.server.streaming import Streaming

log = logging.getLogger(__name__)

Health = Callable[[], str | None]
"""None when healthy, else the reason."""

_RUN_SECONDS = 120.0
_Handler = Callable[[Exchange, list[str]], Awaitable[None]]


class App:
    """Answers requests to port 10250."""

    def __init__(
        self,
        *,
        access: Access,
        locator: Locator,
        reading: Reading,
        streaming: Streaming,
        run: Callable[..., Awaitable[object]],
        registry: CollectorRegistry,
        health: Health,
    ) -> None:
        self._access = access
        self._locator = locator
        self._reading = reading
        self._streaming = streaming
        self._run = run
        self._registry = registry
        self._health = health
        self._routes: dict[str, tuple[tuple[str, ...], _Handler]] = {
            "healthz": (("GET",), self._healthz),
            "pods": (("GET",), lambda exchange, _: reading.pods(exchange)),
            "runningpods": (("GET",), lambda exchange, _: reading.running_pods(exchange)),
            "configz": (("GET",), lambda exchange, _: reading.configz(exchange)),
            "metrics": (("GET",), self._metrics),
            "stats": (("GET",), self._stats),
            "containerLogs": (("GET",), self._logs),
            "exec": (("GET", "POST"), self._exec),
            "attach": (("GET", "POST"), self._attach),
            "portForward": (("GET", "POST"), self._port_forward),
            "run": (("POST",), self._run_command),
            "logs": (("GET",), self._host_logs),
            "checkpoint": (("POST",), self._checkpoint),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        try:
            await self._access.check(
                exchange.method, exchange.path, certificate=exchange.certificate, headers=exchange.headers
            )
            await self._dispatch(exchange)
        except (AccessError, ReplyError) as e:
            if exchange.started:
                log.info("%s %s: %s", exchange.method, exchange.path, e)
                return
            await exchange.text(str(e), status=e.status)

    async def _dispatch(self, exchange: Exchange) -> None:
        first, *rest = exchange.path.strip("/").split("/")
        if first not in self._routes:
            raise ReplyError(404, "404 page not found")
        methods, handler = self._routes[first]
        if exchange.method not in methods:
            raise ReplyError(405, "405: Method Not Allowed")
        await handler(exchange, rest)

    async def _healthz(self, exchange: Exchange, _: list[str]) -> None:
        await answer_health(exchange, self._health)

    async def _metrics(self, exchange: Exchange, rest: list[str]) -> None:
        match rest:
            case []:
                await exchange.text(metrics.exposition(self._registry), kind=metrics.CONTENT_TYPE)
            case ["resource"]:
                await self._reading.resource_metrics(exchange)
            case ["cadvisor"]:
                await self._reading.cadvisor_metrics(exchange)
            case ["probes"]:
                await exchange.text(self._reading.probe_metrics(), kind=metrics.CONTENT_TYPE)
            case _:
                raise ReplyError(404, "404 page not found")

    async def _stats(self, exchange: Exchange, rest: list[str]) -> None:
        if rest != ["summary"]:
            raise ReplyError(404, "404 page not found")
        await self._reading.summary(exchange)

    async def _logs(self, exchange: Exchange, rest: list[str]) -> None:
        namespace, name, container = _parts(rest, 3)
        await self._reading.logs(exchange, namespace, name, container)

    async def _host_logs(self, exchange: Exchange, rest: list[str]) -> None:
        if "query" in exchange.parameters:
            raise ReplyError(403, "the node log query feature is disabled (enableSystemLogQuery)")
        found = await asyncio.to_thread(hostlogs.look, "/".join(rest))
        if found.file < 0:
            await exchange.text(found.listing, kind="text/html; charset=utf-8")
            return
        await exchange.begin_stream()
        async for piece in hostlogs.pieces(found):
            await exchange.piece(piece)
        await exchange.piece(b"", last=True)

    async def _checkpoint(self, exchange: Exchange, rest: list[str]) -> None:
        """Refused: no runtime this agent is tried with can freeze a container to a file."""
        namespace, name, container = _parts(rest, 3)
        pod = self._locator.pod(namespace, name)
        await self._locator.running(pod, container)
        raise ReplyError(
            500, f"checkpointing of {namespace}/{name}/{container} failed (the container runtime does not support it)"
        )

    async def _exec(self, exchange: Exchange, rest: list[str]) -> None:
        await self._streaming.exec(exchange, await self._container(rest))

    async def _attach(self, exchange: Exchange, rest: list[str]) -> None:
        await self._streaming.attach(exchange, await self._container(rest))

    async def _port_forward(self, exchange: Exchange, rest: list[str]) -> None:
        namespace, name, uid = (*rest, "") if len(rest) == 2 else _parts(rest, 3)
        pod = self._locator.pod(namespace, name, uid=uid)
        await self._streaming.port_forward(exchange, (await self._locator.sandbox(pod)).id)

    async def _run_command(self, exchange: Exchange, rest: list[str]) -> None:
        container_id = await self._container(rest)
        command = exchange.parameter("cmd").split(" ")
        try:
            result = await self._run(container_id, command, timeout=_RUN_SECONDS)
        except errors.RuntimeFault as e:
            raise ReplyError(500, str(e)) from e
        output = getattr(result, "stdout", b"") + getattr(result, "stderr", b"")
        code = getattr(result, "exit_code", 0)
        if code:
            raise ReplyError(
                500, f"command '{' '.join(command)}' exited with {code}: {output.decode(errors='replace')}"
            )
        await exchange.text(output)

    async def _container(self, rest: list[str]) -> str:
        """The id of the running container that `ns/pod/[uid/]container` names."""
        namespace, name, uid, container = (rest[0], rest[1], "", rest[2]) if len(rest) == 3 else _parts(rest, 4)
        pod = self._locator.pod(namespace, name, uid=uid)
        return (await self._locator.running(pod, container)).id


async def answer_health(exchange: Exchange, health: Health) -> None:
    """Say ok, or what is wrong."""
    reason = health()
    await exchange.text("ok" if reason is None else f"unhealthy: {reason}", status=200 if reason is None else 500)


class HealthApp:
    """The plain health port: whoever gets an answer knows that the agent's loop turns."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        if exchange.path != "/healthz":
            await exchange.text("404 page not found", status=404)
            return
        await answer_health(exchange, self._health)


def _parts(rest: list[str], count: int) -> list[str]:
    if len(rest) != count or not all(rest):
        raise ReplyError(404, "404 page not found")
    return rest
