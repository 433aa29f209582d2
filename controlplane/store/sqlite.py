"""The embedded backend: one SQLite file, one writer thread, group commit.

Owns the file and the transactions. Knows neither kinds nor JSON. Every batch of waiting writes is one transaction with
`synchronous=FULL` in WAL mode, so an acknowledged write survives kill -9 and power loss at a fraction of a sync each.
"""

import asyncio
import contextlib
import functools
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane import errors
from controlplane.store.backend import Deliver, Row

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_BATCH = 256
REPLAY_CHUNK = 1000
COMPACT_CHUNK = 2000

CREATE = """
CREATE TABLE IF NOT EXISTS log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  prev INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  value BLOB NOT NULL,
  UNIQUE (name, prev)
);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('floor', 0);
"""
LATEST = "SELECT id, deleted FROM log WHERE name = ? ORDER BY prev DESC LIMIT 1"
INSERT = "INSERT INTO log (name, prev, deleted, value) VALUES (?, ?, ?, ?)"
REPLAY = "SELECT id, name, prev, deleted, value FROM log WHERE id > ? ORDER BY id LIMIT ?"
FORGET = """
DELETE FROM log WHERE id > ? AND id <= ?
  AND (deleted OR EXISTS
    (SELECT 1 FROM log AS newer WHERE newer.name = log.name AND newer.prev = log.id AND newer.id <= ?))
"""
CHUNK_END = "SELECT max(id) FROM (SELECT id FROM log WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)"


@dataclass(slots=True)
class _Write:
    name: str
    value: bytes
    expected: int
    deleted: bool
    hint: Any
    done: asyncio.Future[Row]


@dataclass(slots=True)
class _Call:
    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


_Outcome = tuple[_Write, Row | errors.StoreError]


class SqliteBackend:
    """`Backend` on one SQLite file (mode 0600), held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Write | _Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._revision = 0
        self._floor = 0
        self._closed = True
        self._connection: sqlite3.Connection | None = None

    @property
    def revision(self) -> int:
        """The newest revision delivered."""
        return self._revision

    @property
    def floor(self) -> int:
        """History at or below it is gone."""
        return self._floor

    async def open(self, deliver: Deliver) -> None:
        """Open or create the file and replay it; StoreUnavailable or SchemaTooNew say why not."""
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._connection = await asyncio.to_thread(connect, self._path)
        self._closed = False
        self._thread.start()
        self._floor = await self._call(
            lambda c: int(c.execute("SELECT value FROM meta WHERE key='floor'").fetchone()[0])
        )
        after = 0
        while rows := await self._call(functools.partial(_chunk, after=after)):
            deliver([Row(i, name, prev, bool(deleted), value) for i, name, prev, deleted, value in rows])
            after = rows[-1][0]
        newest = await self._call(_sequence)
        self._revision = max(newest, self._floor)

    async def write(self, name: str, value: bytes, *, expected: int, deleted: bool = False, hint: Any = None) -> Row:
        """Append one row; returns when it is on disk and delivered."""
        if self._closed:
            raise errors.StoreUnavailable("the store is closed")
        done: asyncio.Future[Row] = self._loop.create_future()
        self._jobs.put(_Write(name, value, expected, deleted, hint, done))
        return await done

    async def compact(self, floor: int) -> None:
        """Forget history in small transactions, so that writers wait little; interrupted, it is taken up next time."""
        floor = min(floor, self._revision)
        if floor <= self._floor:
            return
        await self._call(lambda c: _set_floor(c, floor))
        self._floor = floor
        low = 0
        # Ascending order matters: a tombstone must not go before the rows it hides.
        while (high := await self._call(functools.partial(_forget, low=low, floor=floor))) is not None:
            low = high

    async def backup(self, path: str) -> None:
        """Write a consistent copy to `path`, which must not exist."""
        await self._call(lambda c: c.execute("VACUUM INTO ?", (path,)))

    async def close(self) -> None:
        """Commit what was accepted and let the file go."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _call(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        if self._closed:
            raise errors.StoreUnavailable("the store is closed")
        done: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Call(work, done))
        return await done

    # From here on: the writer thread.

    def _serve(self) -> None:
        connection = self._connection
        assert connection is not None
        job = self._jobs.get()
        while job is not None:
            if isinstance(job, _Call):
                self._post(self._settle_call, job.done, _attempt(job.work, connection, self._path))
                job = self._jobs.get()
                continue
            batch = [job]
            job = self._drain(batch)
            self._post(self._settle_writes, self._commit(connection, batch))
            if job is None:
                job = self._jobs.get()
            elif job is _STOP:
                break
        connection.close()

    def _drain(self, batch: list[_Write]) -> Any:
        """Add every waiting write to the batch; returns the job that is not a write, or None."""
        while len(batch) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return None
            if job is None:
                return _STOP
            if isinstance(job, _Call):
                return job
            batch.append(job)
        return None

    def _commit(self, connection: sqlite3.Connection, batch: Sequence[_Write]) -> list[_Outcome]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [(write, _append(connection, write)) for write in batch]
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            failure = translate(e, self._path)
            log.error("store: %d writes refused: %s", len(batch), failure)
            return [(write, failure) for write in batch]
        return outcomes

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for the answer
            self._loop.call_soon_threadsafe(callback, *args)

    # Back on the event loop.

    def _settle_writes(self, outcomes: Sequence[_Outcome]) -> None:
        rows = [result for _, result in outcomes if isinstance(result, Row)]
        if rows:
            self._revision = rows[-1].revision
            self._deliver(rows)
        for write, result in outcomes:
            if write.done.done():
                continue
            if isinstance(result, Row):
                write.done.set_result(result)
            else:
                write.done.set_exception(result)

    def _settle_call(self, done: asyncio.Future[Any], result: Any) -> None:
        if done.done():
            return
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)


