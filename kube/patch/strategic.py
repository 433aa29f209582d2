"""Strategic merge patch: lists merge by key where the schema says so (apimachinery `strategicpatch`).

Owns the directives `$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`.
Must not know where the rules come from: they are a `MergeRules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from kube.patch import order
from kube.patch.errors import MALFORMED, PatchError
from kube.patch.values import copied, go_text, without_nulls

PATCH = "$patch"
RETAIN_KEYS = "$retainKeys"
SET_ORDER = "$setElementOrder/"
DELETE_FROM = "$deleteFromPrimitiveList/"


class MergeRules(Protocol):
    """How the fields of one type merge."""

    def field(self, name: str) -> FieldRule:
        """The rule of one field; a plain rule for a field the type does not have."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one field merges: lists by `merge_key` if `merge`, `replace` as a whole; `rules` are those below it."""

    rules: MergeRules
    merge: bool = False
    replace: bool = False
    merge_key: str = ""


def strategic_merge(doc: dict[str, Any], patch: Any, rules: MergeRules) -> dict[str, Any]:
    """The document with `patch` merged in by `rules`.

    Raises PatchError with code 400 for a malformed directive, 422 for a patch that does not fit.
    """
    if not isinstance(patch, dict):
        raise PatchError("cannot unmarshal the strategic merge patch: it must be a JSON object", code=MALFORMED)
    return _merge_map(copied(doc), copied(patch), rules)


def _merge_map(target: dict[str, Any], patch: dict[str, Any], rules: MergeRules) -> dict[str, Any]:
    """Merges `patch` into `target`; both are ours to change."""
    if PATCH in patch:
        directive = patch[PATCH]
        if directive == "replace":
            return without_nulls(_without_directives(patch))  # type: ignore[no-any-return]
        if directive == "delete":
            return {}
        if directive != "merge":
            raise _unknown_directive(patch)
        del patch[PATCH]
    _retain_keys(target, patch)
    _merge_ordered_lists(target, patch, rules)
    for key, value in patch.items():
        if key.startswith(DELETE_FROM):
            _delete_from_list(target, key, value)
        elif value is None:
            target.pop(key, None)
        else:
            _merge_field(target, key, value, rules)
    return target


def _unknown_directive(patch: dict[str, Any]) -> PatchError:
    return PatchError(f"unknown patch type: {patch[PATCH]} in map: {go_text(patch)}", code=MALFORMED)


def _merge_field(target: dict[str, Any], key: str, value: Any, rules: MergeRules) -> None:
    old = target.get(key)
    if isinstance(old, dict) and isinstance(value, dict):
        rule = rules.field(key)
        target[key] = value if rule.replace else _merge_map(old, value, rule.rules)
    elif isinstance(old, list) and isinstance(value, list):
        target[key] = _merge_list(old, value, rules.field(key))
    elif not _has_directive(value):
        target[key] = without_nulls(_without_directives(value))


