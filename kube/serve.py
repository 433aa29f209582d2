"""HTTPS servers for ASGI applications: the seam to uvicorn, shared by the API server and the kubelet.

Owns the listening, the peer's certificate in the scope, upgrades that hand the connection over, deadlines and the
graceful end. Must not know who is authenticated or what is served. Made for uvicorn 0.54's httptools protocol; the
tests pin the behaviour that is relied on. Both event loops work. There is no ASGI lifespan: components have `run`.

What an application finds:
- `scope["state"]["peer_certificate"]`: DER, when the client showed a certificate that our CA signed;
- `scope["extensions"]["kube.upgrade"]`: an `Upgrade`, when the client asks for one. Answering normally refuses it.
"""

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from kube.duplex import Duplex, SocketDuplex, cut

__all__ = ["Duplex", "Server", "Upgrade", "inherited_sockets", "listen", "tls_context"]

log = logging.getLogger(__name__)

HEADER_SECONDS = 32.0
LINGER_SECONDS = 1.0
"""How long what a refused peer still sends is read and dropped, so that the refusal reaches it."""
KEEP_ALIVE_SECONDS = 100
MAX_HEAD_BYTES = 1 << 18
DRAIN_SECONDS = 10.0
CUT_SECONDS = 1.0
BACKLOG = 1024
UPGRADES = (b"websocket", b"spdy/3.1")
_FIRST_INHERITED = 3


class Upgrade:
    """A client's wish to leave HTTP; accept it once, or answer the request normally."""

    def __init__(self, protocol: str, take_over: Callable[[bytes], SocketDuplex]) -> None:
        self.protocol = protocol
        self.accepted = False
        self._take_over = take_over

    async def accept(self, status: int = 101, headers: Sequence[tuple[bytes, bytes]] = ()) -> Duplex:
        """Write the head of the answer and take the connection over; the caller closes it."""
        lines = [STATUS_LINE[status], *(b"%s: %s\r\n" % pair for pair in headers), b"\r\n"]
        duplex = self._take_over(b"".join(lines))
        self.accepted = True
        return duplex


