"""Kinds that are stored and shown, and that nothing here acts on: their defaults, rules and tables."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.apiserver.registry import devices, kinds
from kube import scheme
from kube.client.identity import User
from kube.scheme import Resource
from tests.fakes.api_harness import Harness

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
CLAIM = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.test"}}]}}
SLICE = {
    "driver": "gpu.test",
    "nodeName": "n",
    "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
    "devices": [{"name": "gpu0"}],
}


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
        (scheme.DEVICE_CLASSES, {"spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
        (scheme.RESOURCE_CLAIMS, {"spec": CLAIM}),
        (scheme.RESOURCE_CLAIM_TEMPLATES, {"spec": {"spec": CLAIM}}),
        (scheme.RESOURCE_SLICES, {"spec": SLICE}),
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


def test_a_claim_asks_for_one_device_unless_it_says_otherwise() -> None:
    strategy = kinds.STRATEGIES["resourceclaims.resource.k8s.io"](scheme.RESOURCE_CLAIMS)
    exactly = {"deviceClassName": "gpu.test", "tolerations": [{"key": "k"}]}
    claim: Object = {"metadata": {}, "spec": {"devices": {"requests": [{"name": "a", "exactly": exactly}]}}}
    strategy.default(claim)
    assert claim["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "gpu.test",
        "tolerations": [{"key": "k", "operator": "Equal"}],
        "allocationMode": "ExactCount",
        "count": 1,
    }


@pytest.mark.parametrize(
    ("resource", "obj", "message"),
    [
        (scheme.RESOURCE_CLAIMS, {"spec": {"devices": {"requests": [{"name": "a"}]}}},
         "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"),
        (scheme.RESOURCE_CLAIMS, {"spec": {"devices": {"requests": [{"name": "a", "exactly": {}}]}}},
         "spec.devices.requests[0].exactly.deviceClassName: Required value"),
        (scheme.RESOURCE_CLAIMS, {"spec": {"devices": {"requests": [CLAIM["devices"]["requests"][0]] * 2}}},
         'spec.devices.requests[1].name: Duplicate value: "gpu"'),
        (scheme.RESOURCE_SLICES, {"spec": {"driver": "d", "nodeName": "n"}}, "spec.pool.name: Required value"),
        (scheme.RESOURCE_SLICES, {"spec": SLICE | {"nodeName": ""}},
         "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is "
         "required"),
    ],
)  # fmt: skip
def test_devices_that_cannot_be_are_refused(resource: Resource, obj: Object, message: str) -> None:
    assert message in judge(resource, obj)


def test_what_a_claim_asks_for_and_whose_a_slice_is_stays() -> None:
    assert change(scheme.RESOURCE_CLAIMS, {"spec": CLAIM}, {"spec": {"devices": {}}})
    assert change(scheme.RESOURCE_SLICES, {"spec": SLICE}, {"spec": SLICE | {"nodeName": "other"}})
    assert not change(scheme.RESOURCE_SLICES, {"spec": SLICE}, {"spec": SLICE | {"devices": []}})


async def test_a_kubelet_clears_its_slices_by_node(api: Harness) -> None:
    path = "/apis/resource.k8s.io/v1/resourceslices"
    for node in ("n1", "n2"):
        await api.ask("POST", path, {"metadata": {"name": node}, "spec": SLICE | {"nodeName": node}})
    kubelet = User("system:node:n1", ("system:nodes", "system:authenticated"))
    assert (await api.ask("DELETE", path, user=kubelet, fieldSelector="spec.nodeName=n1"))[0] == 200
    _, left = await api.ask("GET", path)
    assert [item["metadata"]["name"] for item in left["items"]] == ["n2"]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({}, "pending"),
        ({"allocation": {}}, "allocated"),
        ({"allocation": {}, "reservedFor": [{"name": "p"}]}, "allocated,reserved"),
    ],
)
def test_where_a_claim_stands_is_one_word(state: Object, word: str) -> None:
    assert devices.state({"status": state}) == word
