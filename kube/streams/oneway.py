"""Replies that only flow to the client, over a WebSocket: logs for clients that cannot read a plain stream.

Owns the subprotocols of such replies. Must not know what flows.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence

from kube.serve import Upgrade
from kube.streams import websocket
from kube.streams.errors import StreamError

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"


async def send(upgrade: Upgrade, headers: Sequence[tuple[bytes, bytes]], pieces: AsyncIterator[bytes]) -> None:
    """Accept the upgrade and send each piece as one message, until the pieces end or the client leaves.

    Without a subprotocol the messages are binary. Raises WebSocketError before accepting, when it is no handshake.
    """
    chosen = websocket.choose(websocket.offered(headers), (BINARY, BASE64))
    reply = websocket.reply_headers(headers, subprotocol=chosen or "")
    client = websocket.WebSocket(await upgrade.accept(101, reply))
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_pump(client, pieces, coded=chosen == BASE64))
        await client.run()
        sending.cancel()


async def _pump(client: websocket.WebSocket, pieces: AsyncIterator[bytes], *, coded: bool) -> None:
    try:
        async for piece in pieces:
            await client.send(base64.b64encode(piece).decode() if coded else piece)
    except (StreamError, OSError):
        pass  # the client has left
    await client.close()
