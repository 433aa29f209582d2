"""Which objects a list or a watch is about: namespace, name, labels, fields. Pure; looks at index keys only."""

from collections.abc import Mapping
from typing import Protocol

from controlplane.store.entries import Entry, Event


class Labels(Protocol):
    """A parsed label or field selector."""

    def matches(self, values: Mapping[str, str], /) -> bool:
        """Whether an object with these values is selected."""


class Scope:
    """A namespace ("" = all), an optional exact name, and optional selectors (None = everything)."""

    __slots__ = ("fields", "labels", "name", "namespace", "selective")

    def __init__(
        self, *, namespace: str = "", name: str = "", labels: Labels | None = None, fields: Labels | None = None
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.labels = labels
        self.fields = fields
        self.selective = labels is not None or fields is not None

    def matches(self, entry: Entry) -> bool:
        """Whether the object is in the scope."""
        if self.namespace and entry.namespace != self.namespace:
            return False
        if self.name and entry.name != self.name:
            return False
        if self.labels is not None and not self.labels.matches(entry.labels):
            return False
        return self.fields is None or self.fields.matches(entry.fields)

    def classify(self, event: Event) -> str | None:
        """What a watcher of this scope is told: an object that starts or stops matching is ADDED or DELETED for it."""
        if not self.selective:
            return event.kind if self.matches(event.entry) else None
        before = event.previous is not None and self.matches(event.previous)
        after = not event.removed and self.matches(event.entry)
        if after:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None


EVERYTHING = Scope()
