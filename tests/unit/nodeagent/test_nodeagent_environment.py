"""What a container finds in its environment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kube import types
from nodeagent.pods import downward, environment

META = {
    "name": "web-1",
    "namespace": "shop",
    "uid": "u-1",
    "labels": {"app": "web"},
    "annotations": {"b": 'say "hi"', "a": "x\ny"},
}


def a_pod(container: dict[str, Any] | None = None, **spec: Any) -> types.Pod:
    body = {
        "containers": [{"name": "c", **(container or {})}],
        "nodeName": "node-1",
        "serviceAccountName": "sa",
        **spec,
    }
    return msgspec.convert({"metadata": META, "spec": body}, types.Pod)


def a_service(
    name: str, *, namespace: str = "shop", ip: str = "10.96.0.7", ports: Any = ({"port": 80},)
) -> types.Service:
    metadata = {"name": name, "namespace": namespace}
    return msgspec.convert({"metadata": metadata, "spec": {"clusterIP": ip, "ports": list(ports)}}, types.Service)


def env(container: dict[str, Any], **given: Any) -> dict[str, str]:
    pod = a_pod(container)
    known = {"config_maps": {}, "secrets": {}, "pod_ip": "10.244.0.5", "host_ip": "192.168.77.11"} | given
    return dict(environment.expand(pod, pod.spec.containers[0], **known))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("end$", "end$"),
        ("$()", "$()"),
        ("$(A)$", "1$"),
        ("$$$$", "$$"),
    ],
)
def test_references_in_text(text: str, result: str) -> None:
    assert environment.substitute(text, {"A": "1", "B": "2"}) == result


def test_a_variable_sees_what_was_defined_before_it_only() -> None:
    found = env(
        {"env": [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "b"}, {"name": "C", "value": "$(B)$(A)"}]}
    )
    assert found == {"A": "$(B)", "B": "b", "C": "b$(B)"}


def test_env_wins_over_env_from_and_env_from_over_services() -> None:
    found = env(
        {
            "envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}, "prefix": "P_"}],
            "env": [{"name": "K", "value": "env"}],
        },
        services=[a_service("web")],
        config_maps={"m": {"K": b"map", "WEB_PORT": b"mine", "not=ok": b""}},
        secrets={"s": {"K": b"secret"}},
    )
    assert (found["K"], found["P_K"], found["WEB_PORT"]) == ("env", "secret", "mine")
    assert "not=ok" not in found
    assert found["WEB_SERVICE_HOST"] == "10.96.0.7"


def test_the_variables_of_a_service() -> None:
    ports = [{"name": "http-alt", "port": 80}, {"port": 53, "protocol": "UDP"}]
    assert environment.service_variables(a_pod(), [a_service("my-web", ports=ports)]) == {
        "MY_WEB_SERVICE_HOST": "10.96.0.7",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_HTTP_ALT": "80",
        "MY_WEB_PORT": "tcp://10.96.0.7:80",
        "MY_WEB_PORT_80_TCP": "tcp://10.96.0.7:80",
        "MY_WEB_PORT_80_TCP_PROTO": "tcp",
        "MY_WEB_PORT_80_TCP_PORT": "80",
        "MY_WEB_PORT_80_TCP_ADDR": "10.96.0.7",
        "MY_WEB_PORT_53_UDP": "udp://10.96.0.7:53",
        "MY_WEB_PORT_53_UDP_PROTO": "udp",
        "MY_WEB_PORT_53_UDP_PORT": "53",
        "MY_WEB_PORT_53_UDP_ADDR": "10.96.0.7",
    }


def test_other_namespaces_and_headless_services_are_not_seen_but_kubernetes_always_is() -> None:
    services = [
        a_service("other", namespace="elsewhere"),
        a_service("headless", ip="None"),
        a_service("kubernetes", namespace="default", ip="10.96.0.1"),
        a_service("mine"),
    ]
    hosts = {n for n in environment.service_variables(a_pod(), services) if n.endswith("_SERVICE_HOST")}
    assert hosts == {"KUBERNETES_SERVICE_HOST", "MINE_SERVICE_HOST"}
    without = environment.service_variables(a_pod(enableServiceLinks=False), services)
    assert {n for n in without if n.endswith("_SERVICE_HOST")} == {"KUBERNETES_SERVICE_HOST"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web-1"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['none']", ""),
        ("metadata.annotations", 'a="x\\ny"\nb="say \\"hi\\""'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "sa"),
        ("status.podIP", "10.244.0.5"),
        ("status.podIPs", "10.244.0.5"),
        ("status.hostIP", "192.168.77.11"),
        ("status.hostIPs", "192.168.77.11"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert env({"env": [{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}) == {"V": value}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1250"),
        ({"resource": "requests.cpu"}, "0"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "64"),
        ({"resource": "limits.memory", "divisor": "0"}, "67108864"),
        ({"resource": "limits.ephemeral-storage"}, "4000"),
    ],
)
def test_resources_round_up_and_fall_back_to_the_node(reference: dict[str, str], value: str) -> None:
    container = {
        "resources": {"limits": {"cpu": "1250m", "memory": "64Mi"}},
        "env": [{"name": "V", "valueFrom": {"resourceFieldRef": reference}}],
    }
    assert env(container, allocatable={"ephemeral-storage": "4k"}) == {"V": value}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "x", "key": "k"}}, 'configmap "x" not found'),
        ({"secretKeyRef": {"name": "x", "key": "k"}}, 'secret "x" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "couldn't find key k in ConfigMap shop/m"),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "couldn't find key k in Secret shop/s"),
        ({"secretKeyRef": {"name": "s", "key": "raw"}}, "Secret shop/s has a value that is not UTF-8"),
        ({"fieldRef": {"fieldPath": "spec.nonsense"}}, "unsupported fieldPath: spec.nonsense"),
        ({"resourceFieldRef": {"resource": "limits.gold"}}, "unsupported container resource : limits.gold"),
        ({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "z"}}, "container z not found"),
    ],
)
def test_what_is_missing_is_named_as_upstream_names_it(source: dict[str, Any], message: str) -> None:
    with pytest.raises(environment.EnvError) as caught:
        env({"env": [{"name": "V", "valueFrom": source}]}, config_maps={"m": {}}, secrets={"s": {"raw": b"\xff"}})
    assert str(caught.value) == message


def test_optional_sources_may_be_missing() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "x", "optional": True}}],
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "k", "optional": True}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
        ],
    }
    assert env(container, secrets={"s": {}}) == {}
    with pytest.raises(environment.EnvError, match='configmap "y" not found'):
        env({"envFrom": [{"configMapRef": {"name": "y"}}]})


def test_what_has_to_be_fetched_is_known_beforehand() -> None:
    pod = a_pod(
        {
            "envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m2", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
            ],
        }
    )
    assert environment.references(pod.spec.containers[0]) == environment.References(
        frozenset({"m", "m2"}), frozenset({"s", "s2"})
    )


def test_commands_are_expanded_with_the_whole_environment() -> None:
    assert environment.expand_words(["echo", "$(A) $$(A)"], [("A", "1")]) == ["echo", "1 $(A)"]


def test_a_resource_in_a_volume_must_name_its_container() -> None:
    reference = types.ResourceFieldSelector(resource="limits.cpu")
    with pytest.raises(downward.DownwardError, match="containerName is required"):
        downward.resource(reference, a_pod(), None, facts=downward.Facts())
