"""watch: the present and the changes of a scope as lines, until client, time or server ends it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from controlplane.apiserver import framing, rendering, selecting
from controlplane.apiserver.body import ClientGone
from controlplane.apiserver.context import Context
from controlplane.apiserver.reply import Answer, Headers, Receive, Send
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import reading
from controlplane.store.cache import HistoryGone, ResourceCache
from controlplane.store.entries import Entry
from controlplane.store.watcher import Change, Watcher
from kube import status

MIN_SECONDS = 1800.0
BOOKMARK_SECONDS = 60.0
READ_SECONDS = 60.0
CHUNK_BYTES = 64 * 1024
INVALID = "ListOptions.meta.k8s.io"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the parameters ask for. `after` None: the present objects come first, as ADDED."""

    after: int | None
    at_least: int
    initial_end: bool
    bookmarks: bool
    seconds: float


async def watch(context: Context, request: Request) -> Answer:
    """Open a watch; what is wrong with the request is answered before the stream starts."""
    wish = _wish(request)
    scope = selecting.scope_of(request)
    line = rendering.watch_line(request)
    if wish.at_least > context.storage.revision and wish.after is None:
        await reading.wait_for(context, wish.at_least)
    cache = context.storage.cache(request.resource.storage_key)
    after = context.storage.revision if wish.after == 0 else wish.after
    try:
        watcher = cache.watch(scope, after=after)
    except HistoryGone as e:
        return _Refusal(status.expired(str(e)))
    initial = cache.select(scope) if wish.after is None else []
    return _Stream(context, cache, watcher, wish, line, initial, context.storage.revision)


def _wish(request: Request) -> _Wish:
    text = request.query.get("resourceVersion", "")
    revision = selecting.revision_of(text)
    match = request.query.get("resourceVersionMatch", "")
    initial = _initial_events(request, match)
    seconds = request.number("timeoutSeconds")
    bookmarks = request.flag("allowWatchBookmarks")
    return _Wish(
        after=None if initial or (initial is None and not revision) else revision,
        at_least=revision,
        initial_end=bool(initial) and bookmarks,
        bookmarks=bookmarks,
        seconds=float(seconds) if seconds else MIN_SECONDS * (1 + random.random()),
    )


def _initial_events(request: Request, match: str) -> bool | None:
    if "sendInitialEvents" not in request.query:
        if match:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise status.invalid(INVALID, "", [status.forbidden_field("resourceVersionMatch", why)])
        return None
    if match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise status.invalid(INVALID, "", [status.forbidden_field("resourceVersionMatch", why)])
    return request.flag("sendInitialEvents")


@dataclass(slots=True)
class _Refusal:
    """200, then one ERROR line: how a watch from too old a revision is refused."""

    error: status.ApiError

    async def send(self, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
        """See Answer."""
        how = framing.of_form(rendering.form_of(request, watch=True))
        await _start(send, headers, how)
        await send({"type": "http.response.body", "body": how.frame("ERROR", orjson.dumps(self.error.status))})


@dataclass(slots=True)
class _Stream:
    """An open watch on its connection."""

    context: Context
    cache: ResourceCache
    watcher: Watcher
    wish: _Wish
    line: Callable[[bytes], bytes] | None
    initial: Sequence[Entry]
    revision: int
    _request: Request = field(init=False)
    _framing: framing.Framing = framing.LINES

    async def send(self, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
        """See Answer."""
        self._request = request
        self._framing = framing.of_form(rendering.form_of(request, watch=True))
        try:
            await _start(send, headers, self._framing)
            async with asyncio.TaskGroup() as group:
                leaving = group.create_task(self._end_with_client(receive))
                await self._present(send)
                await self._changes(send)
                leaving.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.cache.forget(self.watcher)

    async def _end_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.watcher.end()

    async def _present(self, send: Send) -> None:
        pending: list[bytes] = []
        size = 0
        for entry in self.initial:
            pending.append(self._framing.frame("ADDED", self._shown(entry.data)))
            size += len(pending[-1])
            if size > CHUNK_BYTES:
                await _send(send, pending)
                pending, size = [], 0
        self.initial = ()
        if self.wish.initial_end:
            pending.append(self._bookmark(self.revision, initial_end=True))
        if pending:
            await _send(send, pending)

    async def _changes(self, send: Send) -> None:
        monotonic = self.context.clock.monotonic
        end = monotonic() + self.wish.seconds
        next_bookmark = monotonic() + BOOKMARK_SECONDS
        while True:
            changes = await self.watcher.batch(timeout=max(0.0, min(end, next_bookmark) - monotonic()))
            if changes:
                await _send(send, [self._frame(change) for change in changes])
                continue
            if self.watcher.ended:
                return
            over = monotonic() >= end
            if self.wish.bookmarks and (over or monotonic() >= next_bookmark):
                next_bookmark = monotonic() + BOOKMARK_SECONDS
                await _send(send, [self._bookmark(self.context.storage.revision)])
            elif monotonic() >= next_bookmark:
                next_bookmark = monotonic() + BOOKMARK_SECONDS
            if over:
                return

    def _frame(self, change: Change) -> bytes:
        kind, event = change
        if self.line is None and self._framing is framing.LINES:
            return event.frame(kind)
        return self._framing.frame(kind, self._shown(event.entry.data))

    def _shown(self, data: bytes) -> bytes:
        return data if self.line is None else self.line(data)

    def _bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        data = rendering.bookmark(self._request.resource, revision, initial_end=initial_end)
        if self.line is not None:
            data = self.line(data)
        return self._framing.frame("BOOKMARK", data)


async def _start(send: Send, headers: Headers, how: framing.Framing) -> None:
    headers = [*headers, (b"content-type", how.content_type), (b"cache-control", b"no-cache, private")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def _send(send: Send, frames: Sequence[bytes]) -> None:
    """Send lines; a client that reads nothing for a minute is given up, with what waits for it."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            await send({"type": "http.response.body", "body": b"".join(frames), "more_body": True})
    except TimeoutError as e:
        raise ClientGone from e