class Server:
    """Serves one application on sockets that are bound and listening, and stay the caller's to close.

    `draining` is set when the end began, for applications that want to end watches cleanly.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        name: str,
        drain: float = DRAIN_SECONDS,
    ) -> None:
        self.name, self._app = name, app
        self._sockets, self._tls, self._drain = list(sockets), tls, drain
        self._config = Config(
            cast(Any, self._call),
            loop="none",
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        self._state = ServerState()
        self._duplexes: set[SocketDuplex] = set()
        self._second = 0
        self.draining = asyncio.Event()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as host:port."""
        return [_shown(each) for each in self._sockets]

    async def run(self) -> None:
        """Serve until cancelled, then stop listening, let requests end for `drain` seconds, and close."""
        loop = asyncio.get_running_loop()
        listeners: list[asyncio.AbstractServer] = []
        try:
            for sock in self._sockets:
                listeners.append(
                    await loop.create_server(
                        self._protocol,
                        sock=sock.dup(),  # so that a component that is restarted finds it open
                        ssl=self._tls,
                        backlog=BACKLOG,
                        ssl_handshake_timeout=HEADER_SECONDS if self._tls else None,
                        ssl_shutdown_timeout=5.0 if self._tls else None,
                    )
                )
            log.info("%s: listening on %s", self.name, ", ".join(self.addresses))
            await loop.create_future()
        finally:
            for listener in listeners:
                listener.close()
            await self._end()

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(self._config, self._state, {}, duplexes=self._duplexes, date=self._date)

    def _date(self, state: ServerState) -> None:
        """Keep the Date header right without a timer that wakes an idle process."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            state.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.draining.is_set():
                raise  # uvicorn would log our own end as a fault of the application
        except ConnectionError as error:
            if (upgrade := scope["extensions"].get("kube.upgrade")) is None or not upgrade.accepted:
                raise
            log.debug("%s: %s ended: %s", self.name, scope["path"], error)

    async def _end(self) -> None:
        """Requests under way may finish; what is left when the time is over sees its client leave, then is cut."""
        self.draining.set()
        for connection in list(self._state.connections):
            connection.shutdown()
        if await self._ended(self._drain):
            log.info("%s: %d requests cut at the end of the drain", self.name, len(self._state.tasks))
        for connection in cast(list["_Protocol"], list(self._state.connections)):
            connection.pretend_lost()
        await self._ended(CUT_SECONDS)
        for task in list(self._state.tasks):
            task.cancel()
        await self._ended(CUT_SECONDS)
        for duplex in list(self._duplexes):
            duplex.abort()
        for connection in list(self._state.connections):
            cut(connection.transport)
        await asyncio.sleep(0)  # lets the transports close their sockets

    async def _ended(self, seconds: float) -> bool:
        """Whether requests are left after `seconds`."""
        if self._state.tasks and seconds > 0:
            await asyncio.wait(list(self._state.tasks), timeout=seconds)
        return bool(self._state.tasks)


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with the peer certificate, a deadline for the head, and upgrades as plain requests."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        duplexes: set[SocketDuplex],
        date: Callable[[ServerState], None],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._duplexes, self._date = duplexes, date
        self._head_deadline: asyncio.TimerHandle | None = None
        self._behind_head = bytearray()
        self._head_bytes = 0
        self._in_head = self._refused = self._upgrading = self._taken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and (certificate := tls.getpeercert(True)):
            self.app_state = {**self.app_state, "peer_certificate": certificate}
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_read()
        super().connection_lost(exc)
        # uvicorn leaves the timer, and with it the whole connection, alive after a reset.
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._upgrading:
            self._keep_behind_head(data)
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
            if self._in_head:
                self._head_goes_on(len(data))
        except httptools.HttpParserUpgrade as stop:
            # Answered like any request; what follows the head belongs to the new protocol.
            self._upgrading = True
            self._keep_behind_head(data[stop.args[0] :])
        except httptools.HttpParserError:
            log.debug("%s sent what is not HTTP", self.client)
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_read()
        self._date(self.server_state)
        extensions: dict[str, Any] = {}
        if self.parser.should_upgrade() and (wanted := self._get_upgrade()) in UPGRADES:
            extensions["kube.upgrade"] = Upgrade(wanted.decode("ascii"), self._take_over)
        cast(dict[str, Any], self.scope)["extensions"] = extensions
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # after a refusal nobody knows what the following bytes mean

    def on_response_complete(self) -> None:
        if not self._taken:
            super().on_response_complete()

    def pretend_lost(self) -> None:
        """Have the application see its client leave, so that it may end by itself."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _should_upgrade(self) -> bool:
        return False

    def _head_goes_on(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            log.debug("%s sent a head of more than %d bytes", self.client, MAX_HEAD_BYTES)
            self._head_read()
            self._refused = True
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n")
            if self.transport.can_write_eof():
                self.transport.write_eof()
            # Closing while the peer still sends resets the connection, and the reset can overtake the answer.
            self._head_deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        elif self._head_deadline is None:
            self._expect_head()

    def _expect_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEADER_SECONDS, self._head_too_late)

    def _head_read(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_too_late(self) -> None:
        log.debug("%s did not send its request in %g s", self.client, HEADER_SECONDS)
        cut(self.transport)

    def _keep_behind_head(self, data: bytes) -> None:
        self._behind_head += data
        if len(self._behind_head) > 65536:
            self.flow.pause_reading()

    def _take_over(self, head: bytes) -> SocketDuplex:
        if self._taken or self.cycle.response_started:
            raise RuntimeError("the request was answered already")
        if self.cycle.disconnected or self.transport.is_closing():
            raise ConnectionResetError("the client left before its upgrade was accepted")
        self._taken = True
        cycle = self.cycle
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self.transport.write(head)
        writable = not self.flow.write_paused
        duplex = SocketDuplex(on_lost=lambda: self._duplexes.discard(duplex))
        self._duplexes.add(duplex)
        self.flow.resume_reading()
        duplex.adopt(self.transport, received=bytes(self._behind_head), writable=writable)
        self._behind_head.clear()
        return duplex


def tls_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, HTTP/1.1, client certificates asked for and checked when shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_ca)
    return context


def listen(address: str) -> socket.socket:
    """A listening TCP socket for `ip:port` (IPv6 in brackets); OSError names the address when it is in use."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    except ValueError as error:
        sock.close()
        raise OSError(f"cannot listen on {address!r}: want ip:port") from error
    return sock


def inherited_sockets() -> list[socket.socket]:
    """Listening sockets handed over by systemd's convention (LISTEN_FDS), for this process only.

    NODEAGENT_LISTEN_FDS=1 stands in for a LISTEN_PID that a launcher cannot know before it starts us.
    """
    count, pid = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    ours = pid == str(os.getpid()) or (not pid and os.environ.get("NODEAGENT_LISTEN_FDS") == "1")
    if not count.isdigit() or not ours:
        return []
    found = []
    for number in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count)):
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        found.append(sock)
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NODEAGENT_LISTEN_FDS"):
        os.environ.pop(name, None)  # children must not take them for theirs
    return found


def _shown(sock: socket.socket) -> str:
    try:
        name = sock.getsockname()
    except OSError:
        return "closed"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else ":".join(map(str, name[:2]))
