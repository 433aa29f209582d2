"""Nodes that fall silent, return, are emptied and deleted; a server that is away: who notices when, and what goes on.

The times a node may be silent are shortened by drop-ins, as a user would; the README states what holds by default.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import Kubectl

from nodeagent.lab import cluster
from nodeagent.lab.testing import expect, reach
from nodeagent.lab.testing.handle import Keeper, Lab
from nodeagent.lab.testing.pods import Pod, Pods

NODES = 3
GRACE = 6.0  # seconds of silence before a node is NotReady; the README's figures are for 50
SLACK = 20.0  # what a loaded machine may take on top of what is promised
TOLERATED = 3  # seconds a pod puts up with a node that is not reachable
SERVER = "apiVersion: nodeagent/v1\nkind: ServerConfiguration\nnodeMonitorGracePeriod: 6s\n"
KUBELET = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nnodeLeaseDurationSeconds: 4\n"
DROP_IN = "/etc/nodeagent/zz-lifecycle.yaml"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def quick(labs: Keeper) -> Iterator[Lab]:
    """Three nodes whose silence is noticed within seconds; the last test of the module gives back an ordinary lab."""
    lab = labs.of(NODES)
    lab.exec("server", "sh", "-c", f"printf '{SERVER}' > {DROP_IN}".replace("\n", "\\n"))
    for node in lab.nodes:
        lab.exec(node, "sh", "-c", f"printf '{KUBELET}' > {DROP_IN}".replace("\n", "\\n"))
    lab.restart("server")
    lab.wait()
    lab.restart("agent")
    lab.wait()
    yield lab
    labs.close()


@pytest.fixture
def lab(quick: Lab) -> Iterator[Lab]:
    """That lab; whatever a test killed or cut is whole again after it."""
    yield quick
    quick.heal()
    for name in tuple(quick.running.record.killed):
        quick.start(name)
    quick.wait()


@pytest.fixture
def kubectl(lab: Lab, kubectl_for: Callable[[cluster.Running], Kubectl], namespace: str) -> Kubectl:
    """kubectl in the namespace of the test's pods."""
    made = kubectl_for(lab.running)
    return Kubectl(made.program, made.config, namespace)


