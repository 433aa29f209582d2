"""Objects seen through their structure: which fields they have, how two differ, merged, and fields taken out.

Owns the walk that server-side apply rests on (structured-merge-diff `typed`). Must not know owners of fields, nor where
a structure comes from. Inputs are never changed; results may share parts with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from kube.patch import fieldset
from kube.patch.errors import MALFORMED, PatchError
from kube.patch.fieldset import Fields

Object = dict[str, Any]


class Structure(Protocol):
    """How a value of one type is owned.

    Tags: leaf (as a whole), struct, map (by key), keyed (a list, by its items' keys), set (a list, by value), any (maps
    by key, all else as a whole).
    """

    @property
    def tag(self) -> str:
        """One of the tags above."""

    def declares(self, name: str) -> bool:
        """Whether this is a struct with such a field."""

    def field(self, name: str) -> Structure:
        """The structure of a field or map value."""

    def item(self) -> Structure:
        """The structure of a list's items."""

    def key(self, item: Object) -> Object:
        """The identifying fields of an item of a keyed list, absent ones with defaults filled in."""


@dataclass(slots=True)
class Difference:
    """The fields a second object has beside the first's, lacks, or has with another value."""

    added: Fields = field(default_factory=dict)
    removed: Fields = field(default_factory=dict)
    modified: Fields = field(default_factory=dict)

    def without(self, fields: Fields) -> Difference:
        """The difference without some members."""
        parts = (self.added, self.removed, self.modified)
        return Difference(*(fieldset.difference(part, fields) for part in parts))


def _kind(value: Any, structure: Structure) -> str:
    """map, list or leaf: what this value is walked as."""
    tag = structure.tag
    if tag in ("struct", "map", "any"):
        return "map" if isinstance(value, dict) else "leaf"
    return "list" if tag != "leaf" and isinstance(value, list) else "leaf"


def element(item: Any, structure: Structure) -> str:
    """The path element of an item of a list; `k:{}` for an item without any key, which no valid object holds."""
    if structure.tag == "set":
        return f"v:{orjson.dumps(item).decode()}"
    keys = structure.key(item) if isinstance(item, dict) else {}
    return f"k:{orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()}"


def _elements(items: list[Any], structure: Structure) -> dict[str, Any]:
    """The items by path element; several of one (an applier may not, an update may) are a tuple, owned as a whole."""
    found: dict[str, Any] = {}
    for item in items:
        key = element(item, structure)
        if key in found:
            before = found[key]
            found[key] = (*before, item) if isinstance(before, tuple) else (before, item)
        else:
            found[key] = item
    return found


# --- fields ----------------------------------------------------------------------------------------


def fields_of(obj: Object, structure: Structure) -> Fields:
    """The fields an object sets: what its applier owns."""
    node = _fields(obj, structure)
    return fieldset.below(node) if node else {}


def _fields(value: Any, structure: Structure) -> Fields | None:
    kind = _kind(value, structure)
    if kind == "map":
        children: Fields = {}
        for name, item in value.items():
            own = item is None or item == {} or not structure.declares(name)
            _put(children, f"f:{name}", _fields(item, structure.field(name)), own=own)
        return fieldset.node_of(children, own=False)
    if kind == "list":
        items: Fields = {}
        for key, item in _elements(value, structure).items():
            _put(items, key, _fields(item, structure.item()), own=True)
        return fieldset.node_of(items, own=False)
    return {}


def _put(children: Fields, key: str, node: Fields | None, *, own: bool) -> None:
    """Place a child, itself a member if `own`."""
    if node is None:
        if own:
            children[key] = {}
    else:
        children[key] = {fieldset.SELF: {}, **node} if own and node else node


def _whole(value: Any, structure: Structure) -> Fields:
    """The node of a value that is there on one side only: every field of it, and all that leads to them."""
    kind = _kind(value, structure)
    if kind == "map":
        children = {f"f:{name}": _whole(item, structure.field(name)) for name, item in value.items()}
    elif kind == "list":
        below = structure.item()
        children = {key: _whole(item, below) for key, item in _elements(value, structure).items()}
    else:
        return {}
    return {fieldset.SELF: {}, **children} if children else {}


# --- difference ------------------------------------------------------------------------------------


def compare(old: Object, new: Object, structure: Structure) -> Difference:
    """What changed from `old` to `new`. Cost follows the change: equal parts are not walked."""
    found = Difference()
    if old != new:
        _compare_maps(old, new, structure, found)
    return found


def _compare_maps(old: Object, new: Object, structure: Structure, found: Difference) -> None:
    _compare_pairs(
        {f"f:{name}": (item, structure.field(name)) for name, item in old.items() if new.get(name) != item},
        {f"f:{name}": (item, structure.field(name)) for name, item in new.items() if old.get(name) != item},
        found,
    )


