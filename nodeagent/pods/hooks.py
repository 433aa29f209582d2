"""Lifecycle hooks: postStart and preStop by exec, httpGet or sleep. It knows nothing of when they run."""

import asyncio
import dataclasses
import ssl
from typing import Final

from kube import types
from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import runtime
from nodeagent.pods import spec
from nodeagent.probes import attempt, http

SHOWN: Final = 1024
HTTP_TIMEOUT: Final = 30.0
USER_AGENT: Final = "kube-lifecycle/1.36"


class HookError(errors.NodeagentError):
    """A hook failed; the message is the event's."""


async def run(
    handler: types.LifecycleHandler,
    container: spec.AnyContainer,
    container_id: str,
    *,
    pod_ip: str,
    timeout: float | None,
    execs: runtime.Execs,
    clock: Clock,
) -> str:
    """Runs one hook to its end; HookError if it fails or takes longer than `timeout` seconds.

    Returns the host that was asked by HTTP in place of HTTPS, "" as a rule.
    """
    try:
        async with asyncio.timeout(timeout):
            if handler.exec is not None:
                await command(handler.exec, container_id, timeout=timeout, execs=execs)
            elif handler.http_get is not None:
                return await ask(handler.http_get, container, pod_ip=pod_ip)
            elif handler.sleep is not None:
                await clock.sleep(handler.sleep.seconds)
            elif handler.tcp_socket is not None:
                raise HookError("tcpSocket is not supported in lifecycle hooks")
    except TimeoutError as e:
        raise HookError(f"the hook did not end within {timeout:.0f} s") from e
    return ""


async def command(action: types.ExecAction, container_id: str, *, timeout: float | None, execs: runtime.Execs) -> None:
    """An exec hook; a non-zero exit is a failure."""
    shown = f"Exec lifecycle hook ({list(action.command)})"
    try:
        result = await execs.run(container_id, action.command, timeout=timeout or 0)
    except errors.RuntimeFault as e:
        raise HookError(f"{shown} failed: {e.message}") from e
    if result.exit_code:
        output = (result.stdout + result.stderr)[:SHOWN].decode(errors="replace")
        raise HookError(f"{shown} failed - error: command exited with {result.exit_code}, message: {output!r}")


async def ask(action: types.HTTPGetAction, container: spec.AnyContainer, *, pod_ip: str) -> str:
    """An httpGet hook; any answer is a success, as upstream counts it. Plain HTTP is tried where HTTPS was meant.

    Returns the host that turned out to speak plain HTTP, "" as a rule.
    """
    shown = f"HTTP lifecycle hook ({action.path}) failed - error"
    try:
        port = attempt.port_number(action.port, container)
    except ValueError as e:
        raise HookError(f"{shown}: {e}") from e
    target = dataclasses.replace(attempt.http_target(action, port, pod_ip), user_agent=USER_AGENT)
    try:
        async with asyncio.timeout(HTTP_TIMEOUT):
            try:
                await http.get(target, tls=http.context())
            except ssl.SSLError:
                await http.get(without_secrets(target), tls=http.context())
                return f"{target.host}:{target.port}"
    except TimeoutError as e:
        raise HookError(f"{shown}: no answer within {HTTP_TIMEOUT:.0f} s") from e
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
        raise HookError(f"{shown}: {http.explain(e, target.host, target.port)}") from e
    return ""


def without_secrets(target: http.Target) -> http.Target:
    """The same in the clear, where a login must not be seen."""
    headers = tuple((name, value) for name, value in target.headers if name.lower() != "authorization")
    return dataclasses.replace(target, scheme="HTTP", headers=headers)