def within(seconds: float, what: str, check: Callable[[], Any]) -> float:
    """Ask until it is so; how long it took."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - began


def ready(kubectl: Kubectl, node: str) -> str:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return kubectl(["get", "node", node, "-o", f"jsonpath={path}"]).out


def taints(kubectl: Kubectl, node: str) -> set[str]:
    return set(kubectl.ok("get", "node", node, "-o", "jsonpath={.spec.taints[*].key}").split())


def listed(kubectl: Kubectl, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl.ok("get", "pods", *words, "-o", "json"))["items"]
    return found


def containers(found: list[dict[str, Any]]) -> set[str]:
    return {each["containerID"] for pod in found for each in pod["status"].get("containerStatuses", ())}


def leaving(kubectl: Kubectl) -> list[dict[str, Any]]:
    return [pod for pod in listed(kubectl) if pod["metadata"].get("deletionTimestamp")]


TOLERATIONS = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED}
    for key in ("unreachable", "not-ready")
]


def deploy(kubectl: Kubectl, *, replicas: int) -> None:
    """Servers spread over the nodes, which put up with a lost node for seconds."""
    from nodeagent.lab.testing import pods

    template = pods.echo("web", labels={"app": "web"})
    template["spec"] |= {"tolerations": TOLERATIONS, "topologySpreadConstraints": [SPREAD]}
    selector = {"matchLabels": {"app": "web"}}
    spec = {"replicas": replicas, "selector": selector, "template": {k: template[k] for k in ("metadata", "spec")}}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    kubectl.ok("create", "-f", "-", stdin=json.dumps(made))
    service = pods.service_of("web", port=80, target_port=pods.PORT, selector={"app": "web"})
    kubectl.ok("create", "-f", "-", stdin=json.dumps(service))
    kubectl.ok("rollout", "status", "deployment/web", "--timeout=60s")


SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app": "web"}},
}


def all_answer(lab: Lab, client: Pod, count: int = 6) -> bool:
    """So many connections in a row are answered: no rule leads to a dead endpoint any more."""
    goal = reach.target(lab, "web:80", port=None)
    return all(reach.attempt(lab, client, goal, protocol="TCP", seconds=1.0).reached for _ in range(count))


def test_traffic_heals_when_any_node_dies_its_pods_are_replaced_and_it_comes_back(
    lab: Lab, kubectl: Kubectl, pods: Pods
) -> None:
    deploy(kubectl, replicas=3)
    client = pods.run("client", node="node-1")
    within(SLACK, "the Service to answer", lambda: all_answer(lab, client))
    assert {pod["spec"]["nodeName"] for pod in listed(kubectl, "-l", "app=web")} == set(lab.nodes)
    lab.kill("node-3")
    healed = within(GRACE + SLACK, "every connection to be answered", lambda: all_answer(lab, client))
    noticed = within(SLACK, "node-3 to be NotReady", lambda: ready(kubectl, "node-3") == "Unknown")
    within(SLACK, "the taint", lambda: "node.kubernetes.io/unreachable" in taints(kubectl, "node-3"))
    living = "--field-selector=spec.nodeName!=node-3"
    replaced = within(
        TOLERATED + SLACK,
        "three replicas elsewhere",
        lambda: [pod["status"]["phase"] for pod in listed(kubectl, "-l", "app=web", living)].count("Running") == 3,
    )
    print(f"healed after {healed:.1f} s, NotReady {noticed:.1f} s later, replaced {replaced:.1f} s later")
    lab.start("node-3")
    within(60, "node-3 to be Ready", lambda: ready(kubectl, "node-3") == "True")
    within(SLACK, "the taint to go", lambda: not taints(kubectl, "node-3"))
    # What ran there was deleted meanwhile: the kubelet that is back ends it for good.
    within(SLACK + 10, "its old pods to go", lambda: not leaving(kubectl))


def test_a_node_that_is_cut_off_keeps_its_pods_and_is_ready_again_when_it_is_not(
    lab: Lab, kubectl: Kubectl, pods: Pods, expect_reachable: expect.Reachable
) -> None:
    server, client = pods.run("stays", node="node-2"), pods.run("client", node="node-2")
    before = containers(listed(kubectl))
    lab.partition("node-2", "server")
    within(GRACE + SLACK, "node-2 to be NotReady", lambda: ready(kubectl, "node-2") == "Unknown")
    assert reach.pids(lab, server), "what runs goes on"
    expect_reachable(client, "node-2:10250")
    lab.heal()
    within(75, "node-2 to be Ready", lambda: ready(kubectl, "node-2") == "True")
    kubectl.ok("wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
    assert containers(listed(kubectl)) == before


def test_a_server_that_is_away_stops_no_pod_and_is_found_again(
    lab: Lab, kubectl: Kubectl, pods: Pods, expect_reachable: expect.Reachable
) -> None:
    web = pods.serve("web", replicas=2, nodes=["node-1", "node-3"])
    client = pods.run("client", node="node-2")
    expect_reachable(client, "web:80")
    before = containers(listed(kubectl))
    lab.kill("server")
    time.sleep(GRACE + 4)  # longer than a node may be silent
    expect_reachable(client, "web:80")
    expect_reachable(client, web, protocol="UDP")
    lab.start("server")
    lab.wait()
    after = pods.run("after", node="node-3")
    expect_reachable(after, "web:80")
    assert before <= containers(listed(kubectl))
    assert [ready(kubectl, node) for node in lab.nodes] == ["True"] * NODES


def test_a_cordoned_node_gets_no_pods_and_a_drained_one_loses_them(lab: Lab, kubectl: Kubectl) -> None:
    deploy(kubectl, replicas=3)
    try:
        assert kubectl.ok("cordon", "node-2") == "node/node-2 cordoned\n"
        kubectl.ok("scale", "deployment/web", "--replicas=5")
        kubectl.ok("rollout", "status", "deployment/web", "--timeout=60s")
        assert len(listed(kubectl, "-l", "app=web", "--field-selector=spec.nodeName=node-2")) <= 1
        told = kubectl.ok("drain", "node-2", "--ignore-daemonsets", "--force", "--timeout=60s")
        assert told.endswith("node/node-2 drained\n")
        assert listed(kubectl, "--field-selector=spec.nodeName=node-2") == []
        kubectl.ok("rollout", "status", "deployment/web", "--timeout=60s")
    finally:
        assert kubectl.ok("uncordon", "node-2") == "node/node-2 uncordoned\n"
    within(SLACK, "the taint to go", lambda: not taints(kubectl, "node-2"))


def test_a_deleted_node_takes_its_routes_addresses_and_pods_with_it(lab: Lab, kubectl: Kubectl, pods: Pods) -> None:
    gone = pods.run("gone", node="node-3")
    block = kubectl.ok("get", "node", "node-3", "-o", "jsonpath={.spec.podCIDR}")
    assert block in lab.exec("node-1", "ip", "route")
    lab.kill("node-3")
    kubectl.ok("delete", "node", "node-3")
    within(SLACK, "the routes to go", lambda: block not in lab.exec("node-1", "ip", "route"))
    dns = ("get", "endpointslices", "-n", "kube-system", "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}")
    within(SLACK, "its DNS server to go", lambda: "192.168.77.13" not in kubectl.ok(*dns).split())
    # Orphans wait 40 s, looked at each 20 s (upstream's podgc), in case the node comes back.
    within(60 + SLACK, "its pods to go", lambda: gone.name not in [p["metadata"]["name"] for p in listed(kubectl)])
    lab.start("node-3")
    within(60, "node-3 to be Ready", lambda: ready(kubectl, "node-3") == "True")
    block = kubectl.ok("get", "node", "node-3", "-o", "jsonpath={.spec.podCIDR}")
    within(SLACK, "the routes to come back", lambda: block in lab.exec("node-1", "ip", "route"))
    assert pods.run("new", node="node-3").node == "node-3"
