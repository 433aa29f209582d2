"""kill -9 of each part in turn: running containers stay, the cluster heals, no acknowledged write is lost."""

import json
import os
import signal
import time
from collections.abc import Callable

import pytest
from harness import Kubectl
from workloads import HTTP, address, create, fetch, pod, service

from nodeagent.lab import cluster, machine
from nodeagent.lab.testing.handle import Keeper

PARTS = [("node-1", "agent"), ("node-1", "dns"), ("server", "server"), ("node-1", "containerd")]
BACK_SECONDS = 15.0


def identities(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """Pod name -> container id and restart count."""
    pods = json.loads(kubectl.ok("get", "pods", "-o", "json"))["items"]
    states = [(each["metadata"]["name"], each["status"]["containerStatuses"][0]) for each in pods]
    return {name: (state["containerID"], state["restartCount"]) for name, state in states}


def kill(running: cluster.Running, name: str, part: str) -> int:
    pid = machine.service_pid(running.first(name), part)
    assert pid is not None, f"{part} of {name} is not running"
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_other(running: cluster.Running, name: str, part: str, pid: int) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while machine.service_pid(running.first(name), part) in (None, pid):
        assert time.monotonic() < deadline, f"{part} of {name} did not come back"
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_killed_part_comes_back_and_no_container_is_touched(
    name: str, part: str, one_node: cluster.Running, labs: Keeper, kubectl: Kubectl
) -> None:
    ports = {"port": 80, "targetPort": 8080}
    create(kubectl, pod("server", HTTP, app="web"), service("web", ports), pod("client", "sleep 3600"))
    assert fetch(kubectl, "client", "web") == "server"
    before = identities(kubectl)
    wait_for_other(one_node, name, part, kill(one_node, name, part))
    labs.of(1)
    create(kubectl, pod("later", "sleep 3600"))
    assert fetch(kubectl, "later", "web") == "server"
    assert fetch(kubectl, "client", address(kubectl, "web")) == "server"
    after = identities(kubectl)
    assert {each: after[each] for each in before} == before


def test_no_write_that_was_acknowledged_is_lost_when_the_server_is_killed(
    one_node: cluster.Running, labs: Keeper, kubectl: Kubectl
) -> None:
    acknowledged = []
    for number in range(30):
        answer = kubectl(["create", "configmap", f"kept-{number}", f"--from-literal=n={number}"])
        if answer.code == 0:
            acknowledged.append(f"configmap/kept-{number}")
        if number in (5, 15, 25):
            kill(one_node, "server", "server")
    labs.of(1)
    assert len(acknowledged) >= 20
    assert set(acknowledged) <= set(kubectl.ok("get", "configmaps", "-o", "name").split())


def test_connections_go_on_while_the_control_plane_is_away(
    one_node: cluster.Running, labs: Keeper, kubectl: Kubectl
) -> None:
    create(kubectl, pod("server", HTTP, app="web"), service("web", {"port": 80, "targetPort": 8080}))
    create(kubectl, pod("client", "sleep 3600"))
    assert fetch(kubectl, "client", "web") == "server"
    script = "for i in $(seq 40); do timeout 2 wget -q -O - http://web >/dev/null && echo y || echo n; sleep 0.1; done"
    pid = machine.service_pid(one_node.first("server"), "server")
    assert pid is not None
    kubectl.ok("exec", "client", "--", "sh", "-c", f"({script}) > /tmp/replies 2>&1 &")
    os.kill(pid, signal.SIGKILL)
    wait_for_other(one_node, "server", "server", pid)
    labs.of(1)
    time.sleep(5)
    replies = kubectl.ok("exec", "client", "--", "cat", "/tmp/replies").split()
    assert replies.count("n") == 0
    assert replies.count("y") >= 20


def test_a_rebooted_node_starts_its_pods_again(kubectl: Kubectl, one_node: cluster.Running, labs: Keeper) -> None:
    create(kubectl, pod("server", HTTP, app="web"))
    agent = kill(one_node, "node-1", "agent")
    containerd = kill(one_node, "node-1", "containerd")
    wait_for_other(one_node, "node-1", "agent", agent)
    wait_for_other(one_node, "node-1", "containerd", containerd)
    labs.of(1)
    kubectl.ok("wait", "--for=condition=Ready", "pod/server", "--timeout=60s")
    assert identities(kubectl)["server"][1] == 0


def quiet(check: Callable[[], bool], *, seconds: float) -> bool:
    """Whether something holds within this time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_pods_deleted_while_the_agent_is_away_are_gone_when_it_is_back(
    one_node: cluster.Running, labs: Keeper, kubectl: Kubectl
) -> None:
    create(kubectl, pod("doomed", "sleep 3600"))
    kubectl.ok("delete", "pod", "doomed", "--wait=false", "--grace-period=1")
    kill(one_node, "node-1", "agent")
    labs.of(1)
    assert quiet(lambda: kubectl(["get", "pod", "doomed"]).code == 1, seconds=30)
