"""Sets of fields in the form managedFields stores them (FieldsV1), and their algebra.

A set is a dict from path element to node: `f:name` a field, `k:{...}` a list item by keys, `v:...` one by its value.
A node `{}` is a member; with children it is a member only if it also holds `.`. Nothing here changes its inputs.
Must not know schemas, objects or who owns a set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]
SELF = "."
_PREFIXES = ("f:", "k:", "v:", "i:")


class BadFields(ValueError):
    """A value that is no FieldsV1."""


def member(node: Fields) -> bool:
    """Whether the path that leads to this node is in the set itself."""
    return not node or SELF in node


def below(node: Fields) -> Fields:
    """The set under this node."""
    return {key: child for key, child in node.items() if key != SELF} if SELF in node else node


def node_of(children: Fields, *, own: bool) -> Fields | None:
    """The node with these children; None when nothing of it is in the set."""
    if not children:
        return {} if own else None
    return {SELF: {}, **children} if own else children


def union(left: Fields, right: Fields) -> Fields:
    """What is in either. Like its neighbours it walks only what both have in common, and shares the rest."""
    if not left or not right:
        return left or right
    found = dict(left)
    for key, node in right.items():
        mine = found.get(key)
        found[key] = node if mine is None else _union(mine, node)
    return found


def _union(left: Fields, right: Fields) -> Fields:
    return node_of(union(below(left), below(right)), own=member(left) or member(right)) or {}


def intersection(left: Fields, right: Fields) -> Fields:
    """What is in both."""
    found: Fields = {}
    for key, mine in left.items():
        if (node := right.get(key)) is not None:
            children = intersection(below(mine), below(node))
            kept = node_of(children, own=member(mine) and member(node))
            if kept is not None:
                found[key] = kept
    return found


def difference(left: Fields, right: Fields) -> Fields:
    """What is in `left` only; a member of `right` says nothing of the fields below it."""
    found = left
    for key, node in right.items():
        mine = left.get(key)
        if mine is None:
            continue
        kept = node_of(difference(below(mine), below(node)), own=member(mine) and not member(node))
        if kept == mine:
            continue
        if found is left:
            found = dict(left)
        if kept is None:
            del found[key]
        else:
            found[key] = kept
    return found


def paths(fields: Fields) -> Iterator[tuple[str, ...]]:
    """Every member as a tuple of path elements: those of a level in order, then those below."""
    keys = sorted(key for key in fields if key != SELF)
    for key in keys:
        if member(fields[key]):
            yield (key,)
    for key in keys:
        for rest in paths(below(fields[key])):
            yield (key, *rest)


def text(path: tuple[str, ...]) -> str:
    """A path as messages show it: `.spec.containers[name="a"].image`."""
    return "".join(map(_shown, path))


def _shown(element: str) -> str:
    kind, value = element[:2], element[2:]
    if kind == "f:":
        return f".{value}"
    if kind == "k:":
        pairs = [f"{name}={json.dumps(item, ensure_ascii=False)}" for name, item in sorted(json.loads(value).items())]
        return f"[{','.join(pairs)}]"
    return f"[={value}]" if kind == "v:" else f"[{value}]"


def check(fields: Any) -> Fields:
    """The same value, known to be a set; raises BadFields."""
    if not isinstance(fields, dict):
        raise BadFields(f"want an object, found {fields!r}")
    for key, child in fields.items():
        if key != SELF and (len(key) < 2 or key[:2] not in _PREFIXES):
            raise BadFields(f"{key!r} is no path element")
        if key.startswith("k:"):
            _check_key(key[2:])
        check(child)
    return fields


def _check_key(value: str) -> None:
    try:
        keys = json.loads(value)
    except ValueError as e:
        raise BadFields(f"{value!r} is no JSON object") from e
    if not isinstance(keys, dict):
        raise BadFields(f"{value!r} is no JSON object")
