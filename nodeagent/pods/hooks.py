"""Lifecycle hooks: postStart and preStop by exec, httpGet or sleep. It knows nothing of when they run."""

import asyncio
from typing import Final

from kube import types
from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import runtime
from nodeagent.pods import spec

SHOWN: Final = 1024
HTTP_TIMEOUT: Final = 30.0


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
) -> None:
    """Runs one hook to its end; HookError if it fails or takes longer than `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            if handler.exec is not None:
                await command(handler.exec, container_id, timeout=timeout, execs=execs)
            elif handler.http_get is not None:
                await http(handler.http_get, container, pod_ip=pod_ip)
            elif handler.sleep is not None:
                await clock.sleep(handler.sleep.seconds)
            elif handler.tcp_socket is not None:
                raise HookError("tcpSocket is not supported in lifecycle hooks")
    except TimeoutError as e:
        raise HookError(f"the hook did not end within {timeout:.0f} s") from e


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


async def http(action: types.HTTPGetAction, container: spec.AnyContainer, *, pod_ip: str) -> None:
    """An httpGet hook; any answer below 400 is a success, as is HTTP where HTTPS was meant."""
    import aiohttp  # only pods with such a hook need it

    host, port = action.host or pod_ip, port_number(action.port, container)
    url = f"{action.scheme.lower()}://{f'[{host}]' if ':' in host else host}:{port}/{action.path.lstrip('/')}"
    headers = {header.name: header.value for header in action.http_headers}
    limit = aiohttp.ClientTimeout(total=HTTP_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
        ):
            if answer.status >= 400:
                raise HookError(f"HTTP lifecycle hook ({action.path}) failed - error: status {answer.status}")
    except (aiohttp.ClientError, OSError, ValueError) as e:
        raise HookError(f"HTTP lifecycle hook ({action.path}) failed - error: {e}") from e


def port_number(port: int | str, container: spec.AnyContainer) -> int:
    """A port by number, or by the name the container gave it."""
    if isinstance(port, int):
        return port
    named = next((p.container_port for p in container.ports if p.name == port), None)
    if named is None and not port.isdigit():
        raise HookError(f"container {container.name} has no port named {port!r}")
    return named if named is not None else int(port)