def _compare_pairs(
    old: dict[str, tuple[Any, Structure]], new: dict[str, tuple[Any, Structure]], found: Difference
) -> None:
    for key, (item, structure) in new.items():
        if key not in old:
            found.added[key] = _whole(item, structure)
        elif old[key][0] != item:
            _compare_values(key, old[key][0], item, structure, found)
    for key, (item, structure) in old.items():
        if key not in new:
            found.removed[key] = _whole(item, structure)


def _compare_values(key: str, old: Any, new: Any, structure: Structure, found: Difference) -> None:
    kind = _kind(new, structure)
    if kind == "leaf" or kind != _kind(old, structure):
        found.modified[key] = {}
        if isinstance(new, tuple) and (lost := fieldset.below(_whole(old, structure))):
            found.removed[key] = lost
        return
    below = Difference()
    if kind == "map":
        _compare_maps(old, new, structure, below)
    else:
        item = structure.item()
        _compare_pairs(
            {name: (value, item) for name, value in _elements(old, structure).items()},
            {name: (value, item) for name, value in _elements(new, structure).items()},
            below,
        )
    for target, part in ((found.added, below.added), (found.removed, below.removed), (found.modified, below.modified)):
        if part:
            target[key] = part


# --- merging ---------------------------------------------------------------------------------------


def merge(old: Any, new: Any, structure: Structure) -> Any:
    """`old` with everything `new` says laid over it; lists by key and sets keep what only one of them has."""
    kind = _kind(new, structure)
    if kind == "leaf" or kind != _kind(old, structure):
        return new
    if kind == "list":
        return _merged_lists(old, new, structure)
    merged = dict(old)
    for name, item in new.items():
        merged[name] = merge(old[name], item, structure.field(name)) if name in old else item
    return merged


def _merged_lists(old: list[Any], new: list[Any], structure: Structure) -> list[Any]:
    """Items of `new` in their order; items only `old` has keep their place between those both have."""
    left = [(element(item, structure), item) for item in old]
    right = [(element(item, structure), item) for item in new]
    ours, theirs, below = dict(reversed(left)), dict(right), structure.item()
    shared = [key for key, _ in right if key in ours]
    found: list[Any] = []
    done: set[str] = set()
    at = position = 0
    while at < len(left) or position < len(right):
        if at < len(left):
            key, item = left[at]
            awaited = shared[0] if shared else None
            if key not in theirs:
                found.append(item)
                at += 1
                continue
            if key in done or (position < len(right) and key != awaited and key != right[position][0]):
                at += 1
                continue
        key, item = right[position]
        found.append(merge(ours[key], item, below) if key in ours else item)
        done.add(key)
        if shared and shared[0] == key:
            shared.pop(0)
        position += 1
    return found


def check_unique(value: Any, structure: Structure, path: str = "") -> None:
    """PatchError when a keyed list or set holds an item twice, or one without any key."""
    kind = _kind(value, structure)
    if kind == "map":
        for name, item in value.items():
            check_unique(item, structure.field(name), f"{path}.{name}")
    elif kind == "list":
        seen: set[str] = set()
        for item in value:
            key = element(item, structure)
            if key == "k:{}":
                text = "associative list with keys has an element that omits all key fields"
                raise PatchError(f"{path}: {text}", code=MALFORMED)
            if key in seen:
                raise PatchError(f"{path}: duplicate entries for key {fieldset.text((key,))}", code=MALFORMED)
            seen.add(key)
            check_unique(item, structure.item(), path + fieldset.text((key,)))


# --- taking out ------------------------------------------------------------------------------------


def remove(obj: Object, fields: Fields, structure: Structure) -> Object:
    """The object without some fields; what becomes empty by that goes too."""
    return _removed(obj, fields, structure) or {}


def _removed(value: Any, fields: Fields, structure: Structure) -> Any:
    kind = _kind(value, structure)
    if kind == "map":
        pairs = [(name, item, fields.get(f"f:{name}"), structure.field(name)) for name, item in value.items()]
        return {name: kept for name, item, node, below in pairs if (kept := _left(item, node, below)) is not None}
    if kind == "list":
        below = structure.item()
        nodes = [(item, fields.get(element(item, structure))) for item in value]
        return [kept for item, node in nodes if (kept := _left(item, node, below)) is not None]
    return value


def _left(item: Any, node: Fields | None, structure: Structure) -> Any:
    if node is None:
        return item
    if fieldset.member(node):
        return None
    left = _removed(item, fieldset.below(node), structure)
    return None if left in ({}, []) else left


def with_parents(fields: Fields, structure: Structure) -> Fields:
    """The set in which each struct field that has members below it is a member too."""
    found: Fields = {}
    for key, node in fields.items():
        name, children = key[2:], fieldset.below(node)
        named = key.startswith("f:")
        child = with_parents(children, structure.field(name) if named else structure.item()) if children else {}
        own = fieldset.member(node) or (named and bool(children) and structure.declares(name))
        kept = fieldset.node_of(child, own=own)
        if kept is not None:
            found[key] = kept
    return found
