"""Replies that only read: pods, logs, figures, settings.

Owns their bodies. Must not know who is asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kube import types
from kube.runtime import clock as clocks
from nodeagent import errors
from nodeagent.cri import records
from nodeagent.cri.runtime import Runtime
from nodeagent.logs import line, read
from nodeagent.probes.prober import Tally
from nodeagent.server.exchange import Exchange, ReplyError
from nodeagent.server.locate import Locator
from nodeagent.stats import collect, metrics
from nodeagent.stats import summary as summaries

Figures = collect.Collector
VERSION = "nodeagent"


class Reading:
    """Handlers that change nothing."""

    def __init__(
        self,
        *,
        locator: Locator,
        runtime: Runtime,
        clock: clocks.Clock,
        figures: Figures,
        configz: Callable[[], Mapping[str, Any]],
        probed: Callable[[], Mapping[Tally, int]] = dict,
    ) -> None:
        self._locator = locator
        self._runtime = runtime
        self._clock = clock
        self._figures = figures
        self._configz = configz
        self._probed = probed

    async def pods(self, exchange: Exchange) -> None:
        """The pods of this node, with the fields the agent reads."""
        items = [_identified(pod) for pod in self._locator.pods()]
        await exchange.json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def running_pods(self, exchange: Exchange) -> None:
        """The pods the runtime has running, whatever their objects say."""
        try:
            sandboxes = await self._runtime.sandboxes.list()
            containers = await self._runtime.containers.list()
        except errors.RuntimeFault as e:
            raise ReplyError(500, str(e)) from e
        items = [_running(box, containers) for box in sandboxes if box.ready]
        await exchange.json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def configz(self, exchange: Exchange) -> None:
        """The settings in force."""
        await exchange.json({"kubeletconfig": self._configz()})

    async def summary(self, exchange: Exchange) -> None:
        """Figures of the node and its pods."""
        brief = exchange.parameter("only_cpu_and_memory") in ("1", "true")
        found = await asyncio.to_thread(self._figures, disk=not brief)
        await exchange.json(summaries.summary(found, only_cpu_and_memory=brief))

    async def resource_metrics(self, exchange: Exchange) -> None:
        """What metrics-server reads."""
        found = await asyncio.to_thread(self._figures)
        await exchange.text(metrics.resource(found), kind=metrics.CONTENT_TYPE)

    def probe_metrics(self) -> str:
        """How often each probe has passed and failed."""
        return metrics.probes(self._probed().items())

    async def cadvisor_metrics(self, exchange: Exchange) -> None:
        """What Prometheus reads of containers."""
        found = await asyncio.to_thread(self._figures)
        await exchange.text(metrics.cadvisor(found, version=VERSION), kind=metrics.CONTENT_TYPE)

    async def logs(self, exchange: Exchange, namespace: str, name: str, container: str) -> None:
        """A container's log, as the query wants it."""
        first = {key: values[0] for key, values in exchange.parameters.items()}
        try:
            query = line.query(first, now=self._clock.now())
        except line.QueryError as e:
            raise ReplyError(422, str(e)) from e
        pod = self._locator.pod(namespace, name)
        path, container_id = await self._log_of(pod, container, previous=exchange.flag("previous"))
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send_log(exchange, path, query, container_id))
                watching = group.create_task(_cancel_when_gone(exchange, sending))
                await asyncio.wait([sending])
                watching.cancel()
        except ExceptionGroup as e:
            raise e.exceptions[0] from None

    async def _send_log(self, exchange: Exchange, path: Path, query: line.Query, container_id: str) -> None:
        async def running() -> bool:
            try:
                return (await self._runtime.containers.status(container_id)).state == "running"
            except errors.RuntimeNotFound:
                return False
            except errors.RuntimeFault:
                return True  # the runtime restarts; the container goes on, and so does its log

        try:
            if not await asyncio.to_thread(path.exists):
                raise ReplyError(404, f"the log file {path} of container {container_id} does not exist")
            await exchange.begin_stream()
            async for piece in read.read(path, query, running=running):
                await exchange.piece(piece)
        except read.LogError as e:
            if not exchange.started:
                raise ReplyError(500, str(e)) from e
            await exchange.piece(f"{e}\n".encode())
        await exchange.piece(b"", last=True)

    async def _log_of(self, pod: types.Pod, container: str, *, previous: bool) -> tuple[Path, str]:
        runs = await self._locator.containers(pod, container)
        started = [run for run in runs if run.state in ("running", "exited")]
        if previous:
            started = [run for run in runs if run.state == "exited" and run is not runs[0]][:1] or _lone_dead(runs)
            if not started:
                text = f'previous terminated container "{container}" in pod "{pod.metadata.name}" not found'
                raise ReplyError(400, text)
        if not started:
            raise ReplyError(
                400, f'container "{container}" in pod "{pod.metadata.name}" {_not_started(pod, container)}'
            )
        try:
            status = await self._runtime.containers.status(started[0].id)
        except errors.RuntimeFault as e:
            raise ReplyError(500, str(e)) from e
        return Path(status.log_path), status.id


async def _cancel_when_gone(exchange: Exchange, sending: asyncio.Task[None]) -> None:
    await exchange.gone()
    sending.cancel()


_PULLS = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}


def _not_started(pod: types.Pod, container: str) -> str:
    """Say why a container has no log yet, as its status knows it."""
    status = pod.status
    for seen in (*status.container_statuses, *status.init_container_statuses, *status.ephemeral_container_statuses):
        if seen.name == container and seen.state.waiting is not None:
            reason = seen.state.waiting.reason
            return f"is waiting to start: {_PULLS.get(reason, reason)}"
    return "is waiting to start - no logs yet"


def _lone_dead(runs: list[records.Container]) -> list[records.Container]:
    """A container that waits for its restart has only its previous run."""
    return runs[:1] if runs and runs[0].state == "exited" and runs[0].attempt > 0 else []


def _identified(pod: types.Pod) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(pod)
    return {"kind": "Pod", "apiVersion": "v1"} | fields


def _running(box: records.Sandbox, containers: list[records.Container]) -> dict[str, Any]:
    own = [{"name": c.name, "image": c.image} for c in containers if c.sandbox_id == box.id and c.state == "running"]
    return {"metadata": {"name": box.name, "namespace": box.namespace, "uid": box.uid}, "spec": {"containers": own}}
