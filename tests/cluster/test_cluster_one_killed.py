"""kill -9 of the agent while pods start and while they end, each in another stage of it; the next agent goes on.

The unit tests die at every effect of a pod's life over fakes; here the runtime and the kernel are real.
"""

import json
import os
import signal
import time

import pytest
from harness import Kubectl
from workloads import pod

from nodeagent.lab import cluster, machine
from nodeagent.lab.testing.handle import Keeper

STAGES, APART = 4, 0.12
"""So many pods are begun, each so many seconds after the one before it: a start takes about as long as all of them."""


def kill_agent(running: cluster.Running) -> None:
    pid = machine.service_pid(running.first("node-1"), "agent")
    assert pid is not None, "the agent is not running"
    os.kill(pid, signal.SIGKILL)


def containers(running: cluster.Running) -> list[str]:
    """Every container the runtime has, sandboxes included, by the names of the pods they belong to."""
    words = ["ctr", "--namespace", "k8s.io", "containers", "ls"]
    listed = machine.run(running.first("node-1"), [*words, "-q"], seconds=30).decode().split()
    found = []
    for each in listed:
        info = json.loads(machine.run(running.first("node-1"), [*words[:-1], "info", each], seconds=30))
        found.append(info.get("Labels", {}).get("io.kubernetes.pod.name", ""))
    return found


@pytest.mark.parametrize("late", [0.0, 0.05])
def test_an_agent_killed_amid_starts_and_ends_is_gone_on_from(
    late: float, one_node: cluster.Running, labs: Keeper, kubectl: Kubectl
) -> None:
    names = [f"stage-{number}-{int(late * 100)}" for number in range(STAGES)]
    for name in names:
        kubectl.ok("create", "-f", "-", stdin=json.dumps(pod(name, "trap 'exit 0' TERM; while :; do sleep 0.1; done")))
        time.sleep(APART)
    time.sleep(late)
    kill_agent(one_node)
    kubectl.ok("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=60s")
    expected = {}
    for item in json.loads(kubectl.ok("get", "pods", "-o", "json"))["items"]:
        [status] = item["status"]["containerStatuses"]
        # The runtime gives a start up whose caller vanished: that container never ran, and is made once more.
        if restarts := status["restartCount"]:
            assert (restarts, status["lastState"]["terminated"]["reason"]) == (1, "StartError"), item["metadata"]
        expected[item["metadata"]["name"]] = 2 + restarts
    present = containers(one_node)
    assert {name: present.count(name) for name in names} == expected, "one sandbox, and no container twice"
    for name in names:
        kubectl.ok("delete", "pod", name, "--wait=false")
        time.sleep(APART / 2)
    kill_agent(one_node)
    kubectl.ok("wait", "--for=delete", *(f"pod/{name}" for name in names), "--timeout=60s")
    labs.of(1)
    deadline = time.monotonic() + 15
    while left := set(names) & set(containers(one_node)):
        assert time.monotonic() < deadline, f"left in the runtime: {left}"
        time.sleep(0.5)
