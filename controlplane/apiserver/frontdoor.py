"""The door every request comes through: who asks, may they, is there room, how long may it take; and every failure.

Owns the order of these steps and what surrounds an answer. Knows no verb: what lies behind is a table and a frame.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

from controlplane import errors
from controlplane.apiserver import impersonation, reply
from controlplane.apiserver.authn import Authenticator
from controlplane.apiserver.authz import Authorizer
from controlplane.apiserver.body import ClientGone
from controlplane.apiserver.measure import Measure
from controlplane.apiserver.reply import Answer, Headers, Message, Receive, Send
from controlplane.apiserver.request import Request, Target, read
from kube import status

log = logging.getLogger(__name__)

MAX_READING = 400
MAX_WRITING = 200
NO_TARGET = Target()
REQUEST_SECONDS = 60.0
MAX_SECONDS = 60.0

Scope = MutableMapping[str, Any]
Resources = Callable[[Request, Receive], Awaitable[Answer]]


class Frame(Protocol):
    """An ASGI application for what is no resource."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""


class FrontDoor:
    """The API server as an ASGI application."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        resources: Resources,
        frame: Frame,
        measure: Measure,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._resources = resources
        self._frame = frame
        self._measure = measure
        self._reading = 0
        self._writing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes are not for us."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers: Headers = [(b"audit-id", _audit_id())]
        request: Request | None = None
        sending = _Sending(send)
        try:
            request = read(scope)
            await self._serve(request, receive, sending, headers)
        except Exception as e:
            await self._fail(alone(e), request, scope, receive, sending, headers)
        self._measure.done(request, code=sending.code, seconds=time.perf_counter() - started)

    async def _serve(self, request: Request, receive: Receive, send: "_Sending", headers: Headers) -> None:
        request.user = self._authenticator.identify(request.scope)
        request.user = impersonation.user_of(request, self._authorizer)
        self._authorizer.check(request)
        if request.long_running:
            with self._measure.long_running(request):
                answer = await self._resources(request, receive)
                await _answer(answer, request, receive, send, headers)
            return
        with self._room(request):
            if not request.path.startswith(("/api/", "/apis/")) and request.path not in ("/api", "/apis"):
                send.extra = headers
                await self._frame(_with_user(request), receive, send)
                return
            async with asyncio.timeout(_deadline(request)):
                answer = await self._resources(request, receive)
            await _answer(answer, request, receive, send, headers)

    @contextmanager
    def _room(self, request: Request) -> Iterator[None]:
        """Count the request in, or 429."""
        if request.mutating:
            if self._writing >= MAX_WRITING:
                raise status.too_many_requests("Too many requests, please try again later.")
            self._writing += 1
            try:
                yield
            finally:
                self._writing -= 1
            return
        if self._reading >= MAX_READING:
            raise status.too_many_requests("Too many requests, please try again later.")
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    async def _fail(
        self,
        error: Exception,
        request: Request | None,
        scope: Scope,
        receive: Receive,
        send: "_Sending",
        headers: Headers,
    ) -> None:
        if isinstance(error, ClientGone):
            log.debug("%s %s: the client left", scope["method"], scope["path"])
            return
        answer = as_api_error(error)
        if answer.code >= 500 and not isinstance(error, status.ApiError | errors.StoreError | TimeoutError):
            log.exception("%s %s failed; this is a fault of the server", scope["method"], scope["path"])
        elif answer.code >= 500:
            log.warning("%s %s: %s", scope["method"], scope["path"], answer.message)
        if send.started:
            return  # the head is out: all we can do is to end the body early
        refused = Request(scope["method"], scope["path"], "", NO_TARGET, {}, {}, scope) if request is None else request
        await _answer(reply.of_error(answer), refused, receive, send, headers)


def alone(error: Exception) -> Exception:
    """The one failure inside groups of one, which task groups wrap around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def as_api_error(error: Exception) -> status.ApiError:
    """Any failure as the Status a client is told."""
    if isinstance(error, status.ApiError):
        return error
    if isinstance(error, errors.StoreError):
        return status.unavailable(str(error), retry_after=1)
    if isinstance(error, RecursionError):
        return status.bad_request("the object is nested too deeply")
    if isinstance(error, TimeoutError):
        return status.timeout("request did not complete within the allotted timeout")
    return status.internal(f"{type(error).__name__}: {error}")


async def _answer(answer: Answer, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
    if request.warnings:
        headers += reply.warning_headers(request.warnings)
    await answer.send(request, receive, send, headers)


def _deadline(request: Request) -> float:
    """Seconds a request may take: 60, or less when the client says so."""
    text = request.query.get("timeout", "")
    if text and request.verb not in ("list", "watch"):
        digits = text.removesuffix("s")
        if digits.isdigit() and int(digits) > 0:
            return min(float(digits), MAX_SECONDS)
    return REQUEST_SECONDS


def _with_user(request: Request) -> Scope:
    return {**request.scope, "state": {**(request.scope.get("state") or {}), "user": request.user}}


def _audit_id() -> bytes:
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


class _Sending:
    """The send of one request: remembers whether the head is out and with which code; adds headers to the frame's."""

    __slots__ = ("_send", "code", "extra", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.code = 0
        self.started = False
        self.extra: Headers = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.code = message["status"]
            if self.extra:
                message["headers"] = [*message.get("headers", ()), *self.extra]
        await self._send(message)
