"""Static pods of a node: run from its folder, shown in the API, there again after whatever happens to the mirror."""

import json
import time
from collections.abc import Callable
from typing import Any

from harness import Kubectl
from workloads import pod

from nodeagent.lab import cluster, machine

FOLDER = "/etc/nodeagent/manifests"
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def until(true: Callable[[], object], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def test_a_static_pod_runs_and_its_mirror_follows_it(kubectl: Kubectl, one_node: cluster.Running) -> None:
    node = one_node.first("node-1")

    def write(script: str) -> None:
        made = pod("fixed", script)
        made["metadata"]["namespace"] = kubectl.namespace
        move = f"mkdir -p {FOLDER} && cat > {FOLDER}/.new && mv {FOLDER}/.new {FOLDER}/fixed.yaml"
        machine.run(node, ["sh", "-c", move], stdin=json.dumps(made).encode())

    def told() -> dict[str, Any]:
        answer = kubectl(["get", "pod", "fixed-node-1", "-o", "json"])
        return dict(json.loads(answer.out)) if answer.code == 0 else {"metadata": {}, "status": {}}

    write("echo one; " + SLEEP)
    try:
        until(
            lambda: any(c["type"] == "Ready" and c["status"] == "True" for c in told()["status"].get("conditions", []))
        )
        first = told()
        container = first["status"]["containerStatuses"][0]["containerID"]
        assert first["metadata"]["ownerReferences"][0]["name"] == "node-1"
        assert kubectl.ok("logs", "fixed-node-1") == "one\n"
        kubectl.ok("delete", "pod", "fixed-node-1", "--wait=false")
        until(lambda: told()["metadata"].get("uid") not in (None, first["metadata"]["uid"]))
        until(lambda: told()["status"].get("containerStatuses"))
        assert told()["status"]["containerStatuses"][0]["containerID"] == container
        write("echo two; " + SLEEP)
        until(lambda: kubectl(["logs", "fixed-node-1"]).out == "two\n")
    finally:
        machine.run(node, ["rm", "-f", f"{FOLDER}/fixed.yaml"])
    until(lambda: told()["metadata"] == {})
    gone = json.dumps(container.removeprefix("containerd://"))
    until(lambda: gone not in machine.run(node, ["ctr", "-n", "k8s.io", "containers", "list", "-q"]).decode())
