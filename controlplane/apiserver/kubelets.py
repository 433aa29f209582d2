"""Connections to kubelets: TLS with the API server's own client certificate, one request each, the answer as it comes.

Owns the small HTTP/1.1 client that logs and upgrades need. Knows no pod and no user.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httptools

from controlplane import errors
from kube.duplex import Duplex, SocketDuplex
from kube.tlsduplex import TlsDuplex

CONNECT_SECONDS = 10.0
HEAD_SECONDS = 30.0
MAX_HEAD = 64 * 1024
Headers = Sequence[tuple[bytes, bytes]]


class KubeletUnreachable(errors.ControlPlaneError):
    """No connection to a kubelet, or no sensible answer from it."""


@dataclass(slots=True)
class Answer:
    """What a kubelet answered. `upgraded`: the connection now belongs to another protocol, `rest` was read already."""

    code: int
    headers: Headers
    duplex: Duplex
    upgraded: bool
    rest: bytes
    _parser: "_Parser"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, until its end."""
        while True:
            for chunk in self._parser.take():
                yield chunk
            if self._parser.complete:
                return
            data = await self.duplex.read()
            if not data:
                return  # without a length the end of the connection is the end of the body
            self._parser.feed(data)

    async def close(self) -> None:
        """Let the connection go."""
        await self.duplex.close()


class Kubelets:
    """Opens requests to kubelets."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    async def open(
        self, host: str, port: int, *, method: str, path: str, headers: Headers, body: bytes = b""
    ) -> Answer:
        """Send one request and wait for the head of the answer; KubeletUnreachable says what failed."""
        where = f"{host}:{port}"
        duplex = await self._connect(host, port)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                await duplex.write(head(method, path, where, headers) + body)
                return await answer(duplex)
        except (TimeoutError, OSError, httptools.HttpParserError) as e:
            duplex.abort()
            raise KubeletUnreachable(f"error dialing backend: {where}: {str(e) or 'no answer in time'}") from e
        except BaseException:
            duplex.abort()
            raise

    async def _connect(self, host: str, port: int) -> TlsDuplex:
        loop = asyncio.get_running_loop()
        below = SocketDuplex()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: below, host, port)
                duplex = TlsDuplex(below, self._context, host=host)
                await duplex.handshake()
        except (TimeoutError, OSError) as e:
            below.abort()
            text = str(e) or f"no connection in {CONNECT_SECONDS:g} s"
            raise KubeletUnreachable(f"error dialing backend: dial tcp {host}:{port}: {text}") from e
        return duplex


def tls_context(folder: Path, *, verify: bool) -> ssl.SSLContext:
    """The client side's context: our certificate for kubelets; theirs is checked against the cluster's CA."""
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        context.load_cert_chain(folder / "apiserver-kubelet-client.crt", folder / "apiserver-kubelet-client.key")
    except (OSError, ssl.SSLError) as e:
        raise errors.ConfigurationError(f"certificates for kubelets in {folder}: {e}") from e
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class _Parser:
    """Collects what httptools finds in the bytes of one answer."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headed: bool = False
    complete: bool = False
    upgraded: bool = False
    rest: bytes = b""
    _raw: httptools.HttpResponseParser = field(init=False)

    def __post_init__(self) -> None:
        self._raw = httptools.HttpResponseParser(self)

    @property
    def code(self) -> int:
        return int(self._raw.get_status_code())

    def feed(self, data: bytes) -> None:
        try:
            self._raw.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            self.upgraded = True
            self.rest = data[e.args[0] :]

    def take(self) -> list[bytes]:
        bodies, self.bodies = self.bodies, []
        return bodies

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.bodies.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


async def answer(duplex: Duplex) -> Answer:
    """Read the head of an answer. Raises OSError, HttpParserError."""
    parser = _Parser()
    size = 0
    while not parser.headed:
        data = await duplex.read()
        size += len(data)
        if not data or size > MAX_HEAD:
            raise ConnectionResetError("the connection was closed without an answer")
        parser.feed(data)
    return Answer(parser.code, parser.headers, duplex, parser.upgraded and parser.code == 101, parser.rest, parser)


def head(method: str, path: str, host: str, headers: Headers) -> bytes:
    """The head of a request in HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1\r\n".encode(), f"host: {host}\r\n".encode()]
    lines += [b"%s: %s\r\n" % (name, value) for name, value in headers]
    return b"".join(lines) + b"\r\n"
