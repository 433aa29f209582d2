"""Reading one container's log: its end, a part of it, or everything that is still to come.

Owns files, rotation as a reader meets it, and waiting without polling. Must not know HTTP or the runtime.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncinotify

from nodeagent.logs import line
from nodeagent.logs.line import Query

_PIECE = 256 * 1024
_MAX_LINE = 1 << 20
_RECHECK = 10.0
"""Seconds after which a follower asks again whether the container still runs, should a notice have been lost."""
_SOON = 0.02
_NOTICES = (
    asyncinotify.Mask.MODIFY
    | asyncinotify.Mask.CLOSE_WRITE
    | asyncinotify.Mask.CREATE
    | asyncinotify.Mask.MOVED_TO
    | asyncinotify.Mask.DELETE_SELF
)


class LogError(Exception):
    """The log cannot be read; the message says why."""


async def read(path: Path, query: Query, *, running: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """Give the log's bytes as the query wants them; a follower gets them until `running` says no. Raises LogError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise LogError(f"failed to open log file {path}: {os.strerror(e.errno or 0)}") from e
    reader = _Reader(path, handle, query)
    try:
        if query.tail is not None:
            os.lseek(handle, await asyncio.to_thread(tail_offset, handle, query.tail), os.SEEK_SET)
        async for piece in reader.rest():
            yield piece
        if query.follow and not reader.full:
            async for piece in reader.follow(running):
                yield piece
    finally:
        reader.close()


def tail_offset(handle: int, records: int) -> int:
    """Where the last so many records of a file begin. Reads backwards. A piece of a line counts as one."""
    position = size = os.fstat(handle).st_size
    if records == 0:
        return size
    wanted = records
    while position > 0:
        start = max(0, position - _PIECE)
        block = os.pread(handle, position - start, start)
        if position == size and block.endswith(b"\n"):
            wanted += 1  # the break that ends the last record begins none
        breaks = block.count(b"\n")
        if breaks < wanted:
            wanted -= breaks
            position = start
            continue
        at = len(block)
        for _ in range(wanted):
            at = block.rindex(b"\n", 0, at)
        return start + at + 1
    return 0


class _Reader:
    """One open log file, replaced by its successor when the runtime rotates."""

    def __init__(self, path: Path, handle: int, query: Query) -> None:
        self._path = path
        self._handle = handle
        self._query = query
        self._left = query.limit
        self._partial = b""

    @property
    def full(self) -> bool:
        """Tell whether the reader's limit is used up."""
        return self._left == 0

    def close(self) -> None:
        os.close(self._handle)

    async def rest(self) -> AsyncIterator[bytes]:
        """What the file holds from here on, in pieces of many lines."""
        while not self.full:
            data = await asyncio.to_thread(os.read, self._handle, _PIECE)
            if not data:
                return
            whole, found, tail = (self._partial + data).rpartition(b"\n")
            self._partial = tail
            if len(tail) > _MAX_LINE:
                raise LogError(f"{self._path} has a record of more than {_MAX_LINE} bytes")
            if found and (text := self._select(whole + found)):
                yield text

    async def follow(self, running: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """What is still written, here and in files that take this one's place, until the container has ended."""
        with asyncinotify.Inotify() as notices:
            try:
                # The folder, not the file: rotation puts another file in its place.
                notices.add_watch(self._path.parent, _NOTICES)
            except OSError as e:
                raise LogError(f"cannot watch {self._path.parent}: {os.strerror(e.errno or 0)}") from e
            patience = _RECHECK
            while True:
                alive = await running()
                async for piece in self.rest():  # after asking, so that nothing written before the end is missed
                    yield piece
                if self._is_replaced():
                    async for piece in self.rest():  # written while the runtime was turning to the new file
                        yield piece
                    self._reopen()
                    continue
                if self.full or not alive:
                    return
                try:
                    async with asyncio.timeout(patience):
                        notice = await notices.get()
                    if notice.mask & asyncinotify.Mask.CLOSE_WRITE:
                        patience = _SOON  # the log is closed a moment before the runtime says that the container ended
                except TimeoutError:
                    patience = min(patience * 2, _RECHECK)

    def _is_replaced(self) -> bool:
        try:
            now = self._path.stat()
        except OSError:
            return False  # moved away, and its successor is not there yet
        old = os.fstat(self._handle)
        return (now.st_dev, now.st_ino) != (old.st_dev, old.st_ino)

    def _reopen(self) -> None:
        try:
            following = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise LogError(f"failed to open log file {self._path}: {os.strerror(e.errno or 0)}") from e
        os.close(self._handle)
        self._handle, self._partial = following, b""

    def _select(self, records: bytes) -> bytes:
        """The text of whole records, as far as the query wants them."""
        parts: list[bytes] = []
        for raw in records[:-1].split(b"\n"):
            entry = line.parse(raw)
            if entry is None or not self._wants(entry):
                continue
            parts.append(line.render(entry, timestamps=self._query.timestamps))
        text = b"".join(parts)
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _wants(self, entry: line.Entry) -> bool:
        if self._query.stream and entry.stream != self._query.stream:
            return False
        return not self._query.since or line.sortable(entry.time) >= self._query.since
