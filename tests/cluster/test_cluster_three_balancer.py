"""Three nodes: a Service of type LoadBalancer, reached by another machine while the node that answers for it dies."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from harness import Kubectl
from workloads import HTTP, create, pod, service

from nodeagent.lab import cluster, machine

TAKE_OVER_SECONDS = 15.0
LEASES = ["get", "leases", "-n", "kube-system", "-l", "nodeagent/load-balancer=true", "-o", "json"]


@pytest.fixture
def kubectl(three_nodes: cluster.Running, kubectl_for: Callable[[cluster.Running], Kubectl]) -> Kubectl:
    """kubectl on the cluster of three nodes."""
    return kubectl_for(three_nodes)


@pytest.fixture
def silent(three_nodes: cluster.Running) -> Iterator[Callable[[str], None]]:
    """Makes a node's agent fall silent; it goes on at the end."""
    pids: list[int] = []

    def stop(node: str) -> None:
        pid = machine.service_pid(three_nodes.first(node), "agent")
        assert pid is not None
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def until(true: Callable[[], object], *, seconds: float = TAKE_OVER_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


def balanced(kubectl: Kubectl) -> str:
    return kubectl.ok("get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")


def holder(kubectl: Kubectl, address: str) -> str:
    for each in json.loads(kubectl.ok(*LEASES))["items"]:
        if each["metadata"]["annotations"]["nodeagent/address"] == address:
            return str(each["spec"].get("holderIdentity", ""))
    return ""


def reached(running: cluster.Running, address: str) -> bool:
    """Whether the machine of the API server, which is no node, gets the page."""
    script = f"timeout 2 busybox wget -q -O - http://{address}/ || true"
    return machine.run(running.first("server"), ["sh", "-c", script]).decode().strip() == "server"


def test_a_load_balancers_address_outlives_the_node_that_answers_for_it(
    kubectl: Kubectl, three_nodes: cluster.Running, silent: Callable[[str], None]
) -> None:
    made = pod("server", HTTP, app="web")
    ports = {"name": "http", "port": 80, "targetPort": 8080}
    create(kubectl, service("web", ports, type="LoadBalancer"), made)
    until(lambda: balanced(kubectl))
    address = balanced(kubectl)
    until(lambda: reached(three_nodes, address))
    first = holder(kubectl, address)
    silent(first)
    until(lambda: holder(kubectl, address) not in ("", first))
    until(lambda: reached(three_nodes, address), seconds=3.0)
    assert balanced(kubectl) == address
