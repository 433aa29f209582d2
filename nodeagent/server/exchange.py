"""One request and its reply, in terms of ASGI: what every handler here works with.

Owns reading the scope and writing plain replies. Must not know paths.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from kube.serve import Upgrade
from nodeagent.errors import NodeagentError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ReplyError(NodeagentError):
    """A request that gets an error reply: HTTP status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Exchange:
    """A request to be answered once, by `text`, `json`, `stream`, or by its upgrade."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        query = str(scope.get("query_string", b""), "latin-1")
        self.parameters = urllib.parse.parse_qs(query, keep_blank_values=True)
        self.started = False

    @property
    def upgrade(self) -> Upgrade | None:
        """The client's wish to leave HTTP."""
        found: Upgrade | None = (self.scope.get("extensions") or {}).get("kube.upgrade")
        return found

    @property
    def certificate(self) -> bytes | None:
        """The client's verified certificate."""
        found: bytes | None = (self.scope.get("state") or {}).get("peer_certificate")
        return found

    def parameter(self, name: str) -> str:
        """The first value of a query parameter, or the empty string."""
        return self.parameters.get(name, [""])[0]

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        return self.parameter(name) in ("1", "true")

    def header_values(self, name: bytes) -> list[str]:
        """All values of a header, comma lists taken apart."""
        values = [value.decode("latin-1") for key, value in self.headers if key == name]
        return [part.strip() for value in values for part in value.split(",") if part.strip()]

    async def text(self, body: str | bytes, *, status: int = 200, kind: str = "text/plain; charset=utf-8") -> None:
        """Answer with a short text."""
        data = body.encode() if isinstance(body, str) else body
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(data)).encode())]
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": data})

    async def json(self, value: Any) -> None:
        """Answer with an object."""
        await self.text(msgspec.json.encode(value), kind="application/json")

    async def begin_stream(self) -> None:
        """Answer with text that is still to come."""
        await self._start(200, [(b"content-type", b"text/plain"), (b"cache-control", b"no-cache")])

    async def piece(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of a stream, waiting while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def gone(self) -> None:
        """Wait until the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
