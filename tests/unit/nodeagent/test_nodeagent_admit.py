"""Which pods a node refuses, and in what words."""

import dataclasses
from typing import Any

import pytest
from nodeagent_given import container, pod

from nodeagent.pods import admit

NODE = admit.Node(
    name="n1",
    labels={"disk": "ssd", "size": "8"},
    allocatable={"cpu": "2", "memory": "1Gi", "pods": "2", "example.com/x": "1Gi"},
)


def wants(*, uid: str = "a", **requests: str) -> Any:
    return pod(container(resources={"requests": requests}), metadata={"uid": uid})


def affine(*expressions: dict[str, Any], fields: tuple[dict[str, Any], ...] = ()) -> Any:
    term = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return pod(affinity={"nodeAffinity": required})


def test_a_pod_that_fits_is_taken() -> None:
    assert admit.reject(wants(cpu="2", memory="1Gi"), others=[], node=NODE) is None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"os": {"name": "windows"}}, "PodOSNotSupported"),
        ({"metadata": {"labels": {"kubernetes.io/os": "windows"}}}, "PodOSSelectorNodeLabelDoesNotMatch"),
        ({"os": {"name": "linux"}, "metadata": {"labels": {"kubernetes.io/os": "linux"}}}, ""),
    ],
)
def test_a_pod_for_another_operating_system_is_rejected(asked: dict[str, Any], reason: str) -> None:
    """[sig-node] PodOSRejection [NodeConformance] Kubelet should reject pod when the node OS doesn't match pod's OS."""
    found = admit.reject(pod(**asked), others=[], node=NODE)
    assert (found.reason if found else "") == reason


@pytest.mark.parametrize(
    ("policy", "known", "taken"), [("Strict", False, False), ("Strict", True, True), ("Merge", False, True)]
)
def test_strict_groups_need_a_runtime_that_can_leave_out_an_images_own(policy: str, known: bool, taken: bool) -> None:
    wanted = pod(securityContext={"supplementalGroupsPolicy": policy})
    found = admit.reject(wanted, others=[], node=dataclasses.replace(NODE, groups_policy=known))
    assert (found.reason if found else "") == ("" if taken else "SupplementalGroupsPolicyNotSupported")


def test_a_pod_that_asks_for_too_much_cpu_is_out_of_cpu() -> None:
    found = admit.reject(wants(cpu="1500m"), others=[wants(uid="b", cpu="600m")], node=NODE)
    assert found is not None and found.reason == "OutOfcpu"
    assert found.message == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000"
    )


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ("memory", "OutOfmemory"),
        ("ephemeral-storage", "OutOfephemeral-storage"),
        ("example.com/x", "OutOfexample.com/x"),
    ],
)
def test_every_resource_has_its_reason(resource: str, reason: str) -> None:
    found = admit.reject(wants(**{resource: "2Gi"}), others=[], node=NODE)
    assert found is not None and found.reason == reason


def test_what_the_cluster_gives_out_and_this_node_does_not_count_keeps_nobody_away() -> None:
    """[sig-scheduling] SchedulerPreemption validates basic preemption works."""
    assert admit.reject(wants(**{"scheduling.k8s.io/foo": "2"}), others=[], node=NODE) is None


def test_a_pod_does_not_count_against_itself() -> None:
    assert admit.reject(wants(cpu="2"), others=[wants(cpu="2")], node=NODE) is None


def test_a_full_node_is_out_of_pods() -> None:
    found = admit.reject(wants(uid="c"), others=[wants(uid="a"), wants(uid="b")], node=NODE)
    assert found is not None and found.reason == "OutOfpods"


def test_a_pod_without_requests_is_taken_by_a_node_that_is_full_otherwise() -> None:
    assert admit.reject(pod(metadata={"uid": "x"}), others=[wants(cpu="2", memory="1Gi")], node=NODE) is None


@pytest.mark.parametrize(
    ("selector", "fits"), [({"disk": "ssd"}, True), ({"disk": "hdd"}, False), ({"other": "x"}, False)]
)
def test_the_node_selector_must_match(selector: dict[str, str], fits: bool) -> None:
    found = admit.reject(pod(nodeSelector=selector), others=[], node=NODE)
    assert (found is None) is fits
    assert fits or (found is not None and found.reason == "NodeAffinity")


@pytest.mark.parametrize(
    ("operator", "key", "values", "fits"),
    [
        ("In", "disk", ["ssd", "nvme"], True),
        ("In", "disk", ["hdd"], False),
        ("NotIn", "disk", ["ssd"], False),
        ("NotIn", "absent", ["x"], True),
        ("Exists", "disk", [], True),
        ("Exists", "absent", [], False),
        ("DoesNotExist", "absent", [], True),
        ("DoesNotExist", "disk", [], False),
        ("Gt", "size", ["7"], True),
        ("Gt", "size", ["8"], False),
        ("Lt", "size", ["9"], True),
        ("Lt", "disk", ["9"], False),
        ("Odd", "disk", ["ssd"], False),
    ],
)
def test_required_node_affinity_must_hold(operator: str, key: str, values: list[str], fits: bool) -> None:
    found = admit.reject(affine({"key": key, "operator": operator, "values": values}), others=[], node=NODE)
    assert (found is None) is fits


def test_affinity_may_name_the_node() -> None:
    named = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    assert admit.reject(affine(fields=(named,)), others=[], node=NODE) is None
    assert admit.reject(affine(fields=({**named, "values": ["n2"]},)), others=[], node=NODE) is not None


def test_an_empty_affinity_term_matches_nothing() -> None:
    assert admit.reject(affine(), others=[], node=NODE) is not None


def test_a_sysctl_that_is_not_safe_is_refused_unless_the_node_allows_it() -> None:
    def with_sysctl(name: str) -> Any:
        return pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})

    assert admit.reject(with_sysctl("net.ipv4.tcp_syncookies"), others=[], node=NODE) is None
    found = admit.reject(with_sysctl("kernel.msgmax"), others=[], node=NODE)
    assert found is not None and found.reason == "SysctlForbidden" and "kernel.msgmax" in found.message
    allowing = admit.Node(name="n1", labels={}, allocatable=NODE.allocatable, unsafe_sysctls=("kernel.msg*",))
    assert admit.reject(with_sysctl("kernel.msgmax"), others=[], node=allowing) is None


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 81}, True),
        ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
        ({}, {}, True),
    ],
)
def test_a_port_of_the_node_is_given_once(mine: dict[str, Any], theirs: dict[str, Any], fits: bool) -> None:
    def using(port: dict[str, Any], uid: str) -> Any:
        return pod(container(ports=[{"containerPort": 8080, **port}]), metadata={"uid": uid})

    found = admit.reject(using(mine, "a"), others=[using(theirs, "b")], node=NODE)
    assert (found is None) is fits
    assert fits or (found is not None and found.reason == "NodePorts")
