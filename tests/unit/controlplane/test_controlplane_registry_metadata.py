# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Metadata of every kind: names per kind, labels, annotations, owners, finalizers; and what no update may change."""

from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme
from kube.scheme import Resource

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1"}
CONTROLLER = {**OWNER, "controller": True}


def faults(resource: Resource, meta: dict[str, Any]) -> list[str]:
    obj: dict[str, Any] = {"metadata": {"namespace": "default"} | meta if resource.namespaced else meta}
    strategy = registry.strategy_for(resource)
    return [str(error) for error in strategy.validate_create(obj) if error.field.startswith("metadata")]


@pytest.mark.parametrize(
    ("resource", "name", "good"),
    [
        (scheme.CONFIG_MAPS, "a.b", True),
        (scheme.CONFIG_MAPS, "A", False),
        (scheme.SERVICES, "web", True),
        (scheme.SERVICES, "1web", True),
        (scheme.SERVICES, "a.b", False),
        (scheme.NAMESPACES, "team-1", True),
        (scheme.NAMESPACES, "a.b", False),
        (scheme.NODES, "node-1.example.com", True),
        (scheme.STATEFUL_SETS, "db", True),
        (scheme.STATEFUL_SETS, "d.b", False),
        (scheme.ENDPOINT_SLICES, "web-abc12", True),
        (scheme.LEASES, "node_1", False),
        (scheme.CRON_JOBS, "c" * 53, False),
        (scheme.CRON_JOBS, "c" * 52, True),
        (scheme.SERVICE_ACCOUNTS, "robot", True),
    ],
)  # fmt: skip
def test_each_kind_has_its_rule_for_names(resource: Resource, name: str, good: bool) -> None:
    found = [fault for fault in faults(resource, {"name": name}) if fault.startswith("metadata.name:")]
    assert (found == []) is good


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, ["metadata.name: Required value: name or generateName is required"]),
        ({"name": "a", "namespace": ""}, ["metadata.namespace: Required value"]),
        ({"name": "a", "namespace": "x.y"}, ['metadata.namespace: Invalid value: "x.y": must not contain dots']),
        ({"name": "a-b", "generateName": "a-"}, []),
        ({"name": "a", "labels": {"app": "web", "x/y": ""}}, []),
        ({"name": "a", "annotations": {"Example.COM/Key": "any text at all"}}, []),
        ({"name": "a", "annotations": {"k": "v" * (256 * 1024)}}, ["metadata.annotations: Too long: may not be more than 262144 bytes"]),
        ({"name": "a", "ownerReferences": [CONTROLLER]}, []),
        ({"name": "a", "ownerReferences": [{**OWNER, "uid": ""}]}, ['metadata.ownerReferences.uid: Invalid value: "": must not be empty']),
        ({"name": "a", "ownerReferences": [{**OWNER, "apiVersion": ""}]}, ['metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty']),
        ({"name": "a", "finalizers": ["example.com/keep", "orphan"]}, []),
        ({"name": "a", "finalizers": ["keep"]}, ['metadata.finalizers[0]: Invalid value: "keep": name is neither a standard finalizer name nor is it fully qualified']),
        ({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}, ['metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set']),
    ],
)  # fmt: skip
def test_metadata_of_a_new_object(meta: dict[str, Any], expected: list[str]) -> None:
    assert faults(scheme.CONFIG_MAPS, meta) == expected


def test_a_bad_label_is_named_with_its_value() -> None:
    (found,) = faults(scheme.CONFIG_MAPS, {"name": "a", "labels": {"app": "not ok"}})
    assert found.startswith(
        'metadata.labels: Invalid value: "not ok": a valid label must be an empty string or consist'
    )


def test_only_one_owner_is_the_controller() -> None:
    (found,) = faults(scheme.PODS, {"name": "a", "ownerReferences": [CONTROLLER, {**CONTROLLER, "name": "other"}]})
    assert found.endswith(
        'Only one reference can have Controller set to true. Found "true" in references for ReplicaSet/web and '
        "ReplicaSet/other"
    )


