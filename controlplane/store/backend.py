"""The contract of a durable log of objects: one counter, compare-and-swap by revision, delivery in commit order.

Owns the shape of a row and the `Backend` protocol. Knows neither kinds nor JSON: a value is bytes.
The row id is the resourceVersion of Kubernetes; see "Store" in the design for the reasons.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(slots=True)
class Row:
    """One change of one object: `prev` is the revision it replaced (0 = first); a tombstone keeps the last value."""

    revision: int
    name: str
    prev: int
    deleted: bool
    value: bytes
    hint: Any = None  # what the writer already knew about the value; absent when rows are replayed from disk


Deliver = Callable[[Sequence[Row]], None]


class Backend(Protocol):
    """A log of rows. All calls come from one event loop; `deliver` is called on it, in revision order."""

    @property
    def revision(self) -> int:
        """The newest revision handed to `deliver`."""

    @property
    def floor(self) -> int:
        """History at or below this revision is gone (compacted)."""

    async def open(self, deliver: Deliver) -> None:
        """Replay every kept row through `deliver`; then each committed batch, before its writers are answered."""

    async def write(self, name: str, value: bytes, *, expected: int, deleted: bool = False, hint: Any = None) -> Row:
        """Append one row if `name` is at revision `expected` (0 = must not exist); durable when it returns.

        Raises RevisionConflict, StoreFull or StoreUnavailable; then nothing was written.
        """

    async def compact(self, floor: int) -> None:
        """Forget history at or below `floor`, keeping the state there."""

    async def backup(self, path: str) -> None:
        """Write a consistent copy to a new file while serving."""

    async def close(self) -> None:
        """Finish what was accepted, refuse the rest."""
