"""One try of one probe: exec, HTTP, TCP or gRPC.

Owns the choice of the mechanism and how each failure reads. Must not know thresholds or timing.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from typing import Protocol

from kube import types
from nodeagent import errors
from nodeagent.probes import grpc_health, http
from nodeagent.probes.plan import Outcome

_LATE = 0.25
"""Seconds. A deadline that our own loop noticed later than this says nothing about the container."""


class ExecResult(Protocol):
    """What a finished command printed, and its exit code."""

    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...
    @property
    def exit_code(self) -> int: ...


class Exec(Protocol):
    """Runs a command in a container."""

    async def __call__(self, container_id: str, command: Sequence[str], /, *, timeout: float) -> ExecResult:
        """Run to the end within `timeout` seconds. Raises errors.RuntimeFault."""


class Attempts:
    """Makes tries."""

    def __init__(self, exec: Exec) -> None:
        self._exec = exec
        self._tls: ssl.SSLContext | None = None

    async def make(
        self,
        probe: types.Probe,
        container: types.Container | types.EphemeralContainer,
        *,
        container_id: str,
        pod_ip: str,
    ) -> Outcome:
        """Try once; every failure is an outcome."""
        started, limit = time.monotonic(), float(probe.timeout_seconds)
        outcome = await self._once(probe, container, container_id, pod_ip, limit)
        late = time.monotonic() - started - limit
        if outcome.passed is False and late > _LATE and probe.exec is None:
            return Outcome(None, f"the agent was too busy to judge, {late:.1f} s late")
        return outcome

    async def _once(
        self,
        probe: types.Probe,
        container: types.Container | types.EphemeralContainer,
        container_id: str,
        pod_ip: str,
        limit: float,
    ) -> Outcome:
        if probe.exec:
            return await self._command(probe.exec.command, container_id, limit)
        try:
            if probe.http_get:
                port = port_number(probe.http_get.port, container)
                if self._tls is None:
                    self._tls = http.context()
                return await http.probe(http_target(probe.http_get, port, pod_ip), timeout=limit, tls=self._tls)
            if probe.tcp_socket:
                port = port_number(probe.tcp_socket.port, container)
                return await tcp(probe.tcp_socket.host or pod_ip, port, timeout=limit)
            if probe.grpc:
                return await grpc_health.probe(pod_ip, probe.grpc.port, service=probe.grpc.service or "", timeout=limit)
        except ValueError as e:
            return Outcome(False, str(e))
        return Outcome(None, "the probe has no handler")

    async def _command(self, command: Sequence[str], container_id: str, limit: float) -> Outcome:
        try:
            result = await self._exec(container_id, command, timeout=limit)
        except (errors.RuntimeUnavailable, errors.RuntimeNotFound) as e:
            return Outcome(None, str(e))
        except errors.RuntimeFault as e:
            return Outcome(False, e.message)
        text = (result.stdout + result.stderr)[: 10 * 1024].decode(errors="replace").rstrip()
        return Outcome(result.exit_code == 0, text)


def http_target(action: types.HTTPGetAction, port: int, pod_ip: str) -> http.Target:
    """Where an httpGet asks."""
    path = action.path if action.path.startswith("/") else "/" + action.path
    headers = tuple((header.name, header.value) for header in action.http_headers)
    return http.Target(scheme=action.scheme, host=action.host or pod_ip, port=port, path=path, headers=headers)


def port_number(port: int | str, container: types.Container | types.EphemeralContainer) -> int:
    """The number behind a port that may be named. Raises ValueError."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for candidate in container.ports:
        if candidate.name == port:
            return candidate.container_port
    raise ValueError(f"couldn't find port: {port} in container {container.name}")


async def tcp(host: str, port: int, *, timeout: float) -> Outcome:
    """Pass if a connection opens within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Outcome(False, f"dial tcp {host}:{port}: i/o timeout")
    except OSError as e:
        return Outcome(False, http.explain(e, host, port))
    writer.close()
    return Outcome(True)
