"""Claims on a real node: volumes made on request where the pod runs, volumes that were there, and their ends."""

import json
import time
from collections.abc import Callable

from harness import Kubectl
from workloads import create, pod, sh

CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "on-the-node"},
    "provisioner": "nodeagent.local/host-path",
    "volumeBindingMode": "WaitForFirstConsumer",
}
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def claim(name: str, **spec: object) -> dict[str, object]:
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": body}


def using(name: str, claim_name: str) -> dict[str, object]:
    made = pod(name, SLEEP)
    made["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}]
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return made


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


def test_a_claim_gets_a_folder_where_its_pod_runs_and_keeps_it_for_the_next(kubectl: Kubectl) -> None:
    create(kubectl, CLASS, claim("kept", storageClassName="on-the-node"))
    try:
        assert kubectl.ok("get", "pvc", "kept", "-o", "jsonpath={.status.phase}") == "Pending"
        create(kubectl, using("first", "kept"))
        sh(kubectl, "first", "echo survived > /data/f")
        kubectl.ok("delete", "pod", "first")
        create(kubectl, using("second", "kept"))
        assert sh(kubectl, "second", "cat /data/f") == "survived"
        volume = kubectl.ok("get", "pvc", "kept", "-o", "jsonpath={.spec.volumeName}")
        terms = json.loads(kubectl.ok("get", "pv", volume, "-o", "json"))["spec"]["nodeAffinity"]["required"]
        assert terms["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["node-1"]
        kubectl.ok("delete", "pvc", "kept", "--wait=false")
        time.sleep(0.5)
        assert kubectl.ok("get", "pvc", "kept", "-o", "jsonpath={.metadata.deletionTimestamp}"), "in use: it stays"
        kubectl.ok("delete", "pod", "second")
        eventually(lambda: kubectl(["get", "pvc", "kept"]).code == 1 and kubectl(["get", "pv", volume]).code == 1)
    finally:
        kubectl.ok("delete", "storageclass", "on-the-node")


def test_a_local_volume_that_is_there_is_bound_and_released(kubectl: Kubectl) -> None:
    rule = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"local-{kubectl.namespace}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "storageClassName": "by-hand",
            "local": {"path": "/var/tmp"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}},
        },
    }
    create(kubectl, volume, claim("disk", storageClassName="by-hand"), using("user", "disk"))
    try:
        assert sh(kubectl, "user", "touch /data/x && echo done") == "done"
        sh(kubectl, "user", "rm /data/x")
        kubectl.ok("delete", "pod", "user")
        kubectl.ok("delete", "pvc", "disk")
        name = f"local-{kubectl.namespace}"
        eventually(lambda: kubectl.ok("get", "pv", name, "-o", "jsonpath={.status.phase}") == "Released")
    finally:
        kubectl.ok("delete", "pv", f"local-{kubectl.namespace}")


def test_an_ephemeral_volume_lives_as_long_as_its_pod(kubectl: Kubectl) -> None:
    create(kubectl, CLASS)
    try:
        made = using("scratch", "")
        template = {"spec": claim("x", storageClassName="on-the-node")["spec"]}
        made["spec"]["volumes"] = [{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]  # type: ignore[index]
        create(kubectl, made)
        assert kubectl.ok("get", "pvc", "scratch-data", "-o", "jsonpath={.status.phase}") == "Bound"
        kubectl.ok("delete", "pod", "scratch")
        eventually(lambda: kubectl(["get", "pvc", "scratch-data"]).code == 1)
    finally:
        kubectl.ok("delete", "storageclass", "on-the-node")
