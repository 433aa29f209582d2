"""Server-side apply: what an applied configuration makes of an object, and who owns which field after any write.

Owns merging, conflicts, removal of what an applier no longer wants, and kubectl's move from its own annotation
(structured-merge-diff `merge/update.go`, apimachinery `managedfields`). Pure; must not know requests or storage.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from kube.patch import fieldset, owners, typed
from kube.patch.fieldset import Fields
from kube.patch.owners import Owned, Owner
from kube.patch.typed import Structure
from kube.patch.values import copied

Object = dict[str, Any]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ALWAYS_THERE = frozenset({"metadata", "spec", "status", "template", "strategy", "updateStrategy", "jobTemplate"})
"""Structs that Go objects always hold: a new object's writer owns what is in them, not themselves."""


class Conflicts(Exception):
    """An applied configuration would change fields of others; `fields` says whose and which."""

    def __init__(self, fields: Mapping[Owner, Fields]) -> None:
        self.fields = fields
        super().__init__(self._message())

    def _pairs(self) -> list[tuple[str, list[str]]]:
        found = [(str(owner), list(map(fieldset.text, fieldset.paths(f)))) for owner, f in self.fields.items()]
        return sorted(found)

    def _message(self) -> str:
        pairs = self._pairs()
        count = sum(len(paths) for _, paths in pairs)
        if count == 1:
            return f"Apply failed with 1 conflict: conflict with {pairs[0][0]}: {pairs[0][1][0]}"
        parts = ["\n- ".join([f"conflicts with {owner}:", *paths]) for owner, paths in pairs]
        return f"Apply failed with {count} conflicts: " + "\n".join(parts)

    def causes(self) -> list[Object]:
        """One per owner and field."""
        return [
            {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path}
            for owner, paths in self._pairs()
            for path in paths
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Who writes, when, and the top-level fields (such as status) this way of writing cannot change."""

    owner: Owner
    now: str
    ignored: tuple[str, ...] = ()


def apply(live: Object, config: Object, structure: Structure, write: Write, *, force: bool) -> Object:
    """The object after `write.owner` applied `config`; `live` is {} when there is none yet.

    Raises Conflicts, and PatchError for a configuration that names a list item twice or not at all.
    """
    typed.check_unique(config, structure)
    known = owners.of_object(live, trusted=True)
    if not known and live:
        known = _before_first_apply(live, structure, write)
    bare, wish = _without_owners(live), _without_owners(config)
    try:
        merged, after = _applied(bare, wish, structure, known, write, force=force)
    except Conflicts as conflicts:
        allowed = _known_to_kubectl(bare, structure, write)
        left = {owner: fieldset.difference(fields, allowed) for owner, fields in conflicts.fields.items()}
        if left := {owner: fields for owner, fields in left.items() if fields}:
            raise Conflicts(left) from None
        merged, after = _applied(bare, wish, structure, known, write, force=True)
    result = copied(merged)
    if write.owner.manager == owners.KUBECTL:
        _renew_last_applied(result, wish)
    return _with_owners(result, after)


def updated(old: Object, new: Object, structure: Structure, write: Write) -> Object:
    """`new` with the owners of its fields, after `write.owner` made it of `old` ({}: it is new).

    What `new` itself says of owners is taken as the state before, so that a client can correct it.
    """
    said, stored = (_said(obj) for obj in (new, old))
    if said == owners.RESET:
        return _with_owners(new, {})
    known = owners.of_object(new) if said != stored else {}
    known = known or owners.of_object(old, trusted=True)
    bare = _without_owners(old) if old else _blank(new)
    found = typed.compare(bare, _without_owners(new), structure).without(owners.NEVER_TRACKED)
    _ignore(found, write.ignored)
    gained = fieldset.union(found.modified, found.added)
    lost = fieldset.union(gained, found.removed)
    after = {owner: replace(owned, fields=fieldset.difference(owned.fields, lost)) for owner, owned in known.items()}
    if gained:
        me, version = write.owner.identity, write.owner.api_version
        before = after[me].fields if me in after else {}
        after[me] = Owned(fieldset.union(gained, before), version, write.now)
    return _with_owners(new, owners.capped(owners.tracked(after)))


# --- applying --------------------------------------------------------------------------------------


def _applied(
    live: Object, config: Object, structure: Structure, known: owners.Owners, write: Write, *, force: bool
) -> tuple[Object, dict[Owner, Owned]]:
    me, version = write.owner.identity, write.owner.api_version
    fields = typed.fields_of(config, structure)
    for name in write.ignored:
        fields.pop(f"f:{name}", None)
    after = {**known, me: Owned(fields, version, write.now)}
    merged: Object = typed.merge(live, config, structure)
    if (last := known.get(me)) is not None and last.fields:
        merged = _pruned(merged, after, last.fields, structure)
    found = typed.compare(live, merged, structure)
    changed = fieldset.union(found.modified, found.added)
    others = {owner: owned for owner, owned in after.items() if owner != me}
    conflicts = {owner: fieldset.intersection(owned.fields, changed) for owner, owned in others.items()}
    conflicts = {owner: fields for owner, fields in conflicts.items() if fields}
    if conflicts and not force:
        raise Conflicts(conflicts)
    lost = fieldset.union(changed, found.removed)
    for owner, owned in others.items():
        after[owner] = replace(owned, fields=fieldset.difference(owned.fields, lost))
    return merged, owners.tracked(after)


def _pruned(merged: Object, after: owners.Owners, last: Fields, structure: Structure) -> Object:
    """`merged` without what the applier set before and wants no more, unless others own it too."""

    def all_of(fields: Fields) -> Fields:
        return typed.with_parents(fields, structure)

    before = all_of(last)
    pruned = typed.remove(merged, before, structure)
    owned: Fields = {}
    for entry in after.values():
        owned = fieldset.union(owned, entry.fields)
    everything = all_of(typed.fields_of(merged, structure))
    kept = fieldset.union(all_of(typed.fields_of(pruned, structure)), all_of(owned))
    pruned = typed.remove(merged, fieldset.difference(everything, kept), structure)
    left = all_of(typed.fields_of(pruned, structure))
    gone = fieldset.intersection(fieldset.difference(everything, left), before)
    return typed.remove(merged, gone, structure)


def _before_first_apply(live: Object, structure: Structure, write: Write) -> dict[Owner, Owned]:
    """Of an object nobody was tracked on, all fields belong to whoever was there before."""
    owner = Owner(owners.BEFORE, owners.UPDATE, write.owner.api_version)
    found = typed.compare(_blank(live), _without_owners(live), structure)
    _ignore(found, write.ignored)
    return owners.tracked({owner: Owned(found.added, write.owner.api_version, write.now)})


def _known_to_kubectl(live: Object, structure: Structure, write: Write) -> Fields:
    """The fields kubectl's own last-applied annotation claims and that still have the values it says."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED, "")
    if write.owner.manager != owners.KUBECTL or not text:
        return {}
    try:
        last = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(last, dict) or last.get("apiVersion") != live.get("apiVersion"):
        return {}
    found = typed.compare(live, last, structure)
    claimed = typed.fields_of(last, structure)
    for part in (found.modified, found.added, found.removed):
        claimed = fieldset.difference(claimed, part)
    return claimed


def _renew_last_applied(obj: Object, config: Object) -> None:
    """Keep kubectl's annotation true where there is one, so that its client-side apply goes on working."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return
    applied = copy.deepcopy(config)
    (applied.get("metadata", {}).get("annotations") or {}).pop(LAST_APPLIED, None)
    annotations[LAST_APPLIED] = orjson.dumps(applied, option=orjson.OPT_SORT_KEYS).decode() + "\n"


# --- parts -----------------------------------------------------------------------------------------


def _blank(obj: Object) -> Object:
    """What there was before a new object: the structs that are always there, empty."""
    found: Object = {key: obj[key] for key in ("apiVersion", "kind") if key in obj}
    for name, value in obj.items():
        if name in _ALWAYS_THERE and isinstance(value, dict):
            found[name] = _blank(value)
    return found


def _ignore(found: typed.Difference, names: tuple[str, ...]) -> None:
    for part in (found.added, found.removed, found.modified):
        for name in names:
            part.pop(f"f:{name}", None)


def _said(obj: Object) -> Any:
    return (obj.get("metadata") or {}).get("managedFields")


def _without_owners(obj: Object) -> Object:
    metadata = obj.get("metadata") or {}
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def _with_owners(obj: Object, found: owners.Owners) -> Object:
    bare = _without_owners(obj)
    if not found:
        return bare
    return {**bare, "metadata": {**bare["metadata"], "managedFields": owners.encode(found)}}
