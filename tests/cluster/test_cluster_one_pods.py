"""Lives of pods on a real node: what kubectl shows of crashes, init containers, probes, hooks and bad images."""

import json
import time
from typing import Any

import pytest
from harness import Kubectl

IMAGE = "nodeagent.local/busybox:1"


def make(kubectl: Kubectl, name: str, *containers: dict[str, Any], **spec: Any) -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    }
    kubectl.ok("apply", "-f", "-", stdin=json.dumps(obj))


def box(command: str, name: str = "main", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", command], **fields}


def shown(kubectl: Kubectl, name: str) -> tuple[str, str]:
    """(READY, STATUS) as `kubectl get pods` prints them."""
    words = kubectl.ok("get", "pod", name, "--no-headers").split()
    return words[1], words[2]


def becomes(kubectl: Kubectl, name: str, *expected: tuple[str, str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while (found := shown(kubectl, name)) not in expected:
        assert time.monotonic() < deadline, f"{name} is {found}, not {expected}"
        time.sleep(0.2)


def state(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl.ok("get", "pod", name, "-o", "json"))["status"]["containerStatuses"][0]
    return found


def reasons(kubectl: Kubectl, name: str) -> set[str]:
    found = kubectl.ok(
        "get", "events", f"--field-selector=involvedObject.name={name}", "-o", "jsonpath={.items[*].reason}"
    )
    return set(found.split())


def test_a_crashing_container_backs_off_and_shows_how_it_ended(kubectl: Kubectl) -> None:
    make(kubectl, "crash", box("echo boom; echo why > /dev/termination-log; exit 3"))
    becomes(kubectl, "crash", ("0/1", "CrashLoopBackOff"))
    ended = state(kubectl, "crash")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "why\n")
    assert kubectl.ok("logs", "crash", "--previous") == "boom\n"
    assert "BackOff" in reasons(kubectl, "crash")


@pytest.mark.parametrize(
    ("name", "container", "status", "event"),
    [
        ("noimage", {"name": "main", "image": "nodeagent.local/absent:1"}, "ImagePullBackOff", "Failed"),
        ("badname", {"name": "main", "image": "Not/A:Name:"}, "InvalidImageName", "InspectFailed"),
        ("nocommand", {"name": "main", "image": IMAGE, "command": ["/nonesuch"]}, "RunContainerError", "Failed"),
        (
            "nokey",
            box("env", env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "a"}}}]),
            "CreateContainerConfigError",
            "Failed",
        ),
        ("root", box("id", securityContext={"runAsNonRoot": True}), "CreateContainerConfigError", "Failed"),
    ],
)
def test_what_cannot_start_says_why(
    kubectl: Kubectl, name: str, container: dict[str, Any], status: str, event: str
) -> None:
    make(kubectl, name, container)
    becomes(kubectl, name, ("0/1", status))
    assert event in reasons(kubectl, name)
    kubectl.ok("delete", "pod", name)


def test_init_containers_run_in_order_beside_a_sidecar_that_stays(kubectl: Kubectl) -> None:
    log = "cut -d' ' -f1 /proc/uptime"
    sidecar = box("trap 'exit 0' TERM; while :; do sleep 0.1; done", "side", restartPolicy="Always")
    inits = [box(log, "one"), sidecar, box(log, "two")]
    make(kubectl, "ordered", box(f"{log}; sleep 3600"), initContainers=inits)
    becomes(kubectl, "ordered", ("2/2", "Running"))
    times = [float(kubectl.ok("logs", "ordered", "-c", name)) for name in ("one", "two", "main")]
    assert times == sorted(times)
    kubectl.ok("delete", "pod", "ordered")


def test_a_failed_init_container_fails_a_pod_that_never_restarts(kubectl: Kubectl) -> None:
    make(kubectl, "unready", box("true"), initContainers=[box("exit 1", "one")], restartPolicy="Never")
    becomes(kubectl, "unready", ("0/1", "Init:Error"))


def test_a_pod_that_has_done_its_work_is_completed_and_keeps_its_log(kubectl: Kubectl) -> None:
    make(kubectl, "work", box("echo done"), restartPolicy="Never")
    becomes(kubectl, "work", ("0/1", "Completed"))
    assert kubectl.ok("logs", "work") == "done\n"


def test_a_failed_liveness_probe_restarts_only_the_container(kubectl: Kubectl) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
    make(kubectl, "live", box("touch /tmp/ok; sleep 2; [ -e /keep/again ] || rm /tmp/ok; touch /keep/again; sleep 3600",
                              livenessProbe=probe, volumeMounts=[{"name": "keep", "mountPath": "/keep"}]),
         volumes=[{"name": "keep", "emptyDir": {}}])  # fmt: skip
    deadline = time.monotonic() + 60
    while state(kubectl, "live")["restartCount"] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    becomes(kubectl, "live", ("1/1", "Running"))
    assert {"Unhealthy", "Killing"} <= reasons(kubectl, "live")


def test_hooks_run_after_the_start_and_before_the_stop(kubectl: Kubectl) -> None:
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo started > /keep/start"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /proc/1/fd/1"]}},
    }
    mount = {"volumeMounts": [{"name": "keep", "mountPath": "/keep"}]}
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    make(kubectl, "hooks", box(script, lifecycle=hooks, **mount), box("sleep 3600", "other", **mount),
         volumes=[{"name": "keep", "emptyDir": {}}], terminationGracePeriodSeconds=5)  # fmt: skip
    becomes(kubectl, "hooks", ("2/2", "Running"))
    assert kubectl.ok("exec", "hooks", "-c", "other", "--", "cat", "/keep/start") == "started\n"
    kubectl.ok("delete", "pod", "hooks")


def test_a_container_over_its_memory_limit_is_told_as_killed_for_it(kubectl: Kubectl) -> None:
    limited = box("tail /dev/zero", resources={"limits": {"memory": "20Mi"}})
    make(kubectl, "hungry", limited, restartPolicy="Never")
    becomes(kubectl, "hungry", ("0/1", "OOMKilled"))


def test_a_pod_over_its_deadline_fails_with_the_reason(kubectl: Kubectl) -> None:
    make(kubectl, "late", box("sleep 3600"), activeDeadlineSeconds=2)
    deadline = time.monotonic() + 60
    while kubectl.ok("get", "pod", "late", "-o", "jsonpath={.status.reason}") != "DeadlineExceeded":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert kubectl.ok("get", "pod", "late", "-o", "jsonpath={.status.phase}") == "Failed"


def test_users_groups_limits_and_settings_reach_the_process(kubectl: Kubectl) -> None:
    script = "id -u; id -g; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /x 2>/dev/null || echo read-only"
    make(
        kubectl,
        "user",
        box(script, securityContext={"readOnlyRootFilesystem": True}),
        restartPolicy="Never",
        securityContext={
            "runAsUser": 1000,
            "runAsGroup": 1001,
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
        },
    )
    becomes(kubectl, "user", ("0/1", "Completed"))
    assert kubectl.ok("logs", "user") == "1000\n1001\n80\nread-only\n"


def test_a_pod_runs_where_a_label_that_somebody_gave_the_node_calls_it(kubectl: Kubectl) -> None:
    """[sig-scheduling] SchedulerPredicates validates resource limits of pods that are allowed to run."""
    node = kubectl.ok("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    kubectl.ok("label", "node", node, "disk=ssd")
    try:
        make(kubectl, "picky", box("sleep 600"), nodeSelector={"disk": "ssd"})
        becomes(kubectl, "picky", ("1/1", "Running"))
    finally:
        kubectl.ok("label", "node", node, "disk-")
