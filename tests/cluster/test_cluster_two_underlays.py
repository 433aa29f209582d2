"""Whole clusters on underlays other than one link: two links with the same first address everywhere, and routers."""

import json
from collections.abc import Callable

import pytest
from harness import Kubectl
from workloads import HTTP, address, create, fetch, pod, service

from nodeagent.lab import cluster, machine
from nodeagent.lab.testing.handle import Keeper

NOTE = "flannel.alpha.coreos.com/public-ip"


@pytest.mark.parametrize(("underlay", "encapsulated"), [("two-links", False), ("routed", True)])
def test_pods_services_and_policies_work_across_nodes(
    labs: Keeper,
    kubectl_for: Callable[[cluster.Running], Kubectl],
    underlay: str,
    encapsulated: bool,
) -> None:
    running = labs.of(2, underlay=underlay).running
    kubectl = kubectl_for(running)
    nodes = {each["metadata"]["name"]: each for each in json.loads(kubectl.ok("get", "nodes", "-o", "json"))["items"]}
    for name, node in nodes.items():
        assert node["metadata"]["annotations"][NOTE] == running.machine(name).ip
        routes = machine.run(running.first(name), ["ip", "route", "show", "proto", "110"]).decode()
        assert ("dev nodeagent.1" in routes) is encapsulated, routes

    server, client = pod("server", HTTP, app="server"), pod("client", "sleep 3600", role="client")
    server["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-1"}
    client["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-2"}
    create(kubectl, server, client, service("server", {"port": 80, "targetPort": 8080}))
    target = kubectl.ok("get", "pod", "server", "-o", "jsonpath={.status.podIP}") + ":8080"
    for name in (target, address(kubectl, "server"), "server"):
        assert fetch(kubectl, "client", name) == "server"

    rule = {"from": [{"podSelector": {"matchLabels": {"role": "nobody"}}}]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [rule]},
    }
    kubectl.ok("apply", "-f", "-", stdin=json.dumps(policy))
    once = f"timeout 1 wget -q -O - http://{target} >/dev/null 2>&1"
    loop = f"for i in $(seq 20); do {once} || {once} || exit 0; sleep 0.2; done; exit 1"
    assert kubectl(["exec", "client", "--", "sh", "-c", loop]).code == 0
    kubectl.ok("delete", "networkpolicy", "--all")
    assert fetch(kubectl, "client", target) == "server"