def test_events_own_nothing() -> None:
    owner = {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "1"}
    (found,) = faults(scheme.CONFIG_MAPS, {"name": "a", "ownerReferences": [owner]})
    assert found.endswith("/v1, Kind=Event is disallowed from being an owner")


def test_a_cluster_wide_object_has_no_namespace() -> None:
    assert faults(scheme.NODES, {"name": "n", "namespace": "default"}) == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ({"name": "b"}, {"name": "a"}, ['metadata.name: Invalid value: "b": field is immutable']),
        ({"name": "a", "uid": "2"}, {"name": "a", "uid": "1"}, ['metadata.uid: Invalid value: "2": field is immutable']),
        ({"name": "a"}, {"name": "a", "uid": "1", "creationTimestamp": "t"}, []),
        ({"name": "a", "generation": 1}, {"name": "a", "generation": 2}, ["metadata.generation: Invalid value: 1: must not be decremented"]),
        (
            {"name": "a", "finalizers": ["x/y", "x/z"], "deletionTimestamp": "t"},
            {"name": "a", "finalizers": ["x/y"], "deletionTimestamp": "t"},
            ['metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/z"}'],
        ),
        ({"name": "a", "finalizers": ["x/y"]}, {"name": "a"}, []),
    ],
)  # fmt: skip
def test_metadata_of_a_changed_object(new: dict[str, Any], old: dict[str, Any], expected: list[str]) -> None:
    strategy = registry.strategy_for(scheme.CONFIG_MAPS)
    assert [str(error) for error in strategy.validate_update({"metadata": new}, {"metadata": old})] == expected


def test_a_status_write_changes_nothing_but_the_status() -> None:
    strategy = registry.strategy_for(scheme.NODES)
    old = {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"phase": "x"},
    }
    new: dict[str, Any] = {"metadata": {"name": "other"}, "spec": {}, "status": {"capacity": {"cpu": "1"}}}
    strategy.prepare_status(new, old)
    assert new == {**old, "status": {"capacity": {"cpu": "1"}}}


def test_the_generation_counts_changes_of_the_spec_only() -> None:
    strategy = registry.strategy_for(scheme.DEPLOYMENTS)
    old: dict[str, Any] = {"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {"replicas": 1}}
    same: dict[str, Any] = {"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {}}
    more: dict[str, Any] = {"metadata": {}, "spec": {"replicas": 2}}
    strategy.prepare_update(same, old)
    strategy.prepare_update(more, old)
    assert (same["metadata"]["generation"], more["metadata"]["generation"]) == (3, 4)
    assert same["status"] == more["status"] == {"replicas": 1}


def test_kinds_without_generation_get_none() -> None:
    strategy = registry.strategy_for(scheme.CONFIG_MAPS)
    obj: dict[str, Any] = {"metadata": {"name": "a"}, "data": {"k": "v"}}
    strategy.prepare_create(obj)
    assert "generation" not in obj["metadata"]


def test_nulls_count_as_absent() -> None:
    strategy = registry.strategy_for(scheme.CONFIG_MAPS)
    obj: dict[str, Any] = {"metadata": {"name": "a", "labels": None}, "data": None}
    strategy.default(obj)
    assert obj == {"metadata": {"name": "a"}}


@pytest.mark.parametrize("resource", scheme.RESOURCES, ids=lambda resource: resource.group_resource)
def test_an_empty_object_of_any_kind_is_judged_without_a_crash(resource: Resource) -> None:
    strategy = registry.strategy_for(resource)
    obj: dict[str, Any] = {"metadata": {}, "spec": {}}
    strategy.default(obj)
    strategy.prepare_create(obj)
    errors = strategy.validate_create(obj)
    strategy.validate_update(obj, obj)
    strategy.validate_status(obj, obj)
    assert "metadata.name" in {error.field for error in errors}