_STOP = object()


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for this process alone, creating it private; raises StoreError with what to do."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as e:
        raise errors.StoreUnavailable(f"{path}: {e.strerror}: the data directory must be writable") from e
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        connection.execute(
            "PRAGMA locking_mode=EXCLUSIVE"
        )  # before WAL: a second server is refused, no shared memory file
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-4096")
        _prepare_schema(connection, path)
    except sqlite3.Error as e:
        raise translate(e, path) from e
    return connection


def _prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise errors.SchemaTooNew(
            f"{path}: schema version {version} is newer than {SCHEMA_VERSION}, the newest this release knows: "
            "run the release that wrote it, or restore a backup"
        )
    connection.executescript(f"BEGIN IMMEDIATE; {CREATE} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")


def _append(connection: sqlite3.Connection, write: _Write) -> Row | errors.StoreError:
    found = connection.execute(LATEST, (write.name,)).fetchone()
    prev, gone = found if found else (0, 1)
    current = 0 if gone else prev
    if current != write.expected:
        return errors.RevisionConflict(write.name, expected=write.expected, current=current)
    cursor = connection.execute(INSERT, (write.name, prev, int(write.deleted), write.value))
    return Row(int(cursor.lastrowid or 0), write.name, prev, write.deleted, write.value, write.hint)


def _sequence(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='log'").fetchone()
    return int(found[0]) if found else 0


def _set_floor(connection: sqlite3.Connection, floor: int) -> None:
    connection.execute("UPDATE meta SET value=? WHERE key='floor'", (floor,))


def _chunk(connection: sqlite3.Connection, *, after: int) -> list[tuple[int, str, int, int, bytes]]:
    return connection.execute(REPLAY, (after, REPLAY_CHUNK)).fetchall()


def _forget(connection: sqlite3.Connection, *, low: int, floor: int) -> int | None:
    """Drop one chunk above `low`; returns where it ended, None when there was nothing left."""
    high: int | None = connection.execute(CHUNK_END, (low, floor, COMPACT_CHUNK)).fetchone()[0]
    if high is not None:
        connection.execute(FORGET, (low, high, floor))
    return high


def _attempt(work: Callable[[sqlite3.Connection], Any], connection: sqlite3.Connection, path: Path) -> Any:
    try:
        return work(connection)
    except sqlite3.Error as e:
        return translate(e, path)


def translate(error: sqlite3.Error, path: Path) -> errors.StoreError:
    """Our error for SQLite's, naming the file and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return errors.StoreFull(f"no space left on the disk that holds {path}: free some; nothing stored was lost")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return errors.StoreUnavailable(f"{path} is in use by another server process: stop that one first")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return errors.StoreUnavailable(f"{path} is not a sound store file ({error}): restore a backup")
    return errors.StoreUnavailable(f"{path}: {error}")
