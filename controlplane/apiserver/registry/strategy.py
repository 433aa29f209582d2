"""What the API server asks of a kind, and the answers plain kinds give.

Owns the Strategy protocol and `Plain`, its default. Kinds with rules of their own override single steps.
Must not know requests, the store or admission: strategies are stateless and see plain dicts only.

The verbs call, on create: `default`, (admission), `prepare_create`, `validate_create`; on update:
`default`, `prepare_update`, (admission), `validate_update`; on a status write: `default`, `prepare_status`,
`validate_status`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from controlplane.apiserver.registry import columns, field, metadata, names
from controlplane.apiserver.registry.columns import Column
from kube import status
from kube.scheme import Resource
from kube.status import FieldError

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """A subresource that is the object itself under rules of its own; both functions see (new, stored)."""

    prepare: Callable[[JSON, JSON], None]
    """Take over what the subresource may change, and nothing else (in place)."""
    validate: Callable[[JSON, JSON], list[FieldError]]


class Strategy(Protocol):
    """The rules of one kind. Objects are changed in place where a method says so."""

    resource: Resource
    columns: tuple[Column, ...]
    views: Mapping[str, View]

    def default(self, obj: JSON) -> None:
        """Fill in the defaults (in place). Raises ApiError 400 for text that upstream cannot decode."""

    def prepare_create(self, obj: JSON) -> None:
        """Drop what clients may not set, and set the first status and generation (in place)."""

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        """Keep the stored status; bump the generation when the content changed (in place)."""

    def prepare_status(self, obj: JSON, old: JSON) -> None:
        """Keep everything but the status of the stored object (in place)."""

    def validate_create(self, obj: JSON) -> list[FieldError]:
        """Faults of a new object."""

    def validate_update(self, obj: JSON, old: JSON) -> list[FieldError]:
        """Faults of a changed object."""

    def validate_status(self, obj: JSON, old: JSON) -> list[FieldError]:
        """Faults of a status write."""

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        """What the client should be told of an object that is legal; `old` is None on create."""

    def field_values(self, obj: JSON) -> dict[str, str]:
        """What field selectors see beyond metadata.name and metadata.namespace; every selectable key is present."""

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        """The object's row, one cell per column."""

    def row_conditions(self, obj: JSON) -> list[JSON]:
        """Conditions of the row; only finished pods have one."""

    def deletion_grace(self, obj: JSON, options: JSON) -> int | None:
        """Seconds a graceful deletion takes; None: the kind knows none and is deleted at once."""


class Plain:
    """A kind without rules of its own beyond metadata."""

    columns: tuple[Column, ...] = columns.PLAIN
    views: Mapping[str, View] = {}
    name_rule: ClassVar[names.NameRule] = staticmethod(names.dns_subdomain)
    generation_of: ClassVar[tuple[str, ...]] = ()
    """Top-level fields whose change makes a new generation; empty: the kind has no generation."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._has_status = "status" in resource.subresources

    def default(self, obj: JSON) -> None:
        """Drop nulls, which the API treats as absent, then fill in the kind's own defaults."""
        drop_nulls(obj)
        try:
            self.fill(obj)
        except ValueError as error:
            kind = self.resource.kind
            text = f'{kind} in version "{self.resource.version}" cannot be handled as a {kind}: {error}'
            raise status.bad_request(text) from error

    def fill(self, obj: JSON) -> None:
        """The kind's own defaults. Raises ValueError for text that cannot be decoded."""

    def prepare_create(self, obj: JSON) -> None:
        if self._has_status:
            obj.pop("status", None)
        if self.generation_of:
            obj.setdefault("metadata", {})["generation"] = 1

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        if self._has_status:
            _take(obj, old, "status")
        if self.generation_of:
            meta, was = obj.setdefault("metadata", {}), (old.get("metadata") or {}).get("generation") or 0
            changed = any(obj.get(key) != old.get(key) for key in self.generation_of)
            meta["generation"] = was + 1 if changed or self._deletion_begins(obj, old) else was
            if not meta["generation"]:
                del meta["generation"]

    @staticmethod
    def _deletion_begins(obj: JSON, old: JSON) -> bool:
        return bool(obj["metadata"].get("deletionTimestamp")) and not (old.get("metadata") or {}).get(
            "deletionTimestamp"
        )

    def prepare_status(self, obj: JSON, old: JSON) -> None:
        status, meta = obj.get("status"), obj.get("metadata") or {}
        version = meta.get("resourceVersion")
        obj.clear()
        obj.update(old)
        kept = dict(old.get("metadata") or {})
        for key in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
            if key in self.status_metadata and key in meta:
                kept[key] = meta[key]
        if version:
            kept["resourceVersion"] = version
        obj["metadata"] = kept
        if status is None:
            obj.pop("status", None)
        else:
            obj["status"] = status

    status_metadata: ClassVar[tuple[str, ...]] = ("labels", "annotations", "finalizers", "managedFields")
    """Metadata that a status write may also change."""

    def validate_create(self, obj: JSON) -> list[FieldError]:
        errors = metadata.validate(
            obj.get("metadata") or {}, namespaced=self.resource.namespaced, rule=type(self).name_rule
        )
        return errors + self.validate(obj)

    def validate_update(self, obj: JSON, old: JSON) -> list[FieldError]:
        errors = metadata.validate_update(obj.get("metadata") or {}, old.get("metadata") or {})
        return errors + self.validate_change(obj, old) + self.validate(obj)

    def validate_status(self, obj: JSON, old: JSON) -> list[FieldError]:
        return metadata.validate_update(obj.get("metadata") or {}, old.get("metadata") or {})

    def validate(self, obj: JSON) -> field.Errors:
        """Faults of the content, on create and on update."""
        return []

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        """Faults of the change alone: what may not be changed."""
        return []

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return []

    def field_values(self, obj: JSON) -> dict[str, str]:
        return {}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), (obj.get("metadata") or {}).get("creationTimestamp") or columns.UNKNOWN]

    def row_conditions(self, obj: JSON) -> list[JSON]:
        return []

    def deletion_grace(self, obj: JSON, options: JSON) -> int | None:
        return None


def _take(obj: JSON, old: JSON, key: str) -> None:
    if key in old:
        obj[key] = old[key]
    else:
        obj.pop(key, None)


def drop_nulls(value: JSON) -> None:
    """Remove null members, in place; a null list item becomes an empty object, as decoding one makes it."""
    for key in [key for key, item in value.items() if item is None]:
        del value[key]
    for item in value.values():
        if type(item) is dict:
            drop_nulls(item)
        elif type(item) is list:
            _clean_list(item)


def _clean_list(items: list[Any]) -> None:
    for index, item in enumerate(items):
        if type(item) is dict:
            drop_nulls(item)
        elif item is None:
            items[index] = {}
        elif type(item) is list:
            _clean_list(item)
