"""The transport over HTTP/1.1 and TLS, on aiohttp.

Owns connections, credentials that change on disk, deadlines and the words for "no answer". Streams are read in the
chunks the wire brings: by line is three times slower. aiohttp's exceptions end here.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
import yarl

from kube.client import tls
from kube.client.errors import Unreachable
from kube.client.transport import Response, StreamResponse
from kube.kubeconfig import RestConfig

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
CREDENTIAL_CHECK_SECONDS = 5.0
DEAD_PEER_SECONDS = 30
READ_BUFFER = 1 << 18


@dataclass(slots=True, eq=False)
class _Session:
    """One set of credentials and the connections made with it; closed when its last request ended."""

    http: aiohttp.ClientSession
    users: int = 0
    retired: bool = False


class HttpTransport:
    """Asks the server of `config`; to be made and used on one running event loop."""

    def __init__(self, config: RestConfig) -> None:
        self._config = config
        self._session: _Session | None = None
        self._stamp: tuple[object, ...] = ()
        self._checked = 0.0
        self._token: tuple[object, str] = (None, "")

    @property
    def server(self) -> str:
        return self._config.server

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """See `Transport.request`."""
        try:
            async with (
                asyncio.timeout(timeout),
                self._lease() as session,
                session.request(
                    method,
                    self._url(path, params),
                    headers=self._headers(headers),
                    data=body,
                    server_hostname=self._config.tls_server_name,
                ) as answer,
            ):
                content = await answer.read()
                return Response(answer.status, _lower(answer.headers), content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error, timeout) from error

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> AsyncIterator[StreamResponse]:
        """See `Transport.stream`."""
        async with self._lease() as session:
            try:
                async with asyncio.timeout(timeout):
                    answer = await session.request(
                        method,
                        self._url(path, params),
                        headers=self._headers(headers),
                        data=body,
                        server_hostname=self._config.tls_server_name,
                    )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._unreachable(error, timeout) from error
            try:
                yield StreamResponse(answer.status, _lower(answer.headers), self._chunks(answer))
            finally:
                answer.close()

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
        session, self._session = self._session, None
        if session is not None:
            await session.http.close()

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error, 0) from error

    @contextlib.asynccontextmanager
    async def _lease(self) -> AsyncIterator[aiohttp.ClientSession]:
        session = self._current()
        session.users += 1
        try:
            yield session.http
        finally:
            session.users -= 1
            if session.retired and not session.users:
                await session.http.close()

    def _current(self) -> _Session:
        now = time.monotonic()
        if self._session is not None and now - self._checked < CREDENTIAL_CHECK_SECONDS:
            return self._session
        self._checked = now
        stamp = tuple(_stamp(file) for file in (self._config.ca_file, self._config.cert_file, self._config.key_file))
        if self._session is None or stamp != self._stamp:
            fresh = self._connect()
            if (old := self._session) is not None:
                log.info("%s: certificate files changed, new connections use them", self.server)
                old.retired = True
            self._session, self._stamp = fresh, stamp
        return self._session

    def _connect(self) -> _Session:
        context = tls.context(self._config) if self.server.startswith("https:") else False
        connector = aiohttp.TCPConnector(
            ssl=context, limit=0, keepalive_timeout=75, socket_factory=_socket, ttl_dns_cache=10
        )
        return _Session(
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER,
                auto_decompress=True,
                skip_auto_headers=("User-Agent", "Content-Type"),
            )
        )

    def _url(self, path: str, params: Mapping[str, str] | None) -> yarl.URL:
        query = f"?{urlencode(params)}" if params else ""
        return yarl.URL(f"{self.server}{quote(path, safe='/:@!$&()*+,;=~')}{query}", encoded=True)

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        # On a cluster's network compressing costs more time than it saves.
        full = {"Accept-Encoding": "identity", **(headers or {})}
        if token := self._bearer():
            full["Authorization"] = f"Bearer {token}"
        return full

    def _bearer(self) -> str:
        file = self._config.token_file
        if file is None:
            return self._config.token or ""
        stamp = _stamp(file)
        if stamp != self._token[0]:
            try:
                self._token = (stamp, file.read_text().strip())
            except OSError as error:
                raise Unreachable(self.server, f"token file {file}: {error.strerror}") from error
        return self._token[1]

    def _unreachable(self, error: Exception, timeout: float) -> Unreachable:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Unreachable(self.server, f"its certificate is not trusted: {error.certificate_error}")
        if isinstance(error, aiohttp.ClientConnectorError):
            cause = error.os_error  # asyncio words a refusal as "Connect call failed"
            return Unreachable(self.server, os.strerror(cause.errno).lower() if cause.errno else str(cause))
        if isinstance(error, TimeoutError) and not str(error):
            return Unreachable(self.server, f"no answer within {timeout:g} s")
        if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
            return Unreachable(self.server, "it closed the connection")
        if isinstance(error, aiohttp.ClientPayloadError):
            return Unreachable(self.server, "it broke off in the middle of its answer")
        return Unreachable(self.server, str(error) or type(error).__name__)


def _socket(info: tuple[int, int, int, str, object]) -> socket.socket:
    """A socket that notices a vanished peer: an idle watch would otherwise hang for ever."""
    family, kind, protocol = info[0], info[1], info[2]
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if family in (socket.AF_INET, socket.AF_INET6):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_PEER_SECONDS // 2)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_PEER_SECONDS // 6)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_SECONDS * 1000)
    return made


def _stamp(file: Path | None) -> object:
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
