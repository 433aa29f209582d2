"""A running pod that is given a debugging container, or other resources; and the node's own API behind the server's."""

import json
import time
from typing import Any

from harness import Kubectl
from workloads import IMAGE, create, pod

from nodeagent.lab import cluster, machine

SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
PERIOD = 100_000


def status_of(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl.ok("get", "pod", name, "-o", "json"))["status"]
    return found


def amounts(cpu: str, memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def until(true: Any, *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


def test_ephemeral_containers_are_started_in_an_existing_pod_and_more_may_follow(kubectl: Kubectl) -> None:
    """[sig-node] Ephemeral Containers [NodeConformance] will start an ephemeral container in an existing pod
    [Conformance]; should update the ephemeral containers in an existing pod [Conformance]"""
    create(kubectl, pod("web", "echo main > /tmp/who; " + SLEEP))
    words = ("debug", "web", "--image", IMAGE, "--target", "main", "-c", "first", "--profile", "general", "-q")
    kubectl.ok(*words, "--", "sh", "-c", "cat /proc/1/root/tmp/who; ps | head -3; sleep 600")
    until(lambda: "main" in kubectl(["logs", "web", "-c", "first"]).out)
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/web/ephemeralcontainers"
    whole = json.loads(kubectl.ok("get", "--raw", path))
    second = {"name": "second", "image": IMAGE, "command": ["sh", "-c", "echo polo; exit 3"]}
    whole["spec"]["ephemeralContainers"].append(second)
    kubectl.ok("replace", "--raw", path, "-f", "-", stdin=json.dumps(whole))
    until(lambda: kubectl(["logs", "web", "-c", "second"]).out == "polo\n")
    until(lambda: len(status_of(kubectl, "web")["ephemeralContainerStatuses"]) == 2)
    first, ended = status_of(kubectl, "web")["ephemeralContainerStatuses"]
    assert "running" in first["state"]
    until(lambda: "terminated" in status_of(kubectl, "web")["ephemeralContainerStatuses"][1]["state"])
    assert status_of(kubectl, "web")["containerStatuses"][0]["restartCount"] == 0
    assert kubectl.ok("exec", "web", "-c", "first", "--", "echo", "in").strip() == "in"
    assert ended["name"] == "second"


def test_a_running_pod_is_resized_and_the_kernel_holds_it_to_it(kubectl: Kubectl, one_node: cluster.Running) -> None:
    """[sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34]
    [Conformance]; guaranteed pods with multiple containers 3 containers [Conformance]"""
    made = pod("sized", SLEEP)
    first = made["spec"]["containers"][0]
    first["resources"] = amounts("100m", "64Mi")
    restarted = {
        **first,
        "name": "restarted",
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
    }
    made["spec"]["containers"].append(restarted)
    create(kubectl, made)
    wanted = {"main": amounts("150m", "96Mi"), "restarted": amounts("50m", "32Mi")}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/sized/resize"
    whole = json.loads(kubectl.ok("get", "pod", "sized", "-o", "json"))
    for container in whole["spec"]["containers"]:
        container["resources"] = wanted[container["name"]]
    kubectl.ok("replace", "--raw", path, "-f", "-", stdin=json.dumps(whole))

    def in_force() -> bool:
        status = status_of(kubectl, "sized")
        told = {c["name"]: c.get("resources") for c in status["containerStatuses"]}
        over = not any(c["type"].startswith("PodResize") for c in status["conditions"])
        return told == wanted and over and all(c["ready"] for c in status["containerStatuses"])

    until(in_force, seconds=40)
    status = status_of(kubectl, "sized")
    assert {c["name"]: c["restartCount"] for c in status["containerStatuses"]} == {"main": 0, "restarted": 1}
    assert {c["name"]: c["allocatedResources"]["cpu"] for c in status["containerStatuses"]} == {
        "main": "150m",
        "restarted": "50m",
    }
    node = next(process for process in one_node.record.processes if process.name == "node-1")
    uid = kubectl.ok("get", "pod", "sized", "-o", "jsonpath={.metadata.uid}")
    held = {}
    for container in status["containerStatuses"]:
        id_ = container["containerID"].removeprefix("containerd://")
        found = machine.run(node, ["sh", "-c", LIMITS.format(uid=uid, leaf="/" + id_)]).decode().split()
        held[container["name"]] = [int(word) for word in found]
    assert held == {"main": [15_000, 96 << 20], "restarted": [5_000, 32 << 20]}
    total = [int(word) for word in machine.run(node, ["sh", "-c", LIMITS.format(uid=uid, leaf="")]).decode().split()]
    assert total == [20_000, 128 << 20]
    events = kubectl.ok("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert {"ResizeStarted", "ResizeCompleted"} <= set(events.split())


LIMITS = (
    "cat $(find /sys/fs/cgroup/cpu -path '*pod{uid}{leaf}/cpu.cfs_quota_us') "
    "$(find /sys/fs/cgroup/memory -path '*pod{uid}{leaf}/memory.limit_in_bytes')"
)


def test_what_the_node_cannot_give_is_put_in_a_condition(kubectl: Kubectl) -> None:
    made = pod("greedy", SLEEP)
    made["spec"]["containers"][0]["resources"] = amounts("100m", "64Mi")
    create(kubectl, made)
    resources = {"containers": [{"name": "main", "resources": amounts("900", "64Mi")}]}
    kubectl.ok("patch", "pod", "greedy", "--subresource", "resize", "-p", json.dumps({"spec": resources}))
    kubectl.ok("wait", "--for=condition=PodResizePending", "pod/greedy", "--timeout=20s")
    pending = next(c for c in status_of(kubectl, "greedy")["conditions"] if c["type"] == "PodResizePending")
    assert pending["reason"] == "Infeasible"
    assert pending["message"].startswith("Node didn't have enough capacity: cpu, requested: 900000, capacity:")
    resources = {"containers": [{"name": "main", "resources": amounts("100m", "64Mi")}]}
    kubectl.ok("patch", "pod", "greedy", "--subresource", "resize", "-p", json.dumps({"spec": resources}))
    until(lambda: all(c["type"] != "PodResizePending" for c in status_of(kubectl, "greedy")["conditions"]))


def test_the_nodes_own_api_is_read_through_the_api_server(kubectl: Kubectl) -> None:
    create(kubectl, pod("seen", SLEEP))
    found = json.loads(kubectl.ok("get", "--raw", "/api/v1/nodes/node-1/proxy/pods"))
    assert "seen" in {item["metadata"]["name"] for item in found["items"]}
    assert kubectl.ok("get", "--raw", "/api/v1/nodes/node-1/proxy/healthz") == "ok"