def _retain_keys(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """`$retainKeys`: drops every key of the target that is not listed."""
    if RETAIN_KEYS not in patch:
        return
    kept = patch.pop(RETAIN_KEYS)
    if not isinstance(kept, list) or not all(isinstance(key, str) for key in kept):
        raise PatchError("invalid patch format of retainKeys: it must be a list of field names", code=MALFORMED)
    for key in patch:
        if not key.startswith("$") and key not in kept:
            raise PatchError(f"invalid patch format of retainKeys: {key} is set but not listed", code=MALFORMED)
    for key in [key for key in target if key not in kept]:
        del target[key]


def _delete_from_list(target: dict[str, Any], key: str, values: Any) -> None:
    """`$deleteFromPrimitiveList/x`: takes the listed values out of list x."""
    name = key.removeprefix(DELETE_FROM)
    if not isinstance(values, list) or not name:
        raise PatchError(f"invalid patch format of primitive list: {key} must be a list", code=MALFORMED)
    if isinstance(target.get(name), list):
        gone = order.places(values, "")
        target[name] = [item for item in target[name] if order.mark(item, "") not in gone]


def _merge_ordered_lists(target: dict[str, Any], patch: dict[str, Any], rules: MergeRules) -> None:
    """`$setElementOrder/x`: merges list x of the patch, then puts the result into the given order."""
    for directive in [key for key in patch if key.startswith(SET_ORDER)]:
        wanted, name = patch.pop(directive), directive.removeprefix(SET_ORDER)
        if not isinstance(wanted, list) or not name:
            raise PatchError(f"invalid patch format of setElementOrder list: {directive}", code=MALFORMED)
        if patch.get(name, []) is None:
            continue
        old, new = target.get(name), patch.pop(name, None)
        if not isinstance(old or [], list) or not isinstance(new or [], list):
            raise PatchError(f"invalid patch format of setElementOrder list: {name} is no list", code=MALFORMED)
        if old is None and new is None:
            continue
        rule = rules.field(name)
        _check_order(new or [], wanted, rule.merge_key, name)
        merged = _merge_list(old or [], new, rule) if new is not None else old or []
        target[name] = order.arranged(merged, wanted, old or [], key=rule.merge_key)


def _check_order(items: list[Any], wanted: list[Any], key: str, name: str) -> None:
    """The items of the patch must appear in the order list, in the same order."""
    left = iter([order.mark(item, key) for item in wanted])
    for item in items:
        if isinstance(item, dict) and item.get(PATCH) in ("delete", "replace"):
            continue
        mark = order.mark(item, key)
        if mark not in left:
            text = f"The order in patch list: {name} doesn't match {SET_ORDER}{name} list at {mark}"
            raise PatchError(text, code=MALFORMED)


def _merge_list(old: list[Any], patch: list[Any], rule: FieldRule) -> list[Any]:
    if not rule.merge:
        return patch
    if not old and not patch:
        return old
    if not any(isinstance(item, dict) for item in old + patch):
        union = list({order.mark(item, ""): item for item in old + patch}.values())
        return order.arranged(union, patch, old, key="")
    _check_items(old + patch)
    if not rule.merge_key:
        raise PatchError("cannot merge lists without merge key")
    kept, plain, whole = _special_elements(old, patch, rule.merge_key)
    if whole:
        return without_nulls(_without_directives(plain))  # type: ignore[no-any-return]
    return order.arranged(_merge_items(list(kept), plain, rule), plain, kept, key=rule.merge_key)


def _check_items(items: list[Any]) -> None:
    for item in items:
        if isinstance(item, list):
            raise PatchError("lists of lists are not supported")
        if not isinstance(item, dict):
            raise PatchError(f"list element types are not identical: {item!r} is no object", code=MALFORMED)


def _special_elements(old: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any], bool]:
    """(old without the deleted, patch without the special, whether the patch replaces the whole list)."""
    plain: list[Any] = []
    deleted: set[str] = set()
    whole = False
    for item in patch:
        directive = item.get(PATCH)
        if directive is None:
            plain.append(item)
        elif directive == "delete":
            if key not in item:
                raise PatchError(f"delete patch type with no merge key defined: {key}")
            deleted.add(order.mark(item, key))
        elif directive == "replace":
            whole = True
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(item)
    return [item for item in old if order.mark(item, key) not in deleted], plain, whole


def _merge_items(items: list[Any], patch: list[Any], rule: FieldRule) -> list[Any]:
    key = rule.merge_key
    places = order.places(items, key)
    for change in patch:
        if key not in change:
            raise PatchError(f"map: {go_text(change)} does not contain declared merge key: {key}")
        at = places.setdefault(order.mark(change, key), len(items))
        if at == len(items):
            items.append(without_nulls(_without_directives(change)))
        else:
            items[at] = _merge_map(items[at], change, rule.rules)
    return items


def _has_directive(value: Any) -> bool:
    """True for a map with a `$patch`: where there is nothing to patch, upstream drops it whatever it says."""
    return isinstance(value, dict) and PATCH in value


def _without_directives(value: Any) -> Any:
    """The value as plain content: directives steer merging and must never be stored."""
    if isinstance(value, dict):
        return {
            key: _without_directives(item)
            for key, item in value.items()
            if key not in (PATCH, RETAIN_KEYS)
            and not key.startswith((SET_ORDER, DELETE_FROM))
            and not _has_directive(item)
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value if not _has_directive(item)]
    return value
