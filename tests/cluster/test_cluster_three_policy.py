"""Network policies in a cluster of three nodes, as a user applies them: by name and address, before and after."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Kubectl
from workloads import HTTP, address, create, fetch, pod, service, sh

from nodeagent.lab import cluster, machine
from nodeagent.lab.testing.handle import Keeper

ROOT = Path(__file__).resolve().parents[2]
SERVER = {"matchLabels": {"app": "server"}}
DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


@pytest.fixture
def kubectl(three_nodes: cluster.Running, kubectl_for: Callable[[cluster.Running], Kubectl]) -> Kubectl:
    """kubectl on the cluster of three nodes."""
    return kubectl_for(three_nodes)


def on(node: str, made: dict[str, Any]) -> dict[str, Any]:
    """The pod, placed by its node selector."""
    made["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    return made


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, **spec},
    }


def apply(kubectl: Kubectl, *policies: dict[str, Any]) -> None:
    kubectl.ok("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, policies)))


def refused(kubectl: Kubectl, name: str, host: str) -> bool:
    """Whether `http://host` soon is out of a pod's reach: three attempts in a row fail."""
    once = f"timeout 1 wget -q -O - http://{host} >/dev/null 2>&1"
    loop = f"for i in $(seq 20); do {once} || {once} || {once} || exit 0; sleep 0.2; done; exit 1"
    return kubectl(["exec", name, "--", "sh", "-c", loop]).code == 0


def test_a_policy_holds_on_every_node_for_services_and_addresses(kubectl: Kubectl) -> None:
    server = on("node-2", pod("server", HTTP, app="server"))
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    server["spec"]["containers"][0]["readinessProbe"] = probe
    near, far = pod("near", "sleep 3600", role="client"), pod("far", "sleep 3600", role="client")
    create(
        kubectl,
        server,
        service("server", {"port": 80, "targetPort": 8080}),
        on("node-2", near),
        on("node-1", far),
        on("node-3", pod("stranger", "sleep 3600")),
    )
    by_address = kubectl.ok("get", "pod", "server", "-o", "jsonpath={.status.podIP}") + ":8080"
    virtual = address(kubectl, "server")
    for name in ("near", "far", "stranger"):
        assert fetch(kubectl, name, virtual) == "server"

    apply(kubectl, policy("deny"))
    for name in ("near", "far", "stranger"):
        assert refused(kubectl, name, virtual)
        assert refused(kubectl, name, by_address)

    clients = [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}], "ports": [{"port": 8080}]}]
    apply(kubectl, policy("clients", podSelector=SERVER, ingress=clients))
    for name in ("near", "far"):
        assert fetch(kubectl, name, virtual) == "server"
        assert fetch(kubectl, name, by_address) == "server"
    assert refused(kubectl, "stranger", virtual)
    assert kubectl.ok("get", "pod", "server", "-o", "jsonpath={.status.containerStatuses[0].ready}") == "true"

    kubectl.ok("label", "pod", "stranger", "role=client")
    assert fetch(kubectl, "stranger", virtual) == "server"
    kubectl.ok("delete", "networkpolicy", "--all")
    kubectl.ok("label", "pod", "stranger", "role-")
    assert fetch(kubectl, "stranger", by_address) == "server"


def test_a_pod_cannot_send_a_packet_before_its_rules(kubectl: Kubectl) -> None:
    create(kubectl, on("node-2", pod("server", HTTP, app="server")))
    target = kubectl.ok("get", "pod", "server", "-o", "jsonpath={.status.podIP}") + ":8080"
    apply(kubectl, policy("silent", podSelector={"matchLabels": {"app": "hasty"}}, policyTypes=["Egress"]))
    attempt = f"timeout 1 wget -q -O - http://{target}"
    script = f"if {attempt} 2>/dev/null; then echo reached; else echo stopped; fi; sleep 3600"
    for number in range(3):
        create(kubectl, on("node-1", pod(f"hasty-{number}", script, app="hasty")))
        assert refused(kubectl, f"hasty-{number}", target)
        assert kubectl.ok("logs", f"hasty-{number}").split()[-1] == "stopped"


def test_names_are_resolved_where_a_policy_allows_the_cluster_dns(kubectl: Kubectl) -> None:
    create(
        kubectl,
        on("node-2", pod("server", HTTP, app="server")),
        service("server", {"port": 80, "targetPort": 8080}),
        on("node-1", pod("client", "sleep 3600", role="client")),
    )
    to_server = {"to": [{"podSelector": SERVER}]}
    apply(kubectl, policy("names", podSelector={"matchLabels": {"role": "client"}}, egress=[DNS, to_server]))
    assert fetch(kubectl, "client", "server") == "server"
    for _ in range(10):
        assert fetch(kubectl, "client", "server") == "server"


def test_a_policy_outlives_the_agent_and_a_flush(kubectl: Kubectl, three_nodes: cluster.Running, labs: Keeper) -> None:
    create(kubectl, on("node-2", pod("server", HTTP, app="server")), on("node-1", pod("client", "sleep 3600")))
    target = kubectl.ok("get", "pod", "server", "-o", "jsonpath={.status.podIP}") + ":8080"
    apply(kubectl, policy("deny"))
    assert refused(kubectl, "client", target)
    node = three_nodes.first("node-2")
    agent = machine.service_pid(node, "agent")
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    assert refused(kubectl, "client", target)
    labs.of(3)
    assert refused(kubectl, "client", target)
    machine.run(node, ["/usr/sbin/nft", "delete", "table", "ip", "nodeagent-policy"])
    assert refused(kubectl, "client", target)
    create(kubectl, on("node-2", pod("later", HTTP, app="server")))
    later = kubectl.ok("get", "pod", "later", "-o", "jsonpath={.status.podIP}") + ":8080"
    assert refused(kubectl, "client", later)
    kubectl.ok("delete", "networkpolicy", "--all")
    for each in (target, later):
        assert fetch(kubectl, "client", each) in ("server", "later")
    deadline = time.monotonic() + 10
    while "nodeagent-policy" in machine.run(node, ["/usr/sbin/nft", "list", "tables"]).decode():
        assert time.monotonic() < deadline, "the last policy is gone, its table is not"
        time.sleep(0.1)


def test_explain_says_which_policy_decides(kubectl: Kubectl) -> None:
    create(kubectl, pod("server", HTTP, app="server"), pod("client", "sleep 3600"))
    apply(kubectl, policy("deny"))
    words = ["policy", "explain", f"{kubectl.namespace}/client", f"{kubectl.namespace}/server", "8080"]
    argv = [sys.executable, "-m", "nodeagent", *words, "--kubeconfig", str(kubectl.config)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert f"isolated by networkpolicy {kubectl.namespace}/deny" in done.stdout
    assert refused(kubectl, "client", kubectl.ok("get", "pod", "server", "-o", "jsonpath={.status.podIP}") + ":8080")
    assert sh(kubectl, "server", "wget -q -O - http://127.0.0.1:8080") == "server"
