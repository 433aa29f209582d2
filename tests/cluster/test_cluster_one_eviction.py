"""A node that runs short of memory sends pods away, says so, and takes none for a while."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import Kubectl
from workloads import create, pod

from nodeagent.lab import cluster, machine
from nodeagent.lab.testing.handle import Keeper

FILE = "/etc/nodeagent/zz-pressure.yaml"
CONFIG = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: {{memory.available: "{value}"}}
evictionPressureTransitionPeriod: 1s
"""
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def until(true: Callable[[], object], *, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


@pytest.fixture
def hold(one_node: cluster.Running, labs: Keeper) -> Iterator[Callable[[str], None]]:
    """Restarts the agent with another memory threshold; the old one comes back in the end."""
    first = one_node.first("node-1")

    def restart() -> None:
        pid = machine.service_pid(first, "agent")
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        until(lambda: machine.service_pid(first, "agent") not in (None, pid))
        labs.of(1)

    def apply(value: str) -> None:
        text = CONFIG.format(value=value)
        machine.run(first, ["sh", "-c", f"cat > {FILE}"], stdin=text.encode())
        restart()

    yield apply
    machine.run(first, ["rm", "-f", FILE])
    restart()


def test_the_pod_that_uses_more_than_it_asked_for_goes_first(kubectl: Kubectl, hold: Callable[[str], None]) -> None:
    modest = pod("modest", SLEEP)
    modest["spec"]["containers"][0]["resources"] = {"requests": {"memory": "64Mi"}}
    create(kubectl, modest, pod("greedy", f"head -c 30000000 /dev/zero > /dev/shm/full; {SLEEP}"))
    hold("99%")

    def status(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kubectl.ok("get", "pod", name, "-o", "json"))["status"]
        return found

    until(lambda: status("greedy").get("reason") == "Evicted")
    told = status("greedy")
    assert told["phase"] == "Failed" and "The node was low on resource: memory." in told["message"]
    condition = next(c for c in told["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    node = ("get", "node", "node-1", "-o", "json")

    def pressed() -> str:
        found = json.loads(kubectl.ok(*node))["status"]["conditions"]
        return str(next(c["status"] for c in found if c["type"] == "MemoryPressure"))

    until(lambda: pressed() == "True")
    taints = "{.spec.taints[*].key}"
    until(lambda: "memory-pressure" in kubectl.ok("get", "node", "node-1", "-o", f"jsonpath={taints}"))
    events = kubectl.ok("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert "Evicted" in events.split()
    hold("1Mi")
    until(lambda: pressed() == "False")
    until(lambda: "memory-pressure" not in kubectl.ok("get", "node", "node-1", "-o", f"jsonpath={taints}"))
