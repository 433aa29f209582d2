"""Three nodes: cluster names while DNS servers and whole machines die."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from harness import Kubectl
from workloads import create, pod, sh

from nodeagent.lab import cluster, machine

NODES = ("node-1", "node-2", "node-3")
TAKEN_OUT_SECONDS = 12.0
NAME = "kubernetes.default.svc.cluster.local"
ASK = f"for i in $(seq 12); do timeout 3 nslookup {NAME} >/dev/null && echo y || echo n; done"


@pytest.fixture
def kubectl(three_nodes: cluster.Running, kubectl_for: Callable[[cluster.Running], Kubectl]) -> Kubectl:
    """kubectl on the cluster of three nodes."""
    return kubectl_for(three_nodes)


def ready(kubectl: Kubectl) -> set[str]:
    """The nodes whose DNS server the cluster DNS Service leads to."""
    words = ["get", "endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns", "-o", "json"]
    slices = json.loads(kubectl.ok(*words))["items"]
    return {
        endpoint["nodeName"]
        for each in slices
        for endpoint in each["endpoints"]
        if endpoint["conditions"].get("ready") is not False
    }


def wait_for(kubectl: Kubectl, wanted: set[str]) -> float:
    begin = time.monotonic()
    while (found := ready(kubectl)) != wanted:
        assert time.monotonic() - begin < TAKEN_OUT_SECONDS, f"ready are {sorted(found)}, not {sorted(wanted)}"
        time.sleep(0.1)
    return time.monotonic() - begin


@pytest.fixture
def stopped(three_nodes: cluster.Running) -> Iterator[Callable[[str], None]]:
    """Makes a node's DNS process fall silent; it goes on at the end."""
    pids: list[int] = []

    def stop(node: str) -> None:
        pid = machine.service_pid(three_nodes.first(node), "dns")
        assert pid is not None
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_a_silent_dns_server_is_asked_no_more_and_asked_again_when_it_is_back(
    kubectl: Kubectl, three_nodes: cluster.Running, stopped: Callable[[str], None]
) -> None:
    for node in NODES:
        made = pod(f"asks-{node}", "sleep 3600")
        made["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        create(kubectl, made)
    wait_for(kubectl, set(NODES))
    stopped("node-2")
    wait_for(kubectl, {"node-1", "node-3"})
    for node in NODES:
        assert set(sh(kubectl, f"asks-{node}", ASK).split()) == {"y"}, node
    pid = machine.service_pid(three_nodes.first("node-2"), "dns")
    assert pid is not None
    os.kill(pid, signal.SIGCONT)
    wait_for(kubectl, set(NODES))


def test_a_pod_is_answered_on_its_node_and_no_connection_is_tracked(
    kubectl: Kubectl, three_nodes: cluster.Running
) -> None:
    made = pod("asks", "sleep 3600")
    made["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-1"}
    create(kubectl, made)
    tables = machine.run(three_nodes.first("node-1"), ["nft", "list", "table", "ip", "nodeagent-dns"]).decode()
    assert "10.96.0.10" in tables
    assert set(sh(kubectl, "asks", ASK).split()) == {"y"}
    own = kubectl.ok("get", "pod", "asks", "-o", "jsonpath={.status.podIP}")
    listed = machine.run(three_nodes.first("node-1"), ["conntrack", "-L", "-s", own, "-p", "udp", "--dport", "53"])
    assert listed == b""


def test_names_resolve_after_a_machine_died(kubectl: Kubectl, three_nodes: cluster.Running) -> None:
    """The last test of this lab: the machine stays dead, and the next test gets a new lab."""
    for node in NODES[:2]:
        made = pod(f"asks-{node}", "sleep 3600")
        made["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        create(kubectl, made)
    os.kill(three_nodes.first("node-3").pid, signal.SIGKILL)
    took = wait_for(kubectl, {"node-1", "node-2"})
    for node in NODES[:2]:
        assert set(sh(kubectl, f"asks-{node}", ASK).split()) == {"y"}, node
    assert took < TAKEN_OUT_SECONDS
