"""Projections: names on the wire, defaults, nulls, unknown fields; all compared with the schemas."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kube import schema, types
from kube.types.base import DecodeError, Projection, wire_name

STRUCTS = [
    kind
    for name in types.__all__
    if isinstance(kind := getattr(types, name), type) and issubclass(kind, Projection) and kind is not Projection
]
SCHEMAS: dict[str, list[str]] = {}
for definition in schema.catalog().names():
    SCHEMAS.setdefault(definition.rpartition(".")[2], []).append(definition)


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_attribute_is_a_field_of_the_schema(kind: type[msgspec.Struct]) -> None:
    wire = {field.encode_name for field in msgspec.structs.fields(kind)}
    candidates = [set(schema.catalog().raw(name).get("properties", ())) for name in SCHEMAS[kind.__name__]]
    assert any(wire <= properties for properties in candidates)


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_projection_is_described_and_may_be_empty(kind: type[msgspec.Struct]) -> None:
    assert kind.__doc__
    assert types.decode(b"{}", kind) == kind()


@pytest.mark.parametrize(
    ("attribute", "wire"),
    [
        ("name", "name"),
        ("pod_ip", "podIP"),
        ("pod_ips", "podIPs"),
        ("host_pid", "hostPID"),
        ("host_ipc", "hostIPC"),
        ("pod_cidr", "podCIDR"),
        ("pod_cidrs", "podCIDRs"),
        ("cluster_ips", "clusterIPs"),
        ("provider_id", "providerID"),
        ("system_uuid", "systemUUID"),
        ("fs_group", "fsGroup"),
        ("termination_grace_period_seconds", "terminationGracePeriodSeconds"),
        ("except_", "except"),
    ],
)
def test_an_attribute_becomes_kubernetes_own_field_name(attribute: str, wire: str) -> None:
    assert wire_name(attribute) == wire


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web",
        "namespace": "default",
        "uid": "u",
        "labels": {"app": "web"},
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": True}
        ],
        "deletionTimestamp": "2026-11-23T15:00:00Z",
        "deletionGracePeriodSeconds": 30,
    },
    "spec": {
        "nodeName": "n1",
        "initContainers": [{"name": "sidecar", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "web",
                "image": "web:1",
                "command": ["/bin/web"],
                "ports": [{"name": "http", "containerPort": 80}],
                "env": [
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                ],
                "envFrom": [{"prefix": "C_", "configMapRef": {"name": "c", "optional": True}}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi", "cpu": 1}},
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "timeoutSeconds": 2},
                "startupProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 3}}, "stopSignal": "SIGUSR1"},
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s", "readOnly": True}],
            }
        ],
        "volumes": [
            {"name": "c", "configMap": {"name": "c", "defaultMode": 420, "items": [{"key": "k", "path": "p"}]}},
            {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "h", "hostPath": {"path": "/x", "type": "Directory"}},
            {
                "name": "p",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                        {"configMap": {"name": "kube-root-ca.crt"}},
                        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                    ]
                },
            },
        ],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "readinessGates": [{"conditionType": "x/y"}],
        "overhead": {"cpu": "10m"},
        "hostNetwork": True,
        "securityContext": {"fsGroup": 7, "sysctls": [{"name": "net.core.somaxconn", "value": "1"}]},
    },
    "status": {
        "phase": "Running",
        "podIP": "10.244.0.2",
        "podIPs": [{"ip": "10.244.0.2"}],
        "containerStatuses": [
            {"name": "web", "restartCount": 2, "state": {"running": {"startedAt": "2026-11-23T15:00:00Z"}}}
        ],
    },
}


def test_a_pod_is_read_as_a_kubelet_needs_it() -> None:
    assert schema.check("v1", "Pod", POD).message(strict=True) == ""
    pod = types.decode(json.dumps(POD), types.Pod)
    web = pod.spec.containers[0]
    assert (pod.metadata.name, pod.metadata.owner_references[0].controller) == ("web", True)
    assert (pod.metadata.deletion_grace_period_seconds, pod.spec.node_name, pod.status.pod_ip) == (
        30,
        "n1",
        "10.244.0.2",
    )
    assert pod.spec.init_containers[0].restart_policy == "Always"
    assert web.env[0].value_from and web.env[0].value_from.field_ref
    assert web.env[0].value_from.field_ref.field_path == "status.podIP"
    assert web.env_from[0].config_map_ref and web.env_from[0].config_map_ref.optional is True
    assert web.resources.limits == {"memory": "64Mi", "cpu": 1}
    assert web.liveness_probe and web.liveness_probe.http_get
    assert (web.liveness_probe.http_get.port, web.liveness_probe.timeout_seconds) == ("http", 2)
    assert web.liveness_probe.period_seconds == 10
    assert web.startup_probe and web.startup_probe.exec and web.startup_probe.exec.command == ("true",)
    assert web.lifecycle and web.lifecycle.pre_stop and web.lifecycle.pre_stop.sleep
    assert (web.lifecycle.pre_stop.sleep.seconds, web.lifecycle.stop_signal) == (3, "SIGUSR1")
    assert pod.spec.volumes[3].projected and pod.spec.volumes[3].projected.sources[0].service_account_token
    assert pod.spec.tolerations[0].toleration_seconds == 300
    assert pod.spec.security_context and pod.spec.security_context.fs_group == 7
    assert pod.status.container_statuses[0].state.running


def test_defaults_are_those_of_the_api() -> None:
    pod = types.Pod()
    assert (pod.spec.restart_policy, pod.spec.dns_policy, pod.spec.host_network) == ("Always", "ClusterFirst", False)
    assert pod.spec.containers == () and pod.metadata.labels == {} and pod.metadata.deletion_timestamp is None
    service = types.Service()
    assert (service.spec.type, service.spec.internal_traffic_policy, service.spec.cluster_ip) == (
        "ClusterIP",
        "Cluster",
        "",
    )
    assert types.ServicePort().protocol == "TCP"
    assert types.Endpoint().conditions.ready is None


def test_two_objects_never_share_a_map() -> None:
    first, second = types.Pod(), types.Pod()
    first.metadata.labels["a"] = "b"
    assert second.metadata.labels == {}


def test_nulls_where_upstream_writes_them_are_read_as_absent() -> None:
    raw = b'{"metadata":{"name":"s","creationTimestamp":null},"addressType":"IPv4","endpoints":null,"ports":null}'
    found = types.decode(raw, types.EndpointSlice)
    assert (found.metadata.name, found.endpoints, found.ports) == ("s", (), ())


def test_unknown_fields_are_skipped() -> None:
    assert types.decode(b'{"data":{"a":"b"},"future":{"x":[1]}}', types.ConfigMap).data == {"a": "b"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b'{"spec":{"containers":[{"name":1}]}}',
            r"Pod: Expected `str`, got `int` - at `\$.spec.containers\[0\].name`",
        ),
        (b'{"spec":', "Pod: Input data was truncated"),
        (b"[]", "Pod: Expected `object`, got `array`"),
    ],
)
def test_what_cannot_be_read_is_refused_by_kind_and_place(raw: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        types.decode(raw, types.Pod)
