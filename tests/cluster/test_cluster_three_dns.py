"""Three nodes: cluster names while DNS servers and whole machines die."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from harness import Kubectl
from workloads import create, pod, sh

from kube import kubeconfig, scheme
from kube.client.http import HttpTransport
from kube.client.rest import Client
from nodeagent.lab import cluster, machine, plan

NODES = ("node-1", "node-2", "node-3")
TAKEN_OUT_SECONDS = 12.0
SEEN_SECONDS, SERVICES = 0.1, 20
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


SEES = """
import socket, sys, time
for name in sys.argv[1:]:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\0"
    query = b"\\0\\1\\1\\0\\0\\1" + bytes(6) + labels + b"\\0\\1\\0\\1"
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("10.96.0.10", 53))
    client.settimeout(1)
    while True:
        client.send(query)
        try:
            if client.recv(512)[7]:
                break
        except TimeoutError:
            pass
        time.sleep(0.005)
    print(time.time(), flush=True)
"""


async def test_a_new_service_resolves_on_every_node_at_once(kubectl: Kubectl, three_nodes: cluster.Running) -> None:
    """Each node asks for names that come one after the other; what counts is the time after the API's answer."""
    wanted = [f"late-{number}.{kubectl.namespace}.svc.cluster.local" for number in range(SERVICES)]
    argv = [sys.executable, "-c", SEES, *wanted]
    watching = [asyncio.to_thread(machine.run, three_nodes.first(node), argv, seconds=60.0) for node in NODES]
    answered: list[float] = []

    async def make() -> None:
        client = Client(HttpTransport(kubeconfig.load(three_nodes.plan.kubeconfig)))
        await asyncio.sleep(1.0)
        for number in range(SERVICES):
            body = {"metadata": {"name": f"late-{number}"}, "spec": {"ports": [{"port": 80}]}}
            made = {"apiVersion": "v1", "kind": "Service", **body}
            await client.create(scheme.SERVICES, made, namespace=kubectl.namespace)
            answered.append(time.time())
            await asyncio.sleep(0.2)
        await client.close()

    seen, _ = await asyncio.gather(asyncio.gather(*watching), make())
    late = [float(moment) - begin for each in seen for moment, begin in zip(each.split(), answered, strict=True)]
    assert sorted(late)[len(late) * 98 // 100] < SEEN_SECONDS, sorted(late)[-5:]


def test_the_records_of_a_cluster_are_printed_for_other_servers(kubectl: Kubectl, three_nodes: cluster.Running) -> None:
    kubectl.ok("create", "service", "clusterip", "printed", "--tcp=80")
    first = three_nodes.first("node-1")
    argv = [sys.executable, "-m", "proxy.dns", "--config", plan.ETC + "/dns", "--print", "hosts"]
    printed = machine.run(first, ["env", f"PYTHONPATH={cluster.SOURCE}", *argv]).decode()
    assert f" printed.{kubectl.namespace}.svc.cluster.local\n" in printed


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
