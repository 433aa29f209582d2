"""JSON patch (RFC 6902) with the error texts kubectl's users know from upstream's library."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from kube.patch.errors import MALFORMED, TOO_LARGE, PatchError
from kube.patch.values import copied, same

MAX_OPERATIONS = 10_000
_INDEX = re.compile(r"-?(?:0|[1-9][0-9]{0,8})")
_MISSING = object()


def json_patch(doc: Any, operations: Any) -> Any:
    """The document after all operations, or PatchError and no change at all.

    At most MAX_OPERATIONS operations; a failed `test` is an error like any other.
    """
    if not isinstance(operations, list):
        raise PatchError("json: cannot unmarshal the JSON patch: it must be a list of operations", code=MALFORMED)
    if len(operations) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise PatchError(text, code=TOO_LARGE)
    holder: dict[str, Any] = {"": copied(doc)}
    for operation in operations:
        _apply(holder, operation)
    return holder[""]


def _apply(holder: dict[str, Any], operation: Any) -> None:
    """One operation on the document, which is held under "" so that the root itself has a parent."""
    if not isinstance(operation, dict):
        raise PatchError(f"a JSON patch operation must be an object: {operation!r}", code=MALFORMED)
    name = operation.get("op")
    apply = _OPERATIONS.get(name) if isinstance(name, str) else None
    if apply is None:
        raise PatchError(f"Unexpected kind: {name if name is not None else 'unknown'}", code=MALFORMED)
    apply(holder, operation)


def _pointer(operation: dict[str, Any], field: str = "path") -> list[str]:
    """The tokens of a JSON pointer, led by the "" the document is held under."""
    text = operation.get(field)
    if not isinstance(text, str):
        raise PatchError(f"operation {operation['op']} has no {field}", code=MALFORMED)
    if text and not text.startswith("/"):
        raise PatchError(f'{field} "{text}" is no JSON pointer: it must start with "/"', code=MALFORMED)
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError(f"operation {operation['op']} {operation.get('path')} has no value", code=MALFORMED)
    return copied(operation["value"])


def _parent(holder: dict[str, Any], tokens: Sequence[str], operation: dict[str, Any]) -> Any:
    node: Any = holder
    for token in tokens[:-1]:
        node = _child(node, token)
        if not isinstance(node, dict | list):
            raise _missing("path", operation)
    return node


def _missing(what: str, operation: dict[str, Any]) -> PatchError:
    where = operation["path"] if operation["op"] == "replace" else f'"{operation["path"]}"'
    return PatchError(f"{operation['op']} operation does not apply: doc is missing {what}: {where}: missing value")


def _failed(why: str, operation: dict[str, Any]) -> PatchError:
    return PatchError(f"error in {operation['op']} for path: '{operation['path']}': {why}")


def _child(node: Any, token: str) -> Any:
    if isinstance(node, dict):
        return node.get(token, _MISSING)
    if isinstance(node, list) and _INDEX.fullmatch(token) and -len(node) <= int(token) < len(node):
        return node[int(token)]
    return _MISSING


def _position(token: str, operation: dict[str, Any], *, size: int) -> int:
    """The list position below `size`; upstream counts negative ones from the end."""
    position = int(token) if _INDEX.fullmatch(token) else size
    if not -size <= position < size:
        raise _failed(f"Unable to access invalid index: {token}: invalid index referenced", operation)
    return position % size


def _insert(holder: dict[str, Any], tokens: Sequence[str], value: Any, operation: dict[str, Any]) -> None:
    parent, token = _parent(holder, tokens, operation), tokens[-1]
    if isinstance(parent, dict):
        parent[token] = value
    elif token == "-":
        parent.append(value)
    else:
        parent.insert(_position(token, operation, size=len(parent) + 1), value)


def _take(holder: dict[str, Any], tokens: Sequence[str], operation: dict[str, Any]) -> Any:
    parent, token = _parent(holder, tokens, operation), tokens[-1]
    if isinstance(parent, list):
        return parent.pop(_position(token, operation, size=len(parent)))
    if token not in parent:
        raise _failed(f"Unable to remove nonexistent key: {token}: missing value", operation)
    return parent.pop(token)


def _add(holder: dict[str, Any], operation: dict[str, Any]) -> None:
    _insert(holder, _pointer(operation), _value(operation), operation)


def _remove(holder: dict[str, Any], operation: dict[str, Any]) -> None:
    tokens = _pointer(operation)
    if len(tokens) == 1:
        raise _missing("path", operation)
    _take(holder, tokens, operation)


def _replace(holder: dict[str, Any], operation: dict[str, Any]) -> None:
    """Upstream's library also sets a key that is not there yet; a list position must exist."""
    tokens, value = _pointer(operation), _value(operation)
    parent, token = _parent(holder, tokens, operation), tokens[-1]
    if isinstance(parent, dict):
        parent[token] = value
    elif _child(parent, token) is _MISSING:
        raise _missing("key", operation)
    else:
        parent[int(token)] = value


def _source(holder: dict[str, Any], tokens: Sequence[str], operation: dict[str, Any]) -> Any:
    found = _child(_parent(holder, tokens, operation), tokens[-1])
    if found is _MISSING:
        raise PatchError(
            f"{operation['op']} operation does not apply: doc is missing from path: {operation['from']}: missing value"
        )
    return found


def _move(holder: dict[str, Any], operation: dict[str, Any]) -> None:
    origin, target = _pointer(operation, "from"), _pointer(operation)
    if target[: len(origin)] == origin and target != origin:
        raise PatchError(f"move operation does not apply: {operation['path']} lies inside {operation['from']}")
    _source(holder, origin, operation)
    _insert(holder, target, _take(holder, origin, operation), operation)


def _copy(holder: dict[str, Any], operation: dict[str, Any]) -> None:
    value = copied(_source(holder, _pointer(operation, "from"), operation))
    _insert(holder, _pointer(operation), value, operation)


def _test(holder: dict[str, Any], operation: dict[str, Any]) -> None:
    tokens = _pointer(operation)
    found = _child(_parent(holder, tokens, operation), tokens[-1])
    wanted = operation.get("value")
    if not same(None if found is _MISSING else found, wanted):
        raise PatchError(f"testing value {operation['path']} failed: test failed")


_OPERATIONS: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "add": _add,
    "copy": _copy,
    "move": _move,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
}
