"""Who owns which fields of an object: metadata.managedFields, read and written.

Owns the entries' form, what is never tracked, and the cap on writers that are remembered (apimachinery
`managedfields`). Must not know objects or how ownership changes.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kube.patch import fieldset
from kube.patch.fieldset import Fields

Object = dict[str, Any]
APPLY, UPDATE = "Apply", "Update"
BEFORE = "before-first-apply"
ANCIENT = "ancient-changes"
KUBECTL = "kubectl"
MAX_UPDATERS = 10
MAX_NAME = 128
RESET: list[Object] = [{}]
"""What a client writes into managedFields to be rid of all of them."""
_SERVER_OWNED = ("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation",
                 "managedFields", "resourceVersion")  # fmt: skip
NEVER_TRACKED: Fields = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {fieldset.SELF: {}, **{f"f:{name}": {} for name in _SERVER_OWNED}},
}


@dataclass(frozen=True, slots=True)
class Owner:
    """One writer. An applier is the same whatever version it applies."""

    manager: str
    operation: str = UPDATE
    api_version: str = ""
    subresource: str = ""

    @property
    def identity(self) -> Owner:
        """What tells it from others."""
        return replace(self, api_version="") if self.operation == APPLY else self

    def __str__(self) -> str:
        """As messages name it: `"kubectl-create" using apps/v1`."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(frozen=True, slots=True)
class Owned:
    """The fields of one owner, in terms of `api_version`, and when they were last written."""

    fields: Fields
    api_version: str
    time: str = ""


Owners = Mapping[Owner, Owned]


def decode(entries: Any, *, trusted: bool = False) -> dict[Owner, Owned]:
    """The owners in managedFields; nobody for `[{}]`. Raises fieldset.BadFields; what we stored is not checked."""
    found: dict[Owner, Owned] = {}
    if not isinstance(entries, list):
        raise fieldset.BadFields(f"want a list, found {entries!r}")
    if entries == RESET:
        return found
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("fieldsType", "FieldsV1") != "FieldsV1":
            raise fieldset.BadFields(f"want an entry of type FieldsV1, found {entry!r}")
        operation = entry.get("operation", "")
        if operation not in (APPLY, UPDATE):
            raise fieldset.BadFields(f"invalid operation {operation!r}: want {APPLY} or {UPDATE}")
        version = entry.get("apiVersion", "")
        owner = Owner(entry.get("manager", ""), operation, version, entry.get("subresource", "")).identity
        fields = entry.get("fieldsV1") or {}
        found[owner] = Owned(fields if trusted else fieldset.check(fields), version, entry.get("time") or "")
    return found


def encode(owners: Owners) -> list[Object]:
    """The owners as managedFields lists them: appliers first, then by time and name."""

    def order(pair: tuple[Owner, Owned]) -> tuple[str, str, str, str, str]:
        owner, owned = pair
        return owner.operation, owned.time, owner.manager, owned.api_version, owner.subresource

    return [_entry(owner, owned) for owner, owned in sorted(owners.items(), key=order)]


def _entry(owner: Owner, owned: Owned) -> Object:
    entry: Object = {"manager": owner.manager, "operation": owner.operation, "apiVersion": owned.api_version}
    if owned.time:
        entry["time"] = owned.time
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": owned.fields}
    if owner.subresource:
        entry["subresource"] = owner.subresource
    return entry


def of_object(obj: Mapping[str, Any], *, trusted: bool = False) -> dict[Owner, Owned]:
    """The owners an object names; nobody when it names them badly."""
    try:
        return decode((obj.get("metadata") or {}).get("managedFields") or [], trusted=trusted)
    except fieldset.BadFields:
        return {}


def tracked(owners: Owners) -> dict[Owner, Owned]:
    """The owners without what is never tracked, and without those that are left with nothing."""
    found: dict[Owner, Owned] = {}
    for owner, owned in owners.items():
        fields = fieldset.difference(owned.fields, NEVER_TRACKED)
        if fields:
            found[owner] = owned if fields == owned.fields else replace(owned, fields=fields)
    return found


def capped(owners: Owners) -> dict[Owner, Owned]:
    """At most MAX_UPDATERS writers are told apart: the oldest become one, `ancient-changes`."""
    found = dict(owners)
    updaters = sorted((o for o in found if o.operation == UPDATE), key=lambda o: (found[o].time, o.manager))
    surplus, first = len(updaters) - MAX_UPDATERS, dict[str, Owner]()
    for owner in updaters:
        if surplus <= 0:
            break
        owned = found[owner]
        bucket = Owner(ANCIENT, UPDATE, owned.api_version)
        if owned.api_version not in first:
            first[owned.api_version] = owner
            continue
        older = found[bucket] if bucket in found else found.pop(first[owned.api_version])
        if bucket != owner:
            found.pop(owner)
        found[bucket] = replace(owned, fields=fieldset.union(owned.fields, older.fields))
        surplus -= 1
    return found


def same_but_times(left: Sequence[Object], right: Sequence[Object]) -> bool:
    """Whether two managedFields say the same of everything but when."""
    return len(left) == len(right) and all(
        {**a, "time": ""} == {**b, "time": ""} for a, b in zip(_timeless(left), _timeless(right), strict=True)
    )


def _timeless(entries: Sequence[Object]) -> list[Object]:
    return sorted(entries, key=lambda e: [e.get(k, "") for k in ("operation", "manager", "apiVersion", "subresource")])


@functools.lru_cache(maxsize=256)
def manager_name(field_manager: str, user_agent: str) -> str:
    """The name a write goes by: as it says itself, else the first word of its User-Agent, else `unknown`."""
    if field_manager:
        return field_manager
    prefix = user_agent.partition("/")[0][:MAX_NAME]
    return "".join(c for c in prefix if unicodedata.category(c)[0] in "LMNPS" or c == " ") or "unknown"
