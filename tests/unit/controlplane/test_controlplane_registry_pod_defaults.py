# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""The defaults of pods: a small manifest becomes the full one that upstream would store."""

import copy
from typing import Any

import pytest

from controlplane.apiserver import registry
from controlplane.apiserver.registry import images, qos
from kube import scheme
from kube.status import ApiError


def defaulted(spec: dict[str, Any]) -> dict[str, Any]:
    obj = {"metadata": {"name": "p", "namespace": "default"}, "spec": spec}
    registry.strategy_for(scheme.PODS).default(obj)
    return obj["spec"]


def container(**fields: Any) -> dict[str, Any]:
    spec = defaulted({"containers": [{"name": "c", "image": "web:1", **fields}]})
    found: dict[str, Any] = spec["containers"][0]
    return found


def test_the_smallest_pod_becomes_complete() -> None:
    assert defaulted({"containers": [{"name": "c", "image": "web:1"}]}) == {
        "containers": [
            {
                "name": "c",
                "image": "web:1",
                "imagePullPolicy": "IfNotPresent",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }


def test_what_is_set_stays() -> None:
    spec = {
        "containers": [
            {
                "name": "c",
                "image": "web",
                "imagePullPolicy": "Never",
                "terminationMessagePath": "/x",
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {"requests": {"cpu": "1"}},
            }
        ],
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "schedulerName": "mine",
        "securityContext": {"runAsUser": 1},
        "terminationGracePeriodSeconds": 0,
    }
    assert defaulted(copy.deepcopy(spec)) == spec


def test_defaults_are_the_same_the_second_time() -> None:
    once = defaulted(
        {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 1}]}], "volumes": [{"name": "v"}]}
    )
    assert defaulted(copy.deepcopy(once)) == once


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1.0", "IfNotPresent"),
        ("registry:5000/team/web", "Always"),
        ("registry:5000/team/web:1", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
        ("web:1@sha256:abc", "IfNotPresent"),
    ],
)  # fmt: skip
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert images.pull_policy(image) == policy


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"httpGet": {"port": 80}}, {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
        ({"grpc": {"port": 1}, "periodSeconds": 2, "failureThreshold": 1}, {"grpc": {"port": 1, "service": ""}, "timeoutSeconds": 1, "periodSeconds": 2, "successThreshold": 1, "failureThreshold": 1}),
        ({"exec": {"command": ["x"]}, "timeoutSeconds": 0}, {"exec": {"command": ["x"]}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["livenessProbe", "readinessProbe", "startupProbe"])
def test_probes_get_their_thresholds(name: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert container(**{name: copy.deepcopy(given)})[name] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}, {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}),
        ({"requests": {"cpu": "1000m", "memory": "1024Mi"}}, {"requests": {"cpu": "1", "memory": "1Gi"}}),
        ({"requests": {"cpu": 0.5, "memory": 128}}, {"requests": {"cpu": "500m", "memory": "128"}}),
        ({"requests": {"cpu": "100u"}}, {"requests": {"cpu": "1m"}}),
    ],
)  # fmt: skip
def test_amounts_are_canonical_and_requests_follow_limits(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert container(resources=given)["resources"] == expected


def test_an_amount_that_is_no_quantity_is_a_bad_request() -> None:
    with pytest.raises(ApiError) as caught:
        container(resources={"limits": {"cpu": "lots"}})
    assert (caught.value.code, caught.value.message) == (
        400,
        'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    )


def test_ports_speak_tcp() -> None:
    assert container(ports=[{"containerPort": 80}])["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_on_the_host_network_a_container_port_is_the_host_port() -> None:
    spec = {"hostNetwork": True, "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]}
    assert defaulted(spec)["containers"][0]["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


def test_field_references_speak_v1_and_resources_are_undivided() -> None:
    env = [
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    assert container(env=env)["env"] == [
        {"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}},
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"emptyDir": {}}),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        ({"configMap": {"name": "c"}}, {"configMap": {"name": "c", "defaultMode": 420}}),
        ({"secret": {"secretName": "s", "defaultMode": 256}}, {"secret": {"secretName": "s", "defaultMode": 256}}),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
        ({"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}, {"downwardAPI": {"defaultMode": 420, "items": [{"path": "n", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}}),
        ({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}, {"projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}),
        ({"iscsi": {"iqn": "i"}}, {"iscsi": {"iqn": "i", "iscsiInterface": "default"}}),
        ({"rbd": {"image": "i"}}, {"rbd": {"image": "i", "pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}}),
        ({"image": {"reference": "a:1"}}, {"image": {"reference": "a:1", "pullPolicy": "IfNotPresent"}}),
        ({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, {"ephemeral": {"volumeClaimTemplate": {"spec": {"volumeMode": "Filesystem"}}}}),
    ],
)  # fmt: skip
def test_volumes_get_the_defaults_of_their_source(given: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = defaulted({"containers": [], "volumes": [{"name": "v", **given}]})
    assert spec["volumes"] == [{"name": "v", **expected}]


@pytest.mark.parametrize("given", [{"serviceAccount": "robot"}, {"serviceAccountName": "robot"}])
def test_both_names_of_the_service_account_are_equal(given: dict[str, Any]) -> None:
    spec = defaulted({"containers": [], **given})
    assert (spec["serviceAccount"], spec["serviceAccountName"]) == ("robot", "robot")


@pytest.mark.parametrize(
    ("sentence", "resources", "expected"),
    [
        ("requests follow the containers", {"limits": {"cpu": "4"}}, {"limits": {"cpu": "4"}, "requests": {"cpu": "3"}}),
        ("or the limits", {"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1Gi"}, "requests": {"cpu": "3", "memory": "1Gi"}}),
        ("limits follow when all containers have some", {"requests": {"cpu": "3"}}, {"requests": {"cpu": "3"}, "limits": {"cpu": "3"}}),
        ("nothing comes from nothing", {}, {}),
    ],
)  # fmt: skip
def test_pod_level_amounts(sentence: str, resources: dict[str, Any], expected: dict[str, Any]) -> None:
    own = {"limits": {"cpu": "1"}}
    containers = [{"name": "a", "image": "x", "resources": dict(own)}]
    init = [
        {"name": "s", "image": "x", "restartPolicy": "Always", "resources": dict(own)},
        {"name": "i", "image": "x", "resources": {"limits": {"cpu": "2"}}},
    ]
    spec = defaulted({"containers": containers, "initContainers": init, "resources": resources})
    assert spec["resources"] == expected, sentence


def test_a_template_gets_the_same_but_what_only_pods_get() -> None:
    obj: dict[str, Any] = {
        "metadata": {},
        "spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}}},
    }
    registry.strategy_for(scheme.DEPLOYMENTS).default(obj)
    spec = obj["spec"]["template"]["spec"]
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert "enableServiceLinks" not in spec
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1"}}


def test_a_new_pod_is_pending_and_knows_its_quality_of_service() -> None:
    strategy = registry.strategy_for(scheme.PODS)
    obj: dict[str, Any] = {"metadata": {}, "spec": {"containers": []}, "status": {"phase": "Running"}}
    strategy.default(obj)
    strategy.prepare_create(obj)
    assert obj["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert obj["metadata"] == {"generation": 1}


def test_a_gated_pod_says_so_from_the_start() -> None:
    strategy = registry.strategy_for(scheme.PODS)
    obj: dict[str, Any] = {"metadata": {}, "spec": {"containers": [], "schedulingGates": [{"name": "x"}]}}
    strategy.default(obj)
    strategy.prepare_create(obj)
    (condition,) = obj["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "SchedulingGated")


BOTH = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": BOTH, "requests": BOTH}], "Guaranteed"),
        ([{"limits": BOTH, "requests": {**BOTH, "cpu": "500m"}}], "Burstable"),
        ([{"limits": BOTH, "requests": BOTH}, {}], "Burstable"),
        ([{"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}], "Burstable"),
        ([{"requests": {"ephemeral-storage": "1Gi"}}], "BestEffort"),
    ],
)  # fmt: skip
def test_the_quality_of_service_follows_the_amounts(resources: list[dict[str, Any]], expected: str) -> None:
    assert qos.qos_class({"containers": [{"resources": item} for item in resources]}) == expected


@pytest.mark.parametrize(
    ("spec", "status", "options", "expected"),
    [
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, {}, {}, 30),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, {}, {"gracePeriodSeconds": 5}, 5),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, {}, {"gracePeriodSeconds": 0}, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": -1}, {}, {}, 1),
        ({"terminationGracePeriodSeconds": 30}, {}, {}, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, {"phase": "Succeeded"}, {}, 0),
    ],
)  # fmt: skip
def test_the_grace_of_a_deletion(
    spec: dict[str, Any], status: dict[str, Any], options: dict[str, Any], expected: int
) -> None:
    strategy = registry.strategy_for(scheme.PODS)
    assert strategy.deletion_grace({"spec": spec, "status": status}, options) == expected


def test_other_kinds_know_no_grace() -> None:
    assert registry.strategy_for(scheme.SECRETS).deletion_grace({}, {"gracePeriodSeconds": 30}) is None


def test_what_field_selectors_see_of_a_pod() -> None:
    obj = {"spec": {"nodeName": "n", "hostNetwork": True}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    assert registry.strategy_for(scheme.PODS).field_values(obj) == {
        "spec.hostNetwork": "true",
        "spec.nodeName": "n",
        "spec.restartPolicy": "",
        "spec.schedulerName": "",
        "spec.serviceAccountName": "",
        "status.nominatedNodeName": "",
        "status.phase": "Running",
        "status.podIP": "10.0.0.1",
    }
