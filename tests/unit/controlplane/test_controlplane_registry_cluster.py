# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Namespaces, nodes, endpoints, slices, events and leases: defaults and rules."""

import copy
from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme
from kube.scheme import Resource


def created(resource: Resource, fields: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "a", "namespace": "default"} if resource.namespaced else {"name": "a"}
    obj = {"metadata": meta, **copy.deepcopy(fields)}
    strategy = registry.strategy_for(resource)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return obj


def check(resource: Resource, fields: dict[str, Any]) -> list[str]:
    return [str(error) for error in registry.strategy_for(resource).validate_create(created(resource, fields))]


def change(resource: Resource, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, after = created(resource, old), created(resource, new)
    strategy = registry.strategy_for(resource)
    return [str(error) for error in strategy.validate_update(after, before)]


def test_a_new_namespace_is_active_labelled_and_held() -> None:
    assert created(scheme.NAMESPACES, {}) == {
        "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def test_the_label_of_a_namespace_cannot_be_taken_off() -> None:
    strategy = registry.strategy_for(scheme.NAMESPACES)
    old = created(scheme.NAMESPACES, {})
    new: dict[str, Any] = {"metadata": {"name": "a", "labels": {}}, "spec": {}}
    strategy.default(new)
    strategy.prepare_update(new, old)
    assert new["metadata"]["labels"] == {"kubernetes.io/metadata.name": "a"}
    assert new["spec"] == {"finalizers": ["kubernetes"]}


@pytest.mark.parametrize(
    ("meta", "phase", "expected"),
    [
        ({}, "Active", []),
        ({}, "Terminating", ['status.Phase: Invalid value: "Terminating": may only be \'Active\' if `deletionTimestamp` is empty']),
        ({"deletionTimestamp": "t"}, "Active", ['status.Phase: Invalid value: "Active": may only be \'Terminating\' if `deletionTimestamp` is not empty']),
    ],
)  # fmt: skip
def test_a_namespace_terminates_only_when_deleted(meta: dict[str, Any], phase: str, expected: list[str]) -> None:
    obj = {"metadata": {"name": "a", **meta}, "status": {"phase": phase}}
    assert [str(error) for error in registry.strategy_for(scheme.NAMESPACES).validate_status(obj, obj)] == expected


TAINT = {"key": "a", "value": "b", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("a tainted node", {"spec": {"taints": [TAINT]}}, []),
        ("effects are known", {"spec": {"taints": [{**TAINT, "effect": "Never"}]}}, ['metadata.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"']),
        ("effects are given", {"spec": {"taints": [{"key": "a"}]}}, ["metadata.taints[0].effect: Required value"]),
        ("each once", {"spec": {"taints": [TAINT, TAINT]}}, ['metadata.taints[1]: Duplicate value: {"Key":"a","Value":"b","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair']),
        ("addresses are a block", {"spec": {"podCIDR": "10.0.0.0"}}, ['spec.podCIDRs[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)']),
        ("one block of each family", {"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}}, ['spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family']),
        ("nothing negative", {"status": {"capacity": {"cpu": "-1"}, "allocatable": {}}}, ['status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0']),
    ],
)  # fmt: skip
def test_nodes(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(scheme.NODES, fields) == expected, sentence


def test_a_node_registers_with_its_status_and_one_block_under_both_names() -> None:
    obj = created(scheme.NODES, {"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "2000m"}}})
    assert obj["spec"] == {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}
    assert obj["status"] == {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}


def test_the_block_of_a_node_is_set_once() -> None:
    block = {"spec": {"podCIDR": "10.0.0.0/24"}}
    assert change(scheme.NODES, {}, block) == []
    assert change(scheme.NODES, block, {"spec": {"podCIDR": "10.0.1.0/24"}}) == [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]


@pytest.mark.parametrize(
    ("sentence", "subsets", "expected"),
    [
        ("an address with a port", [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}], []),
        ("no address", [{"ports": [{"port": 80}]}], ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]),
        ("a special address", [{"addresses": [{"ip": "127.0.0.1"}]}], ['subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)']),
        ("several ports have names", [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}, {"port": 81, "name": "b"}]}], ["subsets[0].ports[0].name: Required value"]),
    ],
)  # fmt: skip
def test_endpoints(sentence: str, subsets: list[Any], expected: list[str]) -> None:
    assert check(scheme.ENDPOINTS, {"subsets": subsets}) == expected, sentence


READY = {"addresses": ["10.0.0.1"]}


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("an address with a port", {"addressType": "IPv4", "endpoints": [READY], "ports": [{"port": 80}]}, []),
        ("a type is needed", {"endpoints": []}, ["addressType: Required value"]),
        ("a known one", {"addressType": "IP"}, ['addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"']),
        ("of its addresses", {"addressType": "IPv6", "endpoints": [READY]}, ['endpoints[0].addresses[0]: Invalid value: "10.0.0.1": must be a valid IPv6 address']),
        ("an address is needed", {"addressType": "IPv4", "endpoints": [{}]}, ["endpoints[0].addresses: Required value: must contain at least 1 address"]),
        ("a thousand at most", {"addressType": "IPv4", "endpoints": [READY] * 1001}, ["endpoints: Too many: 1001: must have at most 1000 items"]),
        ("unique port names", {"addressType": "IPv4", "ports": [{"port": 1}, {"port": 2}]}, ['ports[1].name: Duplicate value: ""']),
        ("known protocols", {"addressType": "IPv4", "ports": [{"protocol": "ICMP"}]}, ['ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"']),
    ],
)  # fmt: skip
def test_endpoint_slices(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(scheme.ENDPOINT_SLICES, fields) == expected, sentence


def test_ports_of_a_slice_get_name_and_protocol() -> None:
    obj = created(scheme.ENDPOINT_SLICES, {"addressType": "IPv4", "ports": [{"port": 80}]})
    assert obj["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    assert obj["metadata"]["generation"] == 1


def test_the_type_of_a_slice_never_changes() -> None:
    assert change(scheme.ENDPOINT_SLICES, {"addressType": "IPv4"}, {"addressType": "IPv6"}) == [
        'addressType: Invalid value: "IPv6": field is immutable'
    ]


STAMPED = {
    "eventTime": "t",
    "reportingComponent": "k8s.io/x",
    "reportingInstance": "n",
    "action": "Do",
    "reason": "Done",
}


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("about something here", {"involvedObject": {"namespace": "default"}}, []),
        ("about something elsewhere", {"involvedObject": {"namespace": "other"}}, ['involvedObject.namespace: Invalid value: "other": does not match event.namespace']),
        ("about something without namespace", {"involvedObject": {}}, []),
        ("of the new kind", {**STAMPED, "involvedObject": {"namespace": "default"}}, []),
        ("of the new kind, saying nothing", {"eventTime": "t", "reportingComponent": "x"}, ["reportingInstance: Required value", "action: Required value", "reason: Required value"]),
        ("saying too much", {**STAMPED, "message": "x" * 1025}, ['message: Invalid value: "": can have at most 1024 characters']),
    ],
)  # fmt: skip
def test_events(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(scheme.EVENTS, fields) == expected, sentence


def test_what_field_selectors_see_of_an_event() -> None:
    event = {
        "involvedObject": {"kind": "Pod", "name": "p"},
        "reason": "Started",
        "type": "Normal",
        "source": {"component": "kubelet"},
    }
    values = registry.strategy_for(scheme.EVENTS).field_values(event)
    shown = {key: value for key, value in values.items() if value and not key.startswith("regarding.")}
    assert shown == {
        "involvedObject.kind": "Pod",
        "involvedObject.name": "p",
        "reason": "Started",
        "type": "Normal",
        "source": "kubelet",
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"leaseDurationSeconds": 40, "leaseTransitions": 0}, []),
        ({"leaseDurationSeconds": 0}, ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
        ({"leaseTransitions": -1}, ["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"]),
    ],
)  # fmt: skip
def test_leases(spec: dict[str, Any], expected: list[str]) -> None:
    assert check(scheme.LEASES, {"spec": spec}) == expected


def test_a_network_policy_says_which_way_it_works() -> None:
    assert created(scheme.NETWORK_POLICIES, {"spec": {}})["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    both = created(scheme.NETWORK_POLICIES, {"spec": {"egress": [{"ports": [{"port": 53}]}]}})["spec"]
    assert both["policyTypes"] == ["Ingress", "Egress"]
    assert both["egress"] == [{"ports": [{"port": 53, "protocol": "TCP"}]}]


def test_a_users_priority_has_a_ceiling() -> None:
    assert check(scheme.PRIORITY_CLASSES, {"value": 1000000000}) == []
    assert check(scheme.PRIORITY_CLASSES, {"value": 1000000001}) == [
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
    ]


def test_a_claim_says_how_and_how_much() -> None:
    assert check(scheme.PERSISTENT_VOLUME_CLAIMS, {"spec": {}}) == [
        "spec.accessModes: Required value: at least 1 access mode is required",
        "spec.resources[storage]: Required value",
    ]
    good = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    obj = created(scheme.PERSISTENT_VOLUME_CLAIMS, {"spec": good})
    assert obj["spec"] == {**good, "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"}
    assert obj["status"] == {"phase": "Pending"}
