"""Three nodes: a Service whose only endpoint is elsewhere, spreading, a node's DNS, and the way down."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import Kubectl
from workloads import HTTP, address, create, fetch, pod, service, sh

from nodeagent.lab import cluster


@pytest.fixture
def kubectl(three_nodes: cluster.Running, kubectl_for: Callable[[cluster.Running], Kubectl]) -> Kubectl:
    """kubectl on the cluster of three nodes."""
    return kubectl_for(three_nodes)


def on(node: str, made: dict[str, Any]) -> dict[str, Any]:
    """The pod, placed by its node selector."""
    made["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    return made


def test_every_node_is_ready_with_a_range_of_its_own(kubectl: Kubectl) -> None:
    nodes = json.loads(kubectl.ok("get", "nodes", "-o", "json"))["items"]
    ranges = {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in nodes}
    assert sorted(ranges) == ["node-1", "node-2", "node-3"]
    assert len(set(ranges.values())) == 3


def test_a_pod_reaches_a_service_whose_only_endpoint_is_on_another_node(kubectl: Kubectl) -> None:
    create(
        kubectl,
        on("node-2", pod("server", HTTP, app="web")),
        service("web", {"port": 80, "targetPort": 8080}),
        *(on(f"node-{number}", pod(f"client-{number}", "sleep 3600")) for number in (1, 2, 3)),
    )
    for number in (1, 2, 3):
        assert fetch(kubectl, f"client-{number}", address(kubectl, "web")) == "server"
        assert fetch(kubectl, f"client-{number}", "web") == "server"


def test_pods_on_different_nodes_see_each_others_own_addresses(kubectl: Kubectl) -> None:
    script = HTTP
    create(kubectl, on("node-1", pod("one", script)), on("node-3", pod("three", "sleep 3600")))
    address_of = {name: kubectl.ok("get", "pod", name, "-o", "jsonpath={.status.podIP}") for name in ("one", "three")}
    assert fetch(kubectl, "three", address_of["one"] + ":8080") == "one"
    assert sh(kubectl, "one", f"ping -c 1 -W 2 {address_of['three']} >/dev/null && echo there") == "there"


def test_replicas_are_spread_over_the_nodes(kubectl: Kubectl) -> None:
    kubectl.ok(
        "create", "deployment", "spread", "--image=nodeagent.local/busybox:1", "--replicas=3", "--", "sleep", "3600"
    )
    kubectl.ok("rollout", "status", "deployment/spread", "--timeout=60s")
    places = kubectl.ok("get", "pods", "-l", "app=spread", "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert len(set(places)) >= 2


def test_every_nodes_dns_is_an_endpoint_of_the_dns_service(kubectl: Kubectl) -> None:
    words = ["get", "endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns", "-o", "json"]
    slices = json.loads(kubectl.ok(*words))["items"]
    addresses = {address for each in slices for endpoint in each["endpoints"] for address in endpoint["addresses"]}
    assert addresses == {"192.168.77.11", "192.168.77.12", "192.168.77.13"}


def test_logs_and_exec_reach_a_pod_on_any_node(kubectl: Kubectl) -> None:
    for number in (1, 2, 3):
        name = f"talk-{number}"
        create(kubectl, on(f"node-{number}", pod(name, "echo spoken; sleep 3600")))
        assert kubectl.ok("logs", name) == "spoken\n"
        assert sh(kubectl, name, "hostname") == name
