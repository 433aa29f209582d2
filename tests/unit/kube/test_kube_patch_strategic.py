"""Strategic merge patch: golden cases from upstream's documented behaviour, on the real schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from kube import schema
from kube.patch import PatchError, strategic_merge

POD = schema.merge_rules("v1", "Pod")
SERVICE = schema.merge_rules("v1", "Service")
DEPLOYMENT = schema.merge_rules("apps/v1", "Deployment")
NODE = schema.merge_rules("v1", "Node")


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in items]


def test_maps_merge_and_null_removes() -> None:
    doc = {"metadata": {"labels": {"a": "1", "b": "2"}, "name": "x"}}
    patch = {"metadata": {"labels": {"a": None, "c": "3"}}}
    assert strategic_merge(doc, patch, POD) == {"metadata": {"labels": {"b": "2", "c": "3"}, "name": "x"}}


def test_a_null_for_a_missing_field_changes_nothing() -> None:
    assert strategic_merge({"spec": {}}, {"spec": {"gone": None}, "other": None}, POD) == {"spec": {}}


def test_nulls_inside_a_new_value_are_dropped() -> None:
    patch = {"spec": {"securityContext": {"runAsUser": 1, "fsGroup": None}}}
    assert strategic_merge({"spec": {}}, patch, POD) == {"spec": {"securityContext": {"runAsUser": 1}}}


def test_containers_merge_by_name() -> None:
    doc = pod({"name": "a", "image": "a:1", "tty": True}, {"name": "b", "image": "b:1"})
    merged = strategic_merge(doc, pod({"name": "a", "image": "a:2"}), POD)
    assert merged == pod({"name": "a", "image": "a:2", "tty": True}, {"name": "b", "image": "b:1"})


def test_a_new_container_comes_first() -> None:
    doc = pod({"name": "a"}, {"name": "b"})
    assert names(strategic_merge(doc, pod({"name": "c"}), POD)["spec"]["containers"]) == ["c", "a", "b"]


def test_merging_reaches_lists_inside_list_items() -> None:
    doc = pod({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]})
    patch = pod({"name": "a", "env": [{"name": "Y", "value": "3"}]})
    merged = strategic_merge(doc, patch, POD)["spec"]["containers"][0]["env"]
    assert merged == [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]


def test_an_item_is_deleted_by_its_merge_key() -> None:
    doc = pod({"name": "a"}, {"name": "b"})
    patch = pod({"name": "a", "$patch": "delete"})
    assert strategic_merge(doc, patch, POD) == pod({"name": "b"})


def test_a_deleted_item_may_be_missing() -> None:
    assert strategic_merge(pod({"name": "a"}), pod({"name": "z", "$patch": "delete"}), POD) == pod({"name": "a"})


def test_a_list_is_replaced_as_a_whole_on_demand() -> None:
    doc = pod({"name": "a"}, {"name": "b"})
    patch = pod({"$patch": "replace"}, {"name": "c", "image": "c:1"})
    assert strategic_merge(doc, patch, POD) == pod({"name": "c", "image": "c:1"})


def test_a_map_is_replaced_as_a_whole_on_demand() -> None:
    doc = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    patch = {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}
    assert strategic_merge(doc, patch, POD) == {"metadata": {"labels": {"c": "3"}}}


def test_a_map_is_emptied_by_delete_and_merged_by_merge() -> None:
    doc = {"spec": {"securityContext": {"runAsUser": 1}}}
    assert strategic_merge(doc, {"spec": {"securityContext": {"$patch": "delete"}}}, POD) == {
        "spec": {"securityContext": {}}
    }
    merged = strategic_merge(doc, {"spec": {"securityContext": {"$patch": "merge", "fsGroup": 2}}}, POD)
    assert merged == {"spec": {"securityContext": {"runAsUser": 1, "fsGroup": 2}}}


@pytest.mark.parametrize("directive", ["delete", "replace", "merge"])
def test_a_directive_for_a_map_that_is_not_there_adds_nothing(directive: str) -> None:
    patch = {"spec": {"securityContext": {"$patch": directive, "fsGroup": 2}}}
    assert strategic_merge({"spec": {}}, patch, POD) == {"spec": {}}


def test_directives_are_never_stored() -> None:
    patch = {
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}, "$retainKeys": ["name", "emptyDir"]}],
            "$setElementOrder/volumes": [{"name": "v"}],
            "securityContext": {"$retainKeys": ["fsGroup"], "fsGroup": 2},
        }
    }
    merged = strategic_merge({}, patch, POD)
    assert merged == {"spec": {"volumes": [{"name": "v", "emptyDir": {}}], "securityContext": {"fsGroup": 2}}}


def test_service_ports_merge_by_port_alone() -> None:
    doc = {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 443, "protocol": "TCP"}]}}
    patch = {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
    assert strategic_merge(doc, patch, SERVICE)["spec"]["ports"] == [
        {"port": 80, "protocol": "TCP", "targetPort": 8080},
        {"port": 443, "protocol": "TCP"},
    ]


def test_container_ports_merge_by_container_port_alone() -> None:
    doc = pod({"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}]})
    patch = pod({"name": "a", "ports": [{"containerPort": 53, "name": "dns"}]})
    merged = strategic_merge(doc, patch, POD)["spec"]["containers"][0]["ports"]
    assert merged == [{"containerPort": 53, "protocol": "UDP", "name": "dns"}]


def test_tolerations_have_no_merge_key_and_are_replaced() -> None:
    doc = {"spec": {"tolerations": [{"key": "a"}]}}
    merged = strategic_merge(doc, {"spec": {"tolerations": [{"key": "b"}]}}, POD)
    assert merged == {"spec": {"tolerations": [{"key": "b"}]}}


def test_node_taints_have_a_merge_key_only_as_a_whole_list() -> None:
    doc = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
    patch = {"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}
    assert strategic_merge(doc, patch, NODE) == patch


def test_node_conditions_merge_by_type_and_addresses_too() -> None:
    doc = {
        "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "False"}]}
    }
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert strategic_merge(doc, patch, NODE)["status"]["conditions"] == [
        {"type": "Ready", "status": "True"},
        {"type": "DiskPressure", "status": "False"},
    ]


def test_command_lists_are_atomic() -> None:
    doc = pod({"name": "a", "command": ["x", "y"]})
    merged = strategic_merge(doc, pod({"name": "a", "command": ["z"]}), POD)
    assert merged["spec"]["containers"][0]["command"] == ["z"]


def test_finalizers_merge_as_a_set() -> None:
    doc = {"metadata": {"finalizers": ["a", "b"]}}
    merged = strategic_merge(doc, {"metadata": {"finalizers": ["c", "a", "c"]}}, POD)
    assert sorted(merged["metadata"]["finalizers"]) == ["a", "b", "c"]


def test_values_are_taken_out_of_a_list_of_scalars() -> None:
    doc = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}
    assert strategic_merge(doc, patch, POD) == {"metadata": {"finalizers": ["b", "c"]}}


def test_taking_values_out_of_a_missing_list_changes_nothing() -> None:
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge({"metadata": {}}, patch, POD) == {"metadata": {}}


def test_scalars_are_added_removed_and_ordered_in_one_patch() -> None:
    doc = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {
        "metadata": {
            "$setElementOrder/finalizers": ["c", "d", "a"],
            "$deleteFromPrimitiveList/finalizers": ["b"],
            "finalizers": ["d"],
        }
    }
    assert strategic_merge(doc, patch, POD) == {"metadata": {"finalizers": ["c", "d", "a"]}}


def test_retain_keys_drops_what_is_not_listed() -> None:
    doc = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(doc, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_retain_keys_in_a_volume_swaps_its_source() -> None:
    doc = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    patch = {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}}
    assert strategic_merge(doc, patch, POD) == {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}


def test_set_element_order_reorders_without_changing_items() -> None:
    doc = pod({"name": "a"}, {"name": "b"}, {"name": "c"})
    patch = {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}}
    assert names(strategic_merge(doc, patch, POD)["spec"]["containers"]) == ["c", "a", "b"]


def test_set_element_order_places_a_new_item_and_keeps_items_of_others_where_they_were() -> None:
    doc = pod({"name": "mine"}, {"name": "injected"})
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "mine"}, {"name": "new"}],
            "containers": [{"name": "new", "image": "x"}],
        }
    }
    assert names(strategic_merge(doc, patch, POD)["spec"]["containers"]) == ["mine", "new", "injected"]


def test_an_item_of_others_stays_before_the_items_it_was_before() -> None:
    doc = pod({"name": "injected"}, {"name": "mine"})
    patch = {
        "spec": {"$setElementOrder/containers": [{"name": "mine"}], "containers": [{"name": "mine", "image": "2"}]}
    }
    assert names(strategic_merge(doc, patch, POD)["spec"]["containers"]) == ["injected", "mine"]


def test_set_element_order_with_a_deletion_as_kubectl_apply_sends_it() -> None:
    doc = pod({"name": "a"}, {"name": "b"}, {"name": "c"})
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "image": "2"}],
        }
    }
    assert strategic_merge(doc, patch, POD) == pod({"name": "c"}, {"name": "a", "image": "2"})


def test_an_order_for_a_list_nobody_has_is_ignored() -> None:
    patch = {"spec": {"$setElementOrder/containers": [{"name": "a"}]}}
    assert strategic_merge({"spec": {}}, patch, POD) == {"spec": {}}


def test_an_order_with_a_null_list_removes_the_list() -> None:
    doc = {"spec": {"volumes": [{"name": "v"}], "nodeName": "n"}}
    patch = {"spec": {"$setElementOrder/volumes": [], "volumes": None}}
    assert strategic_merge(doc, patch, POD) == {"spec": {"nodeName": "n"}}


def test_a_value_of_another_type_replaces() -> None:
    doc = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": "25%"}}}}
    patch = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}}}}
    assert strategic_merge(doc, patch, DEPLOYMENT) == patch


def test_fields_the_schema_does_not_know_merge_as_maps_and_replace_as_lists() -> None:
    doc = {"x": {"a": 1, "l": [1]}}
    assert strategic_merge(doc, {"x": {"b": 2, "l": [2]}}, POD) == {"x": {"a": 1, "b": 2, "l": [2]}}


@pytest.mark.parametrize(
    ("patch", "message", "code"),
    [
        ([], "must be a JSON object", 400),
        ({"$patch": "explode"}, "unknown patch type: explode in map: map[$patch:explode]", 400),
        (pod({"image": "x"}), "map: map[image:x] does not contain declared merge key: name", 422),
        (
            pod({"tty": True, "args": ["a", None], "env": {}}),
            "map: map[args:[a <nil>] env:map[] tty:true] does not contain declared merge key: name",
            422,
        ),
        (pod({"$patch": "delete"}), "delete patch type with no merge key defined: name", 422),
        (pod({"$patch": "merge", "name": "a"}), "merging lists cannot yet be specified", 422),
        (pod({"$patch": "explode", "name": "a"}), "unknown patch type: explode", 400),
        (pod("a"), "is no object", 400),
        (pod(["a"]), "lists of lists are not supported", 422),
        ({"spec": {"$retainKeys": "x"}}, "invalid patch format of retainKeys", 400),
        ({"spec": {"$retainKeys": ["x"], "nodeName": "n"}}, "nodeName is set but not listed", 400),
        ({"spec": {"$setElementOrder/containers": "x"}}, "invalid patch format of setElementOrder list", 400),
        ({"spec": {"$setElementOrder/containers": [], "containers": "x"}}, "containers is no list", 400),
        (
            {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}},
            "doesn't match $setElementOrder/containers list",
            400,
        ),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}, "invalid patch format of primitive list", 400),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(patch: Any, message: str, code: int) -> None:
    doc = {"metadata": {}, **pod({"name": "a"})}
    with pytest.raises(PatchError) as raised:
        strategic_merge(doc, patch, POD)
    assert message in str(raised.value)
    assert raised.value.code == code
    assert doc == {"metadata": {}, **pod({"name": "a"})}


def test_a_strategic_patch_shares_nothing_with_its_inputs() -> None:
    doc = pod({"name": "a", "env": [{"name": "X"}]}, volumes=[{"name": "v"}])
    patch = pod({"name": "a", "env": [{"name": "Y", "value": "1"}]}, nodeSelector={"k": "v"})
    before = copy.deepcopy((doc, patch))
    merged = strategic_merge(doc, patch, POD)
    merged["spec"]["nodeSelector"]["x"] = "y"
    merged["spec"]["containers"][0]["env"].clear()
    merged["spec"]["volumes"].clear()
    assert (doc, patch) == before


def test_applying_the_same_patch_twice_changes_nothing_more() -> None:
    doc = pod({"name": "a", "image": "1"}, {"name": "b"})
    patch = pod({"name": "b", "image": "2"}, {"name": "new"}, nodeName="n")
    once = strategic_merge(doc, patch, POD)
    assert strategic_merge(once, patch, POD) == once


def test_a_long_list_merges_in_reasonable_time() -> None:
    items = [{"name": f"v{index}", "value": "1"} for index in range(5000)]
    changes = [{"name": f"v{index}", "value": "2"} for index in reversed(range(5000))]
    merged = strategic_merge(pod({"name": "a", "env": items}), pod({"name": "a", "env": changes}), POD)
    assert {item["value"] for item in merged["spec"]["containers"][0]["env"]} == {"2"}


GOLDEN = json.loads(Path(__file__).with_name("strategic_golden.json").read_text())


def plain(value: Any) -> Any:
    """What upstream's tool prints after patching locally: without nulls, empty values and left-over directives."""
    if isinstance(value, dict):
        kept = {key: plain(item) for key, item in value.items() if item is not None and not key.startswith("$")}
        return {key: item for key, item in kept.items() if item not in ({}, []) or key == "emptyDir"}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))
def test_recorded_results_of_kubectl_patch_local(case: dict[str, Any]) -> None:
    assert plain(strategic_merge(case["doc"], case["patch"], POD)) == case["result"]
