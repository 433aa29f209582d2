"""The proxy's own HTTP answers: `:10256/healthz` and `/livez` for load balancers, `127.0.0.1:10249` for people.

A few lines of HTTP/1.1 over asyncio: no framework in the node's process. Reads only, never a body.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 5.0
MAX_HEAD_BYTES = 8192
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Route = Callable[[], Answer]


class HttpServer:
    """Answers GET for fixed paths."""

    def __init__(self, address: str, port: int, routes: dict[str, Route]) -> None:
        self._address = address
        self._port = port
        self._routes = routes

    async def run(self) -> None:
        """Listens until cancelled."""
        server = await asyncio.start_server(
            self._serve, self._address, self._port, limit=MAX_HEAD_BYTES, reuse_address=True
        )
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(head)
                writer.write(
                    f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that left, or never asked: nothing to answer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> Answer:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"only GET is answered\n"
        route = self._routes.get(path)
        if route is None:
            return 404, "text/plain", b"not found\n"
        status, kind, body = route()
        return status, kind, b"" if method == "HEAD" else body


def text(body: str, *, status: int = 200) -> Answer:
    """A plain text answer."""
    return status, "text/plain; charset=utf-8", body.encode()


def document(body: object, *, status: int = 200) -> Answer:
    """A JSON answer."""
    return status, "application/json", json.dumps(body).encode()
