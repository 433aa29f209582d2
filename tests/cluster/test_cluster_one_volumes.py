"""What a container finds in its file system and its environment, and what follows when that changes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Kubectl
from workloads import IMAGE, create, pod, sh

from nodeagent.lab import cluster, machine

SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
SOURCES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: plain, text: "line one\\nline two\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {password: hidden}
"""


def with_volumes(name: str, volumes: dict[str, Any], mounts: dict[str, Any], **container: Any) -> dict[str, Any]:
    made = pod(name, SLEEP)
    made["spec"]["volumes"] = [{"name": volume, **source} for volume, source in volumes.items()]
    made["spec"]["containers"][0] |= {
        "volumeMounts": [{"name": path.split("/")[1], "mountPath": path, **more} for path, more in mounts.items()],
        **container,
    }
    return made


def eventually(check: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def test_configuration_and_secrets_are_files_and_variables(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=SOURCES)
    item = {"key": "text", "path": "deep/text", "mode": 0o400}
    made = with_volumes(
        "reader",
        {
            "settings": {"configMap": {"name": "settings", "items": [item]}},
            "key": {"secret": {"secretName": "key"}},
            "about": {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        },
        {"/settings": {}, "/key": {}, "/about": {}, "/memory": {}},
        env=[
            {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "password"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "BOTH", "value": "$(MODE)-$(NODE)-$(NOTHING)-$$(MODE)"},
        ],
    )
    made["metadata"]["labels"] = {"app": "reader"}
    create(kubectl, made)
    assert sh(kubectl, "reader", "cat /settings/deep/text") == "line one\nline two"
    assert sh(kubectl, "reader", "stat -L -c %a /settings/deep/text") == "400"
    assert sh(kubectl, "reader", "cat /key/password /about/labels") == 'hiddenapp="reader"'
    assert sh(kubectl, "reader", "grep -c ' /key tmpfs' /proc/mounts; grep -c ' /memory tmpfs' /proc/mounts") == "1\n1"
    assert sh(kubectl, "reader", "touch /key/new 2>&1 || echo refused").endswith("refused")
    assert sh(kubectl, "reader", "echo $PASSWORD $BOTH") == "hidden plain-node-1-$(NOTHING)-$(MODE)"


def test_a_change_reaches_the_files_of_a_running_container_but_not_a_sub_path(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=SOURCES)
    volumes = {"all": {"configMap": {"name": "settings"}}, "one": {"configMap": {"name": "settings"}}}
    create(kubectl, with_volumes("watcher", volumes, {"/all": {}, "/one": {"subPath": "mode"}}))
    kubectl.ok("patch", "configmap", "settings", "-p", '{"data":{"mode":"changed"}}')
    eventually(lambda: sh(kubectl, "watcher", "cat /all/mode") == "changed")
    assert sh(kubectl, "watcher", "cat /one") == "plain"


def test_a_pod_waits_for_its_configuration_and_starts_when_it_comes(kubectl: Kubectl) -> None:
    made = with_volumes("waiting", {"late": {"configMap": {"name": "late"}}}, {"/late": {}})
    kubectl.ok("create", "-f", "-", stdin=json.dumps(made))
    events = ("get", "events", "--field-selector", "reason=FailedMount", "-o", "jsonpath={.items[*].message}")
    told = 'MountVolume.SetUp failed for volume "late" : configmap "late" not found'
    eventually(lambda: told in kubectl.ok(*events))
    assert kubectl.ok("get", "pod", "waiting", "-o", "jsonpath={.status.phase}") == "Pending"
    kubectl.ok("create", "configmap", "late", "--from-literal=a=b")
    kubectl.ok("wait", "--for=condition=Ready", "pod/waiting", "--timeout=60s")
    assert sh(kubectl, "waiting", "cat /late/a") == "b"


def test_a_missing_key_keeps_the_container_from_being_made_and_says_so(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=SOURCES)
    made = pod("keyless", SLEEP)
    reference = {"configMapKeyRef": {"name": "settings", "key": "none"}}
    made["spec"]["containers"][0]["env"] = [{"name": "A", "valueFrom": reference}]
    kubectl.ok("create", "-f", "-", stdin=json.dumps(made))
    state = ("get", "pod", "keyless", "-o", "jsonpath={.status.containerStatuses[0].state.waiting}")
    eventually(lambda: "CreateContainerConfigError" in kubectl.ok(*state))
    message = json.loads(kubectl.ok(*state))["message"]
    assert message == f"couldn't find key none in ConfigMap {kubectl.namespace}/settings"


def test_what_one_container_writes_another_reads_and_both_outlive_a_restart(kubectl: Kubectl) -> None:
    volumes = {"shared": {"emptyDir": {}}}
    made = with_volumes("pair", volumes, {"/shared": {}})
    script = "[ -e /shared/second ] && echo again >> /shared/second || { echo once > /shared/second; sleep 1; exit 1; }"
    second = made["spec"]["containers"][0] | {"name": "second", "command": ["sh", "-c", f"{script}; {SLEEP}"]}
    made["spec"]["containers"].append(second)
    kubectl.ok("create", "-f", "-", stdin=json.dumps(made))
    kubectl.ok("wait", "--for=condition=Ready", "pod/pair", "--timeout=60s")
    read = ("exec", "pair", "-c", "main", "--", "cat", "/shared/second")
    eventually(lambda: kubectl(read).out == "once\nagain\n", seconds=30)


def test_a_container_without_life_is_restarted_and_one_that_is_not_ready_gets_no_traffic(kubectl: Kubectl) -> None:
    made = pod("probed", f"touch /tmp/alive /tmp/ready; {SLEEP}")
    often = {"periodSeconds": 1, "failureThreshold": 1}
    made["spec"]["containers"][0] |= {
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, **often},
        "livenessProbe": {"exec": {"command": ["cat", "/tmp/alive"]}, **often},
    }
    create(kubectl, made)
    sh(kubectl, "probed", "rm /tmp/ready")
    kubectl.ok("wait", "--for=condition=Ready=false", "pod/probed", "--timeout=10s")
    sh(kubectl, "probed", "touch /tmp/ready")
    kubectl.ok("wait", "--for=condition=Ready", "pod/probed", "--timeout=10s")
    sh(kubectl, "probed", "rm /tmp/alive")
    restarts = ("get", "pod", "probed", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
    eventually(lambda: kubectl.ok(*restarts) == "1", seconds=20)
    kubectl.ok("wait", "--for=condition=Ready", "pod/probed", "--timeout=20s")
    events = kubectl.ok("get", "events", "-o", "jsonpath={.items[*].message}")
    assert "Liveness probe failed: cat: can't open '/tmp/alive'" in events
    assert "Container main failed liveness probe, will be restarted" in events


def test_nothing_of_a_deleted_pods_volumes_stays_on_the_node(kubectl: Kubectl, one_node: cluster.Running) -> None:
    kubectl.ok("create", "-f", "-", stdin=SOURCES)
    volumes = {"key": {"secret": {"secretName": "key"}}, "work": {"emptyDir": {}}}
    create(kubectl, with_volumes("brief", volumes, {"/key": {}, "/work": {"subPath": "inner"}}))
    uid = kubectl.ok("get", "pod", "brief", "-o", "jsonpath={.metadata.uid}")
    node = next(process for process in one_node.record.processes if process.name == "node-1")
    mounts = Path("/proc/self/mountinfo")
    assert uid in machine.run(node, ["cat", str(mounts)]).decode()
    kubectl.ok("delete", "pod", "brief", "--grace-period=1")
    eventually(lambda: uid not in machine.run(node, ["cat", str(mounts)]).decode())
    eventually(lambda: uid not in machine.run(node, ["ls", "/var/lib/kubelet/pods"]).decode())


def test_an_image_is_a_folder_of_a_container_and_leaves_nothing(kubectl: Kubectl, one_node: cluster.Running) -> None:
    source = {"image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}
    create(kubectl, with_volumes("art", {"art": source, "part": source}, {"/art": {}, "/part": {"subPath": "bin"}}))
    assert sh(kubectl, "art", "ls /art/bin/busybox /part/busybox") == "/art/bin/busybox\n/part/busybox"
    assert sh(kubectl, "art", "touch /art/new 2>&1 || echo refused").endswith("refused")
    kubectl.ok("delete", "pod", "art")
    first = one_node.first("node-1")
    kept = machine.run(first, ["ctr", "--namespace", "k8s.io", "snapshots", "ls"], seconds=30).decode()
    assert "kubernetes.io~image" not in kept
