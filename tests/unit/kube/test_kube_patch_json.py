"""JSON patch and merge patch: what the documents say, and upstream's error texts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.patch import MAX_OPERATIONS, PatchError, json_patch, merge_patch

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=2), json_values, max_size=3)


@pytest.mark.parametrize(
    ("doc", "operation", "expected"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"op": "add", "path": "/a", "value": 2}, {"a": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": [1]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2]}),
        ({"a": 1}, {"op": "add", "path": "", "value": {"b": 2}}, {"b": 2}),
        ({"a": {}}, {"op": "add", "path": "/a/x~1y~0z", "value": 1}, {"a": {"x/y~z": 1}}),
        ({"": {"": 1}}, {"op": "replace", "path": "//", "value": 2}, {"": {"": 2}}),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/b"}, {"a": 1}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": None}, {"a": None}),
        ({"a": [1]}, {"op": "replace", "path": "/a/0", "value": {"b": 1}}, {"a": [{"b": 1}]}),
        ({"a": 1}, {"op": "replace", "path": "", "value": 3}, 3),
        ({"a": 1}, {"op": "replace", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/-1"}, {"a": [1]}),
        ({"a": [1, 2]}, {"op": "add", "path": "/a/-1", "value": 3}, {"a": [1, 2, 3]}),
        ({"a": 1}, {"op": "move", "from": "/a", "path": "/b"}, {"b": 1}),
        ({"a": [1, 2, 3]}, {"op": "move", "from": "/a/0", "path": "/a/2"}, {"a": [2, 3, 1]}),
        ({"a": 1}, {"op": "move", "from": "/a", "path": "/a"}, {"a": 1}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1.0}, {"op": "test", "path": "/a", "value": 1}, {"a": 1.0}),
        ({"a": {"b": [1]}}, {"op": "test", "path": "/a", "value": {"b": [1]}}, {"a": {"b": [1]}}),
        ({}, {"op": "test", "path": "/gone", "value": None}, {}),
    ],
)
def test_one_operation(doc: Any, operation: dict[str, Any], expected: Any) -> None:
    assert json_patch(doc, [operation]) == expected


@pytest.mark.parametrize(
    ("doc", "operation", "message", "code"),
    [
        (
            {"d": {"a": 1}},
            {"op": "remove", "path": "/d/b"},
            "error in remove for path: '/d/b': Unable to remove nonexistent key: b: missing value",
            422,
        ),
        (
            {"a": []},
            {"op": "replace", "path": "/a/0", "value": 1},
            "replace operation does not apply: doc is missing key: /a/0: missing value",
            422,
        ),
        (
            {"a": 1},
            {"op": "replace", "path": "/b/c", "value": 1},
            "replace operation does not apply: doc is missing path: /b/c: missing value",
            422,
        ),
        (
            {"a": 1},
            {"op": "add", "path": "/b/c", "value": 1},
            'add operation does not apply: doc is missing path: "/b/c": missing value',
            422,
        ),
        ({"a": 1}, {"op": "remove", "path": "/a/c"}, 'doc is missing path: "/a/c": missing value', 422),
        (
            {"a": [1]},
            {"op": "add", "path": "/a/3", "value": 1},
            "error in add for path: '/a/3': Unable to access invalid index: 3: invalid index referenced",
            422,
        ),
        ({"a": [1]}, {"op": "remove", "path": "/a/1"}, "Unable to access invalid index: 1", 422),
        ({"a": []}, {"op": "remove", "path": "/a/0"}, "Unable to access invalid index: 0", 422),
        ({"a": [1]}, {"op": "remove", "path": "/a/-"}, "Unable to access invalid index: -", 422),
        ({"a": [1]}, {"op": "remove", "path": "/a/-2"}, "Unable to access invalid index: -2", 422),
        ({"a": [1]}, {"op": "remove", "path": "/a/00"}, "Unable to access invalid index: 00", 422),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 2}, "testing value /a failed: test failed", 422),
        ({"a": True}, {"op": "test", "path": "/a", "value": 1}, "testing value /a failed: test failed", 422),
        ({"a": [True]}, {"op": "test", "path": "/a", "value": [1]}, "test failed", 422),
        ({"a": 1}, {"op": "test", "path": "/b", "value": 2}, "testing value /b failed", 422),
        ({"a": {}}, {"op": "move", "from": "/a", "path": "/a/b"}, "lies inside", 422),
        ({"a": 1}, {"op": "move", "from": "/x", "path": "/b"}, "doc is missing from path: /x: missing value", 422),
        ({"a": 1}, {"op": "copy", "from": "/x", "path": "/b"}, "doc is missing from path: /x: missing value", 422),
        ({"a": 1}, {"op": "remove", "path": ""}, 'doc is missing path: "": missing value', 422),
        ({"a": 1}, {"op": "merge", "path": "/a"}, "Unexpected kind: merge", 400),
        ({"a": 1}, {"path": "/a"}, "Unexpected kind: unknown", 400),
        ({"a": 1}, {"op": ["add"], "path": "/a"}, "Unexpected kind", 400),
        ({"a": 1}, {"op": "add", "value": 1}, "operation add has no path", 400),
        ({"a": 1}, {"op": "add", "path": "a", "value": 1}, "no JSON pointer", 400),
        ({"a": 1}, {"op": "add", "path": "/a"}, "has no value", 400),
        ({"a": 1}, {"op": "move", "path": "/a"}, "operation move has no from", 400),
        ({"a": 1}, "add", "must be an object", 400),
    ],
)
def test_an_operation_that_does_not_apply(doc: Any, operation: Any, message: str, code: int) -> None:
    with pytest.raises(PatchError) as raised:
        json_patch(doc, [operation])
    assert message in str(raised.value)
    assert raised.value.code == code


def test_operations_apply_in_order_or_not_at_all() -> None:
    doc = {"a": 1}
    operations = [{"op": "add", "path": "/b", "value": 1}, {"op": "test", "path": "/a", "value": 5}]
    with pytest.raises(PatchError):
        json_patch(doc, operations)
    assert doc == {"a": 1}
    assert json_patch(doc, [operations[0], {"op": "move", "from": "/b", "path": "/c"}]) == {"a": 1, "c": 1}


def test_a_patch_must_be_a_list_of_at_most_ten_thousand_operations() -> None:
    with pytest.raises(PatchError, match="must be a list") as raised:
        json_patch({}, {"op": "add"})
    assert raised.value.code == 400
    many = [{"op": "test", "path": "/a", "value": None}] * MAX_OPERATIONS
    assert json_patch({}, many) == {}
    with pytest.raises(PatchError, match="maximum operations in a JSON patch is 10000, got 10001") as raised:
        json_patch({}, [*many, many[0]])
    assert raised.value.code == 413


def test_a_json_patch_shares_nothing_with_its_inputs() -> None:
    doc: dict[str, Any] = {"a": {"b": [1]}}
    operations = [{"op": "add", "path": "/c", "value": {"d": []}}, {"op": "copy", "from": "/a", "path": "/e"}]
    result = json_patch(doc, operations)
    result["a"]["b"].append(2)
    result["c"]["d"].append(2)
    assert doc == {"a": {"b": [1]}}
    assert operations[0]["value"] == {"d": []}
    assert result["e"] == {"b": [1]}


@given(json_objects, st.text(max_size=2), json_values)
def test_what_is_added_can_be_tested_and_removed(doc: dict[str, Any], key: str, value: Any) -> None:
    path = "/" + key.replace("~", "~0").replace("/", "~1")
    added = json_patch(doc, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}])
    assert added == {**doc, key: value}
    removed = json_patch(added, [{"op": "remove", "path": path}])
    assert removed == {other: item for other, item in doc.items() if other != key}


@pytest.mark.parametrize(
    ("doc", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"a": "foo"}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": 1}, {"gone": None}, {"a": 1}),
    ],
)
def test_merge_patch(doc: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    assert merge_patch(doc, patch) == expected


@pytest.mark.parametrize("patch", [[], "x", None, 3])
def test_a_merge_patch_must_be_an_object(patch: Any) -> None:
    with pytest.raises(PatchError, match="must be a JSON object") as raised:
        merge_patch({}, patch)
    assert raised.value.code == 400


@given(json_objects, json_objects)
def test_a_merge_patch_leaves_no_null_of_its_own_and_is_idempotent(doc: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((doc, patch))
    once = merge_patch(doc, patch)
    assert merge_patch(once, patch) == once
    assert (doc, patch) == before
    assert all(once[key] is not None for key in patch if key in once)
