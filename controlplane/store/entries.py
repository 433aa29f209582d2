"""What the watch cache keeps: an object as its bytes beside its index keys, and a change as bytes made once for all.

Owns the encoding of stored objects. Knows no kind: what to index is handed in.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

Object = dict[str, Any]
Index = Callable[[Object], Mapping[str, str]]
EMPTY: Mapping[str, str] = {}
METADATA = b'"metadata":{'


class Entry:
    """One object at one revision: its JSON bytes (resourceVersion inside) and the keys that selectors look at."""

    __slots__ = ("data", "fields", "key", "labels", "name", "namespace", "revision")

    def __init__(
        self, key: str, revision: int, data: bytes, labels: Mapping[str, str], fields: Mapping[str, str]
    ) -> None:
        namespace, _, name = key.rpartition("/")
        self.key = key
        self.namespace = namespace
        self.name = name
        self.revision = revision
        self.data = data
        self.labels = labels
        self.fields = fields

    def decode(self) -> Object:
        """A fresh copy of the object as plain values; the caller may change it."""
        obj: Object = orjson.loads(self.data)
        return obj


class Event:
    """One change. `frame` renders it as a watch line once; every watcher shares those bytes."""

    __slots__ = ("_frames", "at", "entry", "previous", "removed", "revision")

    def __init__(self, entry: Entry, previous: Entry | None, *, removed: bool, at: float) -> None:
        self.entry = entry
        self.previous = previous
        self.removed = removed
        self.revision = entry.revision
        self.at = at
        self._frames: dict[str, bytes] = {}

    @property
    def kind(self) -> str:
        """ADDED, MODIFIED or DELETED for a watcher without selectors."""
        if self.removed:
            return "DELETED"
        return "MODIFIED" if self.previous is not None else "ADDED"

    def frame(self, kind: str) -> bytes:
        """The watch line of this change under `kind`."""
        found = self._frames.get(kind)
        if found is None:
            found = self._frames[kind] = frame(kind, self.entry.data)
        return found

    def size(self) -> int:
        """Bytes this change keeps alive, roughly."""
        return len(self.entry.data) * 2 + (len(self.previous.data) if self.previous else 0)


def frame(kind: str, data: bytes) -> bytes:
    """One watch line."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), data)


def encode(obj: Object) -> bytes:
    """The stored form: kind, apiVersion and metadata lead, resourceVersion left out (the row id is the revision)."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
    lead = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": metadata}
    return orjson.dumps(lead | obj | {"metadata": metadata})


def inject(value: bytes, revision: int) -> bytes:
    """The stored form with its resourceVersion, without parsing: metadata is known to come before anything variable."""
    at = value.index(METADATA) + len(METADATA)
    comma = b"" if value[at : at + 1] == b"}" else b","
    return b'%s"resourceVersion":"%d"%s%s' % (value[:at], revision, comma, value[at:])
