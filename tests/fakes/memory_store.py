"""A store backend in memory: the same contract as the real one, without a disk. `full` makes it refuse writes."""

from typing import Any

from controlplane import errors
from controlplane.store.backend import Deliver, Row


class MemoryBackend:
    """`Backend` in memory; rows outlive `close` in `rows`, so that a second one can be opened on them."""

    def __init__(self, rows: list[Row] | None = None, *, floor: int = 0) -> None:
        self.rows: list[Row] = rows if rows is not None else []
        self.full = False
        self._floor = floor
        self._revision = 0
        self._sequence = max([floor, *(row.revision for row in self.rows)])
        self._deliver: Deliver | None = None

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def floor(self) -> int:
        return self._floor

    async def open(self, deliver: Deliver) -> None:
        self._deliver = deliver
        if self.rows:
            deliver([Row(r.revision, r.name, r.prev, r.deleted, r.value) for r in self.rows])
        self._revision = self._sequence

    async def write(self, name: str, value: bytes, *, expected: int, deleted: bool = False, hint: Any = None) -> Row:
        if self._deliver is None:
            raise errors.StoreUnavailable("the store is closed")
        if self.full:
            raise errors.StoreFull("no space left")
        latest = next((row for row in reversed(self.rows) if row.name == name), None)
        current = 0 if latest is None or latest.deleted else latest.revision
        if current != expected:
            raise errors.RevisionConflict(name, expected=expected, current=current)
        self._sequence += 1
        row = Row(self._sequence, name, latest.revision if latest else 0, deleted, value, hint)
        self.rows.append(row)
        self._revision = row.revision
        self._deliver([row])
        return row

    async def compact(self, floor: int) -> None:
        floor = min(floor, self._revision)
        if floor <= self._floor:
            return
        self._floor = floor
        superseded = {(row.name, row.prev) for row in self.rows if row.revision <= floor}
        self.rows[:] = [row for row in self.rows if row.revision > floor or self._kept(row, superseded)]

    @staticmethod
    def _kept(row: Row, superseded: set[tuple[str, int]]) -> bool:
        return not row.deleted and (row.name, row.revision) not in superseded

    async def backup(self, path: str) -> None:
        raise errors.StoreUnavailable("memory has no file to copy")

    async def close(self) -> None:
        self._deliver = None
