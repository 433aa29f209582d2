"""exec, attach and port-forward: the client's connection on one side, the runtime's streaming server on the other.

Owns the choice of how the two are joined: SPDY is passed on unchanged, a tunnel is unwrapped, WebSocket channels are
translated. Must not know who is asking.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Sequence

from kube.duplex import Duplex
from kube.serve import Upgrade
from kube.streams import channels, duplex, remotecommand, websocket
from kube.streams.errors import RefusedError, StreamError, WebSocketError
from nodeagent import errors
from nodeagent.cri.runtime import Execs
from nodeagent.server import forward, translate
from nodeagent.server.exchange import Exchange, ReplyError
from nodeagent.server.translate import Streams


class Streaming:
    """Joins clients with the runtime."""

    def __init__(self, execs: Execs) -> None:
        self._execs = execs

    async def exec(self, exchange: Exchange, container_id: str) -> None:
        """Run a command in a container, its streams going to the client."""
        wanted, upgrade = streams(exchange), _upgrade(exchange)
        command = exchange.parameters.get("command", [])
        if not command:
            raise ReplyError(400, "you must specify at least one command")
        flags = dataclasses.asdict(wanted)
        url = await _ask(self._execs.exec_url(container_id, command, **flags))
        await self._remote_command(exchange, upgrade, url, wanted)

    async def attach(self, exchange: Exchange, container_id: str) -> None:
        """Join the client with a container's main process."""
        wanted, upgrade = streams(exchange), _upgrade(exchange)
        url = await _ask(self._execs.attach_url(container_id, **dataclasses.asdict(wanted)))
        await self._remote_command(exchange, upgrade, url, wanted)

    async def port_forward(self, exchange: Exchange, sandbox_id: str) -> None:
        """Carry connections into a pod's network."""
        upgrade = _upgrade(exchange)
        offered = websocket.offered(exchange.headers)
        by_channel = upgrade.protocol == "websocket" and channels.TUNNEL not in offered
        protocol = channels.choose_forward(offered) if by_channel else None
        if by_channel and protocol is None:
            known = [channels.TUNNEL, *(each.name for each in channels.FORWARD_PROTOCOLS)]
            raise ReplyError(400, f"unable to upgrade: none of the subprotocols {offered} is known, only {known}")
        ports = wanted_ports(exchange) if by_channel else []
        url = await _ask(self._execs.port_forward_url(sandbox_id, ports))
        if upgrade.protocol != "websocket":
            await _pass_on(exchange, upgrade, url, default=remotecommand.PORT_FORWARD_PROTOCOL)
            return
        runtime = await _connect(url, [remotecommand.PORT_FORWARD_PROTOCOL])
        try:
            if protocol is None:
                client = await _accept(upgrade, exchange, channels.TUNNEL)
                await translate.tunnel(websocket.WebSocket(client), runtime)
            else:
                client = await _accept(upgrade, exchange, protocol.name if offered else "")
                await forward.channels(websocket.WebSocket(client), runtime, protocol=protocol, ports=ports)
        finally:
            await runtime.close()

    async def _remote_command(self, exchange: Exchange, upgrade: Upgrade, url: str, wanted: Streams) -> None:
        if upgrade.protocol != "websocket":
            await _pass_on(exchange, upgrade, url, default=remotecommand.SPDY_PROTOCOLS[-1])
            return
        offered = websocket.offered(exchange.headers)
        protocol = channels.choose(offered)
        if protocol is None:
            known = [each.name for each in channels.EXEC_PROTOCOLS]
            raise ReplyError(400, f"unable to upgrade: none of the subprotocols {offered} is known, only {known}")
        runtime = await _connect(url, [remotecommand.SPDY_PROTOCOLS[0]])
        try:
            client = await _accept(upgrade, exchange, protocol.name if offered else "")
            await translate.remote_command(websocket.WebSocket(client), runtime, protocol=protocol, wanted=wanted)
        finally:
            await runtime.close()


def wanted_ports(exchange: Exchange) -> list[int]:
    """The ports an old client names in its query, repeated or with commas. Raises ReplyError 400."""
    texts = [text for value in exchange.parameters.get("port", []) for text in value.split(",")]
    if not texts:
        raise ReplyError(400, 'query parameter "port" is required')
    for text in texts:
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise ReplyError(400, f'query parameter "port": {text!r} is not a port')
    return [int(text) for text in texts]


def streams(exchange: Exchange) -> Streams:
    """Read which streams the client wants. Raises ReplyError 400."""
    tty = exchange.flag("tty")
    wanted = Streams(
        stdin=exchange.flag("input"),
        stdout=exchange.flag("output"),
        stderr=exchange.flag("error") and not tty,  # a terminal has one output
        tty=tty,
    )
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise ReplyError(400, "you must specify at least 1 of stdin, stdout, stderr")
    return wanted


def _upgrade(exchange: Exchange) -> Upgrade:
    if exchange.upgrade is None:
        raise ReplyError(400, "Upgrade request required")
    return exchange.upgrade


async def _ask(call: object) -> str:
    try:
        url: str = await call  # type: ignore[misc]
    except errors.RuntimeNotFound as e:
        raise ReplyError(404, str(e)) from e
    except errors.RuntimeFault as e:
        raise ReplyError(500, str(e)) from e
    return url


async def _connect(url: str, protocols: Sequence[str]) -> duplex.StreamDuplex:
    _, stream = await _upgraded(url, protocols)
    return stream


async def _upgraded(url: str, protocols: Sequence[str]) -> tuple[dict[str, str], duplex.StreamDuplex]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise ReplyError(500, f"the runtime gave a streaming address that cannot be used: {url}")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = [("Host", parts.netloc), ("Connection", "Upgrade"), ("Upgrade", remotecommand.UPGRADE_SPDY)]
    headers += [(remotecommand.PROTOCOL_HEADER, protocol) for protocol in protocols]
    headers.append(("Content-Length", "0"))
    try:
        return await duplex.upgrade(parts.hostname, parts.port, target=target, headers=headers)
    except RefusedError as e:
        raise ReplyError(e.status if e.status >= 400 else 502, e.body) from e
    except StreamError as e:
        raise ReplyError(500, f"the runtime's streaming server: {e}") from e


async def _accept(upgrade: Upgrade, exchange: Exchange, subprotocol: str) -> Duplex:
    try:
        headers = websocket.reply_headers(exchange.headers, subprotocol=subprotocol)
    except WebSocketError as e:
        raise ReplyError(400, str(e)) from e
    exchange.started = True
    return await upgrade.accept(101, headers)


async def _pass_on(exchange: Exchange, upgrade: Upgrade, url: str, *, default: str) -> None:
    """SPDY on both sides: ask the runtime with the client's own words, then carry bytes.

    A client that names no version means the oldest, which the runtime wants to be named.
    """
    offered = exchange.header_values(remotecommand.PROTOCOL_HEADER.lower().encode())
    reply, runtime = await _upgraded(url, offered or [default])
    headers = [(b"Connection", b"Upgrade"), (b"Upgrade", remotecommand.UPGRADE_SPDY.encode())]
    chosen = reply.get(remotecommand.PROTOCOL_HEADER.lower())
    if chosen:
        headers.append((remotecommand.PROTOCOL_HEADER.encode(), chosen.encode("latin-1")))
    try:
        exchange.started = True
        client = await upgrade.accept(101, headers)
        await duplex.join(client, runtime)
    finally:
        await runtime.close()
