"""The watch cache of one resource: its present objects in key order, its recent changes, its open watches.

Owns what lists and watches are served from. Knows no kind and no HTTP; objects stay bytes.
"""

import bisect
import time
from collections import deque
from collections.abc import Callable, Iterator

from controlplane import errors
from controlplane.store.backend import Row
from controlplane.store.entries import EMPTY, Entry, Event, Index, Object, inject
from controlplane.store.scope import Scope
from controlplane.store.watcher import Watcher

KEEP_AT_LEAST = 100
KEEP_AT_MOST = 102_400
KEEP_SECONDS = 75.0
KEEP_BYTES = 32 * 1024 * 1024
WATCHER_LIMIT = 1000


class HistoryGone(errors.StoreError):
    """The asked revision is older than the kept history; `oldest` is the oldest that could be served."""

    def __init__(self, *, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")
        self.asked = asked
        self.oldest = oldest


def no_fields(_: Object) -> dict[str, str]:
    """The field index of a resource nobody described."""
    return {}


class ResourceCache:
    """All objects of one resource at the newest revision, with the history of about the last minute."""

    def __init__(self, *, fields: Index = no_fields, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.items: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._ring: deque[Event] = deque()
        self._ring_bytes = 0
        self._oldest = 0  # every change after this revision is in the ring
        self._watchers: set[Watcher] = set()
        self._fields = fields
        self._monotonic = monotonic

    # Changes, in revision order.

    def apply(self, row: Row, *, remember: bool) -> Entry:
        """Take one committed row; with `remember` it becomes history and reaches the watchers. Returns what it kept."""
        key = row.name.partition("/")[2]
        previous = self.items.get(key)
        entry = self._entry(key, row)
        if row.deleted:
            if previous is not None:
                del self.items[key]
                del self._keys[bisect.bisect_left(self._keys, key)]
        else:
            if previous is None:
                self._insert(key)
            self.items[key] = entry
        if remember:
            self._remember(Event(entry, previous, removed=row.deleted, at=self._monotonic()))
        else:
            self._oldest = row.revision
        return entry

    def begin_at(self, revision: int) -> None:
        """History starts after `revision`: nothing older was replayed."""
        self._oldest = max(self._oldest, revision)

    def _insert(self, key: str) -> None:
        if not self._keys or key > self._keys[-1]:
            self._keys.append(key)
        else:
            bisect.insort(self._keys, key)

    def _entry(self, key: str, row: Row) -> Entry:
        data = inject(row.value, row.revision)
        if row.hint is not None:
            labels, fields = row.hint
        else:
            labels, fields = self.index(Entry(key, row.revision, row.value, EMPTY, EMPTY).decode())
        return Entry(key, row.revision, data, labels, fields)

    def index(self, obj: Object) -> tuple[dict[str, str], dict[str, str]]:
        """The keys selectors look at: labels and fields."""
        metadata = obj["metadata"]
        fields = {"metadata.name": metadata.get("name", ""), **self._fields(obj)}
        if namespace := metadata.get("namespace"):
            fields["metadata.namespace"] = namespace
        return metadata.get("labels") or {}, fields

    def _remember(self, event: Event) -> None:
        self._ring.append(event)
        self._ring_bytes += event.size()
        self._trim(event.at)
        for watcher in tuple(self._watchers):
            watcher.offer(event)
            if watcher.dropped:
                self._watchers.discard(watcher)

    def _trim(self, now: float) -> None:
        ring = self._ring
        while len(ring) > KEEP_AT_LEAST and (
            len(ring) > KEEP_AT_MOST or self._ring_bytes > KEEP_BYTES or now - ring[0].at > KEEP_SECONDS
        ):
            gone = ring.popleft()
            self._ring_bytes -= gone.size()
            self._oldest = gone.revision

    # Lists.

    def select(self, scope: Scope) -> list[Entry]:
        """The present objects in scope, in key order."""
        if scope.name and scope.namespace:
            entry = self.items.get(f"{scope.namespace}/{scope.name}")
            return [entry] if entry is not None and scope.matches(entry) else []
        entries = self.select_range(scope.namespace)
        if scope.selective or scope.name:
            return [entry for entry in entries if scope.matches(entry)]
        return list(entries)

    def select_range(self, namespace: str) -> Iterator[Entry]:
        """Every object of a namespace ("" = all), in key order."""
        if not namespace:
            return map(self.items.__getitem__, self._keys)
        low = bisect.bisect_left(self._keys, namespace + "/")
        high = bisect.bisect_left(self._keys, namespace + "0")  # "0" follows "/"
        return map(self.items.__getitem__, self._keys[low:high])

    def select_at(self, scope: Scope, revision: int) -> list[Entry]:
        """The objects in scope as they were at `revision`; HistoryGone when that is too long ago."""
        changed: dict[str, Entry | None] = {}
        for event in self._since(revision):
            changed.setdefault(event.entry.key, event.previous)
        now = {entry.key: entry for entry in self.select(scope) if entry.key not in changed}
        now |= {key: entry for key, entry in changed.items() if entry is not None and scope.matches(entry)}
        return [now[key] for key in sorted(now)]

    # Watches.

    def watch(self, scope: Scope, *, after: int | None, limit: int = WATCHER_LIMIT) -> Watcher:
        """A watch of every change after revision `after` (None = from now on); HistoryGone when that is too old."""
        watcher = Watcher(scope, limit=limit)
        if after is not None:
            past = ((scope.classify(event), event) for event in self._since(after))
            watcher.preload([(kind, event) for kind, event in past if kind is not None])
        self._watchers.add(watcher)
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """The connection is gone."""
        watcher.end()
        self._watchers.discard(watcher)

    def end_watches(self) -> None:
        """Ask every watch to finish cleanly: the server stops."""
        for watcher in tuple(self._watchers):
            self.forget(watcher)

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._watchers)

    def _since(self, revision: int) -> list[Event]:
        if revision < self._oldest:
            raise HistoryGone(asked=revision, oldest=self._oldest)
        events: list[Event] = []
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            events.append(event)
        events.reverse()
        return events
