"""The order of a merged list: what the patch names in its order, the rest where the server had it.

Pure list work, no merging. `key` is the merge key of a list of maps, or "" for a list of scalars.
"""

from __future__ import annotations

import json
from typing import Any


def mark(item: Any, key: str) -> str:
    """What makes an item itself, as comparable text: the value under its merge key, or the scalar."""
    if key:
        item = item.get(key) if isinstance(item, dict) else None
    return json.dumps(item, sort_keys=True)


def places(items: list[Any], key: str) -> dict[str, int]:
    """mark -> first index."""
    found: dict[str, int] = {}
    for index, item in enumerate(items):
        found.setdefault(mark(item, key), index)
    return found


def arranged(merged: list[Any], wanted: list[Any], before: list[Any], *, key: str) -> list[Any]:
    """`merged` in order: items named in `wanted` follow it, the others follow `before`.

    Between the two groups the order of `before` decides where both are known; otherwise items of the patch come first.
    """
    wanted_at, before_at = places(wanted, key), places(before, key)
    marked = [(mark(item, key), item) for item in merged]
    named = sorted((entry for entry in marked if entry[0] in wanted_at), key=lambda entry: wanted_at[entry[0]])
    others = sorted(
        (entry for entry in marked if entry[0] not in wanted_at), key=lambda entry: before_at.get(entry[0], -1)
    )
    return [item for _, item in _woven(others, named, before_at)]


_Marked = list[tuple[str, Any]]


def _woven(others: _Marked, named: _Marked, before_at: dict[str, int]) -> _Marked:
    result: _Marked = []
    left, right = others[::-1], named[::-1]
    while left and right:
        other_at, named_at = before_at.get(left[-1][0], -1), before_at.get(right[-1][0], -1)
        result.append(left.pop() if 0 <= other_at < named_at else right.pop())
    return result + left[::-1] + right[::-1]
