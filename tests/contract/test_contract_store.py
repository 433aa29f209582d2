"""What the store promises, on the real SQLite file and on the fake: one counter, compare-and-swap, durability."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane import errors
from controlplane.store.backend import Backend, Row
from controlplane.store.sqlite import SqliteBackend
from tests.fakes.memory_store import MemoryBackend

ROOT = Path(__file__).resolve().parents[2]


class Subject:
    """A backend, what it delivered, and how to open another one on the same data."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._path = folder / "store.db"
        self._memory = MemoryBackend()
        self.delivered: list[Row] = []
        self.backend: Backend = self._make()

    def _make(self) -> Backend:
        if self._kind == "sqlite":
            return SqliteBackend(self._path)
        self._memory = MemoryBackend(self._memory.rows, floor=self._memory.floor)
        return self._memory

    async def open(self) -> None:
        await self.backend.open(self.delivered.extend)

    async def reopen(self) -> None:
        await self.backend.close()
        self.delivered = []
        self.backend = self._make()
        await self.open()

    def state(self) -> dict[str, bytes]:
        """What the delivered rows amount to."""
        found: dict[str, bytes] = {}
        for row in self.delivered:
            found.pop(row.name, None)
            if not row.deleted:
                found[row.name] = row.value
        return found


@pytest.fixture(params=["sqlite", "memory"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    made = Subject(request.param, tmp_path)
    await made.open()
    yield made
    await made.backend.close()


async def test_a_write_gets_the_next_revision_and_is_delivered_before_it_returns(subject: Subject) -> None:
    first = await subject.backend.write("pods/a", b"1", expected=0)
    second = await subject.backend.write("pods/b", b"2", expected=0, hint="mine")
    assert (first.revision, second.revision) == (1, 2)
    assert [(row.revision, row.name, row.value, row.hint) for row in subject.delivered] == [
        (1, "pods/a", b"1", None),
        (2, "pods/b", b"2", "mine"),
    ]
    assert subject.backend.revision == 2


async def test_creating_what_exists_is_refused_and_names_the_present_revision(subject: Subject) -> None:
    await subject.backend.write("pods/a", b"1", expected=0)
    with pytest.raises(errors.RevisionConflict) as caught:
        await subject.backend.write("pods/a", b"2", expected=0)
    assert caught.value.current == 1
    assert subject.state() == {"pods/a": b"1"}


async def test_a_stale_writer_is_refused_and_nothing_is_delivered(subject: Subject) -> None:
    first = await subject.backend.write("pods/a", b"1", expected=0)
    await subject.backend.write("pods/a", b"2", expected=first.revision)
    with pytest.raises(errors.RevisionConflict):
        await subject.backend.write("pods/a", b"3", expected=first.revision)
    assert [row.value for row in subject.delivered] == [b"1", b"2"]


async def test_of_many_writers_of_one_object_exactly_one_wins(subject: Subject) -> None:
    results = await asyncio.gather(
        *(subject.backend.write("pods/a", str(i).encode(), expected=0) for i in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, Row) for result in results) == 1
    assert sum(isinstance(result, errors.RevisionConflict) for result in results) == 49


async def test_a_deleted_object_can_be_created_again_and_not_deleted_twice(subject: Subject) -> None:
    first = await subject.backend.write("pods/a", b"1", expected=0)
    gone = await subject.backend.write("pods/a", b"1", expected=first.revision, deleted=True)
    with pytest.raises(errors.RevisionConflict) as caught:
        await subject.backend.write("pods/a", b"1", expected=gone.revision, deleted=True)
    assert caught.value.current == 0
    again = await subject.backend.write("pods/a", b"2", expected=0)
    assert again.prev == gone.revision
    assert subject.state() == {"pods/a": b"2"}


async def test_delivery_is_in_revision_order_under_concurrent_writers(subject: Subject) -> None:
    await asyncio.gather(*(subject.backend.write(f"pods/{i}", b"x", expected=0) for i in range(300)))
    assert [row.revision for row in subject.delivered] == list(range(1, 301))


async def test_what_was_acknowledged_is_there_after_reopening(subject: Subject) -> None:
    a = await subject.backend.write("pods/a", b"1", expected=0)
    await subject.backend.write("pods/b", b"2", expected=0)
    await subject.backend.write("pods/a", b"1", expected=a.revision, deleted=True)
    await subject.reopen()
    assert subject.state() == {"pods/b": b"2"}
    assert (await subject.backend.write("pods/c", b"3", expected=0)).revision == 4


async def test_compaction_keeps_the_state_and_forgets_the_history(subject: Subject) -> None:
    for name in ("a", "b", "c"):
        row = await subject.backend.write(f"pods/{name}", b"1", expected=0)
        row = await subject.backend.write(f"pods/{name}", b"2", expected=row.revision)
    await subject.backend.write("pods/c", b"2", expected=row.revision, deleted=True)
    state = subject.state()
    await subject.backend.compact(subject.backend.revision)
    await subject.reopen()
    assert subject.state() == state == {"pods/a": b"2", "pods/b": b"2"}
    assert len(subject.delivered) == 2
    assert subject.backend.floor == 7


async def test_a_revision_is_never_given_twice_even_when_everything_was_compacted(subject: Subject) -> None:
    row = await subject.backend.write("pods/a", b"1", expected=0)
    await subject.backend.write("pods/a", b"1", expected=row.revision, deleted=True)
    await subject.backend.compact(2)
    await subject.reopen()
    assert subject.state() == {}
    assert (await subject.backend.write("pods/a", b"1", expected=0)).revision == 3


async def test_history_above_the_floor_survives_compaction(subject: Subject) -> None:
    row = await subject.backend.write("pods/a", b"1", expected=0)
    for value in (b"2", b"3", b"4"):
        row = await subject.backend.write("pods/a", value, expected=row.revision)
    await subject.backend.compact(2)
    await subject.reopen()
    assert [(r.revision, r.value) for r in subject.delivered] == [(2, b"2"), (3, b"3"), (4, b"4")]


async def test_a_stale_writer_stays_refused_after_compaction(subject: Subject) -> None:
    first = await subject.backend.write("pods/a", b"1", expected=0)
    second = await subject.backend.write("pods/a", b"2", expected=first.revision)
    await subject.backend.write("pods/a", b"3", expected=second.revision)
    await subject.backend.compact(3)
    with pytest.raises(errors.RevisionConflict):
        await subject.backend.write("pods/a", b"9", expected=first.revision)


async def test_a_closed_store_refuses_writes(subject: Subject) -> None:
    await subject.backend.close()
    with pytest.raises(errors.StoreUnavailable):
        await subject.backend.write("pods/a", b"1", expected=0)


# What only a file can promise.


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_the_file_is_private_and_held_by_one_server(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first = SqliteBackend(path)
    await first.open(lambda rows: None)
    await first.write("pods/a", b"1", expected=0)
    assert modes(tmp_path) == {0o600}
    with pytest.raises(errors.StoreUnavailable, match="in use by another server"):
        await SqliteBackend(path).open(lambda rows: None)
    await first.close()


async def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(errors.SchemaTooNew, match="99 is newer than 1"):
        await SqliteBackend(path).open(lambda rows: None)


async def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(errors.StoreUnavailable, match="not a sound store file"):
        await SqliteBackend(path).open(lambda rows: None)


async def test_a_full_disk_refuses_the_write_and_loses_nothing(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db")
    delivered: list[Row] = []
    await backend.open(delivered.extend)
    await backend.write("pods/a", b"1", expected=0)
    await backend._call(lambda c: c.execute("PRAGMA max_page_count=20"))  # as small as a full disk
    with pytest.raises(errors.StoreFull, match="no space left"):
        await backend.write("pods/big", b"x" * 500_000, expected=0)
    await backend._call(lambda c: c.execute("PRAGMA max_page_count=100000"))
    await backend.write("pods/b", b"2", expected=0)
    assert [row.name for row in delivered] == ["pods/a", "pods/b"]
    await backend.close()


async def test_a_backup_is_a_store_of_its_own(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db")
    await backend.open(lambda rows: None)
    await backend.write("pods/a", b"1", expected=0)
    await backend.backup(str(tmp_path / "copy.db"))
    await backend.close()
    copy, delivered = SqliteBackend(tmp_path / "copy.db"), list[Row]()
    await copy.open(delivered.extend)
    assert [row.name for row in delivered] == ["pods/a"]
    await copy.close()


async def stored(path: Path) -> list[Row]:
    delivered: list[Row] = []
    backend = SqliteBackend(path)
    await backend.open(delivered.extend)
    await backend.close()
    return delivered


WRITER = """
import asyncio, sys
from pathlib import Path
from controlplane.store.sqlite import SqliteBackend

async def main():
    backend = SqliteBackend(Path(sys.argv[1]))
    await backend.open(lambda rows: None)
    async def write(worker):
        for i in range(100000):
            name = f"pods/{worker}-{i}"
            row = await backend.write(name, name.encode() * 20, expected=0)
            print(name, row.revision, flush=True)
    await asyncio.gather(*(write(worker) for worker in range(8)))

asyncio.run(main())
"""


def test_kill_9_of_the_writer_loses_no_acknowledged_write(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    acknowledged: dict[str, int] = {}
    assert child.stdout is not None
    for line in child.stdout:
        name, revision = line.decode().split()
        acknowledged[name] = int(revision)
        if len(acknowledged) == 400:
            os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert len(acknowledged) >= 400
    delivered = asyncio.run(stored(path))
    found = {row.name: row for row in delivered}
    lost = [name for name, revision in acknowledged.items() if name not in found or found[name].revision != revision]
    assert not lost
    assert all(row.value == row.name.encode() * 20 for row in delivered)
