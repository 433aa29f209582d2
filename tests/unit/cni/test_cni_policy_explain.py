"""`policy explain`: the verdict and its words, from the objects as the API lists them."""

from typing import Any

import pytest

import cni
from cni.policy import command, explain


def pod(key: str, address: str, **spec: Any) -> dict[str, Any]:
    namespace, name = key.split("/")
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "ports": ports}], **spec},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name}, "spec": spec}


def namespace(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}


def world(*policies: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        "pods": [
            pod("default/web", "10.244.0.2"),
            pod("default/client", "10.244.0.3"),
            pod("other/web", "10.244.1.2"),
            pod("default/host", "192.0.2.1", hostNetwork=True),
        ],
        "namespaces": [namespace("default"), namespace("other")],
        "networkpolicies": list(policies),
    }


DENY = policy("deny", podSelector={"matchLabels": {"app": "web"}}, policyTypes=["Ingress"])
CLIENTS = policy(
    "clients",
    podSelector={},
    policyTypes=["Ingress"],
    ingress=[
        {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": "http"}]},
    ],
)


def words(found: dict[str, Any], source: str, to: str, port: str) -> list[str]:
    return list(explain.words(command.judge(found, source=source, to=to, port=port)))


def test_without_policies_everything_is_allowed_and_it_says_why() -> None:
    assert words(world(), "client", "web", "80") == [
        "allowed",
        "  egress of pod default/client (10.244.0.3): allowed, no policy selects it",
        "  ingress of pod default/web (10.244.0.2): allowed, no policy selects it",
    ]


def test_a_denial_names_all_policies_that_isolate() -> None:
    assert words(world(DENY, CLIENTS), "other/web", "default/web", "http")[-1] == (
        "  ingress of pod default/web (10.244.0.2): denied: isolated by networkpolicies default/clients, "
        "default/deny, and no rule allows it"
    )
    assert "denied: isolated by networkpolicy default/deny," in words(world(DENY), "client", "web", "80")[-1]


def test_an_allowance_names_policy_and_rule() -> None:
    told = words(world(DENY, CLIENTS), "client", "web", "http")
    assert told[0] == "allowed"
    assert told[-1].endswith("allowed by networkpolicy default/clients, ingress rule 1")


def test_the_denied_end_may_be_the_first() -> None:
    locked = policy("locked", podSelector={"matchLabels": {"app": "client"}}, policyTypes=["Egress"])
    told = words(world(locked), "client", "other/web", "80")
    assert told[0] == "denied"
    assert "denied" in told[1] and "allowed" in told[2]


def test_an_address_may_be_a_pods_or_nobodys() -> None:
    assert words(world(DENY, CLIENTS), "10.244.0.3", "10.244.0.2", "8080")[-1].endswith("ingress rule 1")
    told = words(world(DENY, CLIENTS), "192.0.2.7", "web", "1")
    assert told[1] == "  egress of 192.0.2.7: allowed, no policy holds for what is not a pod"
    assert told[2].endswith("ingress rule 0")


def test_a_pod_reaches_itself() -> None:
    assert words(world(DENY), "web", "web", "80") == ["allowed", "  a pod always reaches itself"]


@pytest.mark.parametrize(
    ("source", "to", "port", "reason"),
    [
        ("nobody", "web", "80", "no pod default/nobody"),
        ("host", "web", "80", "no address of its own"),
        ("client", "web", "0", "neither a port number"),
        ("client", "web", "ftp", "neither a port number"),
        ("client", "web", "http/udp", "neither a port number"),
        ("client", "web", "80/icmp", "protocol is none of tcp, udp, sctp"),
    ],
)
def test_what_cannot_be_answered_is_said(source: str, to: str, port: str, reason: str) -> None:
    with pytest.raises(command.UsageError, match=reason):
        command.judge(world(), source=source, to=to, port=port)


SERVICE = {
    "metadata": {"namespace": "default", "name": "web"},
    "spec": {"ports": [{"name": "main", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
}
SLICE = {
    "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "main", "port": 8080, "protocol": "TCP"}],
    "endpoints": [
        {"addresses": ["10.244.0.2"], "conditions": {"ready": True}},
        {"addresses": ["192.0.2.9"], "conditions": {}},
        {"addresses": ["10.244.0.9"], "conditions": {"ready": False}},
    ],
}


def of_service(source: str, to: str, port: str, *policies: Any) -> dict[str, bool]:
    found = {**world(*policies), "services": [SERVICE], "endpointslices": [SLICE]}
    verdicts = command.judge_all(found, source=source, to=to, port=port)
    return {place.removeprefix(" at endpoint "): verdict.allowed for place, verdict in verdicts}


@pytest.mark.parametrize("port", ["80", "main", "80/tcp"])
def test_a_service_is_judged_at_each_ready_endpoint_and_its_own_port(port: str) -> None:
    assert of_service("other/web", "svc/web", port) == {"10.244.0.2 8080/tcp": True, "192.0.2.9 8080/tcp": True}
    expected = {"10.244.0.2 8080/tcp": False, "192.0.2.9 8080/tcp": True}
    assert of_service("other/web", "service/default/web", port, DENY, CLIENTS) == expected
    assert all(of_service("client", "svc/default/web", port, DENY, CLIENTS).values())


@pytest.mark.parametrize(
    ("to", "port", "reason"),
    [
        ("svc/nothing", "80", "no service default/nothing"),
        ("svc/web", "81", "has no port '81'; it has main/tcp"),
        ("svc/web", "80/udp", "has no port '80/udp'"),
    ],
)
def test_a_service_that_cannot_be_judged_is_said(to: str, port: str, reason: str) -> None:
    with pytest.raises(command.UsageError, match=reason):
        of_service("client", to, port)


def test_the_command_without_an_api_server_ends_in_one_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    cni.register(parser.add_subparsers())
    missing = str(tmp_path / "none")
    arguments = parser.parse_args(["policy", "explain", "a", "b", "80", "--kubeconfig", missing])
    assert arguments.run(arguments) == command.FAILED
    assert capsys.readouterr().err.startswith("error: ")
