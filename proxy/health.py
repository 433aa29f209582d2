"""The proxy's own HTTP answers: `:10256/healthz` and `/livez` for load balancers, `127.0.0.1:10249` for people.

A few lines of HTTP/1.1 over asyncio: no framework in the node's process. Reads only, never a body.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

log = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 5.0
MAX_HEAD_BYTES = 8192
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Response(NamedTuple):
    """What is answered."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = {}


Answer = tuple[int, str, bytes] | Response
"""Status, content type, body; as a Response also more headers."""
Route = Callable[[], Answer]


class HttpServer:
    """Answers GET for fixed paths, and by `default` any other; on every address when `address` is None."""

    def __init__(
        self, address: str | None, port: int, routes: Mapping[str, Route], *, default: Route | None = None
    ) -> None:
        self._address = address
        self._port = port
        self._routes = routes
        self._default = default

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
                answer = _whole(self._answer(head))
                more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
                writer.write(
                    f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\nContent-Type: {answer.kind}\r\n{more}"
                    f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(b"" if head.startswith(b"HEAD ") else answer.body)
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
            return Response(405, "text/plain", b"only GET is answered\n")
        route = self._routes.get(path, self._default)
        return route() if route is not None else Response(404, "text/plain", b"not found\n")


def _whole(answer: Answer) -> Response:
    return answer if isinstance(answer, Response) else Response(*answer)


def text(body: str, *, status: int = 200) -> Response:
    """A plain text answer."""
    return Response(status, "text/plain; charset=utf-8", body.encode())


def document(body: object, *, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, "application/json", json.dumps(body).encode())
