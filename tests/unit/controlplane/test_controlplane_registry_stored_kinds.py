"""Kinds that are stored and shown, and that nothing here acts on: their defaults, rules and tables."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.apiserver.registry import kinds
from kube import scheme
from kube.scheme import Resource

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA: Object = {
    "priorityLevelConfiguration": {"name": "global-default"},
    "rules": [
        {
            "subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
    ],
}
ATTACHMENT = {"attacher": "csi.test", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}


def judge(resource: Resource, obj: Object, name: str = "x") -> list[str]:
    strategy = kinds.STRATEGIES[resource.group_resource](resource)
    made = {"metadata": {"name": name, "namespace": "default"} if resource.namespaced else {"name": name}, **obj}
    strategy.default(made)
    return [str(error) for error in strategy.validate_create(made)]


def change(resource: Resource, old: Object, new: Object) -> list[str]:
    strategy = kinds.STRATEGIES[resource.group_resource](resource)
    meta = {"metadata": {"name": "x", "resourceVersion": "1"}}
    return [str(error) for error in strategy.validate_update(meta | new, meta | old)]


@pytest.mark.parametrize(
    ("resource", "obj"),
    [
        (scheme.FLOW_SCHEMAS, {"spec": SCHEMA}),
        (
            scheme.PRIORITY_LEVEL_CONFIGURATIONS,
            {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}},
        ),
        (scheme.VOLUME_ATTACHMENTS, {"spec": ATTACHMENT}),
        (scheme.CSI_STORAGE_CAPACITIES, {"storageClassName": "fast", "capacity": "1024Mi"}),
        (scheme.VOLUME_ATTRIBUTES_CLASSES, {"driverName": "csi.test", "parameters": {"iops": "5"}}),
    ],
    ids=lambda value: value.plural if isinstance(value, Resource) else "",
)
def test_a_good_object_is_accepted(resource: Resource, obj: Object) -> None:
    assert judge(resource, obj) == []


@pytest.mark.parametrize(
    ("resource", "obj", "faults"),
    [
        (
            scheme.FLOW_SCHEMAS,
            {"spec": {**SCHEMA, "matchingPrecedence": 10001}},
            ["spec.matchingPrecedence: Invalid value: 10001: must be a value between 1 and 10000"],
        ),
        (
            scheme.PRIORITY_LEVEL_CONFIGURATIONS,
            {"spec": {"type": "Limited"}},
            ["spec.limited: Required value: must not be empty when type is Limited"],
        ),
        (
            scheme.VOLUME_ATTACHMENTS,
            {"spec": {**ATTACHMENT, "source": {}}},
            [
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ],
        ),
        (scheme.VOLUME_ATTRIBUTES_CLASSES, {"parameters": {"a": "b"}}, ["driverName: Required value"]),
    ],
    ids=lambda value: value.plural if isinstance(value, Resource) else "",
)
def test_a_fault_is_named_with_its_field(resource: Resource, obj: Object, faults: list[str]) -> None:
    assert judge(resource, obj) == faults


def test_what_others_rely_on_cannot_be_changed() -> None:
    assert change(scheme.VOLUME_ATTACHMENTS, {"spec": ATTACHMENT}, {"spec": {**ATTACHMENT, "nodeName": "m"}})
    fast = {"driverName": "csi.test", "parameters": {"a": "b"}}
    assert change(scheme.VOLUME_ATTRIBUTES_CLASSES, fast, {**fast, "parameters": {"a": "c"}}) == [
        "parameters: Forbidden: updates to parameters are forbidden."
    ]


@pytest.mark.parametrize(
    ("resource", "obj", "cells"),
    [
        (scheme.FLOW_SCHEMAS, {"spec": SCHEMA}, ["global-default", 1000, "<none>", "<unknown>", "?"]),
        (
            scheme.PRIORITY_LEVEL_CONFIGURATIONS,
            {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}},
            ["Limited", 30, 64, 8, 50, "<unknown>"],
        ),
        (scheme.VOLUME_ATTACHMENTS, {"spec": ATTACHMENT}, ["csi.test", "pv", "n", False, "<unknown>"]),
        (scheme.CSI_STORAGE_CAPACITIES, {"storageClassName": "fast", "capacity": "1024Mi"}, ["fast", "1Gi"]),
    ],
    ids=lambda value: value.plural if isinstance(value, Resource) else "",
)
def test_a_row_shows_what_upstreams_does(resource: Resource, obj: Object, cells: list[Any]) -> None:
    strategy = kinds.STRATEGIES[resource.group_resource](resource)
    made = {"metadata": {"name": "x"}, **obj}
    strategy.default(made)
    assert strategy.cells(made, NOW) == ["x", *cells]
    assert len(strategy.columns) == len(cells) + 1
