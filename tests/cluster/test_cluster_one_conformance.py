# ruff: noqa: E501 (the names of the specs are as long as they are)
"""The outcomes that the conformance suite's node specs check, each under the spec's own name, on pods made together.

All pods are made once, at the start; a check waits for what it is about. Specs that have tests of their own elsewhere
(ephemeral containers, resizing, volumes) are not repeated here.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conformance_pods import SOURCES, pods
from conformance_run import Run, websocket
from harness import Kubectl

from kube import quantity
from nodeagent.lab.testing.handle import Keeper


@pytest.fixture(scope="module")
def run(labs: Keeper, kubectl_program: Path) -> Iterator[Run]:
    kubectl = Kubectl(kubectl_program, labs.of(1).running.plan.kubeconfig, f"test-{secrets.token_hex(3)}")
    kubectl.ok("create", "namespace", kubectl.namespace)
    kubectl.ok("create", "-f", "-", stdin=SOURCES)
    found = Run(kubectl)
    try:
        kubectl.ok("create", "-f", "-", stdin=json.dumps(pods()[0]))
        found.ready("handler")
        address = found.pod("handler")["status"]["podIP"]
        texts = [json.dumps(each).replace("HANDLER", address) for each in pods()[1:]]
        kubectl.ok("create", "-f", "-", stdin="\n---\n".join(texts))
        yield found
    finally:
        kubectl(["delete", "pods", "--all", "--force", "--grace-period=0"])
        kubectl(["delete", "namespace", kubectl.namespace, "--wait=false"])
        kubectl(["delete", "runtimeclass", "plain", "heavy"])


Check = Callable[[Run], None]
CHECKS: dict[str, Check] = {}


def spec(name: str) -> Callable[[Check], Check]:
    """Registers a check under the spec's name, without its tags."""

    def register(check: Check) -> Check:
        assert name not in CHECKS
        CHECKS[name] = check
        return check

    return register


def says(name: str, container: str, *lines: str) -> Check:
    """A check that a container printed these lines."""

    def check(run: Run) -> None:
        printed = run.log(name, container).splitlines()
        assert [line for line in lines if line not in printed] == []

    return check


def ends(container: str, *, reason: str, code: int, message: str | None) -> Check:
    """A check of how a container of the pod `words` ended."""

    def check(run: Run) -> None:
        found = run.ended("words", container)
        assert (found["reason"], found["exitCode"], found.get("message")) == (reason, code, message)

    return check


MESSAGES = "[sig-node] Container Runtime blackbox test on terminated container should report termination message "
CHECKS |= {
    "[sig-node] ConfigMap should be consumable via environment variable": says("env", "sources", "ONE=value-1"),
    "[sig-node] ConfigMap should be consumable via the environment": says(
        "env", "sources", "data_1=value-1", "p_data_1=value-1"
    ),
    "[sig-node] Secrets should be consumable from pods in env vars": says("env", "sources", "HIDDEN=secret-1"),
    "[sig-node] Secrets should be consumable via the environment": says(
        "env", "sources", "key_1=secret-1", "s_key_1=secret-1"
    ),
    "[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars": says(
        "env", "sources", "CPU_LIMIT=2", "MEMORY_LIMIT=67108864", "CPU_REQUEST=1", "MEMORY_REQUEST=33554432"
    ),
    "[sig-node] Variable Expansion should allow composing env vars into new env vars": says(
        "env", "sources", "FOOBAR=foo-value;;bar-value"
    ),
    "[sig-node] Variable Expansion should allow substituting values in a container's command": says(
        "env", "command", "test-value"
    ),
    "[sig-node] Variable Expansion should allow substituting values in a container's args": says(
        "env", "args", "test-value"
    ),
    "[sig-node] Containers should be able to override the image's default arguments (container cmd)": says(
        "env", "arguments", "override arguments"
    ),
    "[sig-node] Containers should be able to override the image's default command (container entrypoint)": says(
        "env", "entry", "override command"
    ),
    "[sig-node] Containers should be able to override the image's default command and arguments": says(
        "env", "both", "command and arguments"
    ),
    "[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs": says(
        "env", "both", "command and arguments"
    ),
    "[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem": says(
        "env", "reader", "refused"
    ),
    "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with "
    "writable rootfs when readOnlyRootFilesystem=false": says("env", "writer", "written"),
    "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534": says(
        "env", "nobody", "65534"
    ),
    "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when "
    "false": says("env", "plain", "refused"),
    "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege "
    "escalation when false": says("env", "contained", "NoNewPrivs:\t1"),
    "[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts": says(
        "env", "hosts", "123.45.67.89\tfoo\tbar"
    ),
    "[sig-node] Sysctls should support sysctls": says("sysctls", "main", "1"),
    MESSAGES + "from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set": ends(
        "file", reason="Completed", code=0, message="OK"
    ),
    MESSAGES + "as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set": ends(
        "empty", reason="Completed", code=0, message=None
    ),
    MESSAGES + "from log output if TerminationMessagePolicy FallbackToLogsOnError is set": ends(
        "log", reason="Error", code=1, message="DONE"
    ),
    MESSAGES + "if TerminationMessagePath is set as non-root user and at a non-default path": ends(
        "custom", reason="Completed", code=0, message="DONE"
    ),
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason": (
        ends("reason", reason="Error", code=1, message=None)
    ),
}


@spec("[sig-node] Containers should use the image defaults if command and args are blank")
def _(run: Run) -> None:
    assert run.ended("env", "defaults")["reason"] == "Completed"


@spec("[sig-node] Downward API should provide default limits.cpu/memory from node allocatable")
def _(run: Run) -> None:
    found = run.variables("env", "unlimited")
    node = json.loads(run.kubectl.ok("get", "node", "node-1", "-o", "json"))["status"]["allocatable"]
    assert int(found["CPU_LIMIT"]) == quantity.parse(node["cpu"]).value()
    assert int(found["MEMORY_LIMIT"]) == quantity.parse(node["memory"]).value()


@spec("[sig-node] Downward API should provide pod name, namespace and IP address as env vars")
def _(run: Run) -> None:
    found, pod = run.variables("env", "sources"), run.phase("env", "Succeeded", "Failed")
    assert (found["POD_NAME"], found["POD_NAMESPACE"]) == ("env", run.kubectl.namespace)
    assert found["POD_IP"].startswith("10.244.") and found["POD_IP"] == pod["status"].get("podIP", found["POD_IP"])


@spec("[sig-node] Downward API should provide pod UID as env vars")
def _(run: Run) -> None:
    assert run.variables("env", "sources")["POD_UID"] == run.pod("env")["metadata"]["uid"]


@spec("[sig-node] Downward API should provide host IP as an env var")
def _(run: Run) -> None:
    assert run.variables("env", "sources")["HOST_IP"] == run.pod("env")["status"]["hostIP"]


@spec("[sig-node] Downward API should provide hostIPs as an env var")
def _(run: Run) -> None:
    ips = [each["ip"] for each in run.pod("env")["status"]["hostIPs"]]
    assert run.variables("env", "sources")["HOST_IPS"] == ",".join(ips)


@spec("[sig-node] Pods should contain environment variables for services")
def _(run: Run) -> None:
    found = run.variables("env", "sources")
    address = run.kubectl.ok("get", "service", "fooservice", "-o", "jsonpath={.spec.clusterIP}")
    assert (found["FOOSERVICE_SERVICE_HOST"], found["FOOSERVICE_SERVICE_PORT"]) == (address, "8765")
    assert found["FOOSERVICE_PORT"] == found["FOOSERVICE_PORT_8765_TCP"] == f"tcp://{address}:8765"
    assert found["FOOSERVICE_PORT_8765_TCP_PROTO"] == "tcp" and found["FOOSERVICE_PORT_8765_TCP_ADDR"] == address


@spec("[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file")
def _(run: Run) -> None:
    managed = "# Kubernetes-managed hosts file"
    assert run.log("env", "hosts").startswith(managed)
    assert managed not in run.log("env", "ownhosts")
    assert managed not in run.log("hosthosts", "main")


@spec(
    "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status"
)
def _(run: Run) -> None:
    for name, restarts, phase in (("exits-never", 0, "Failed"), ("exits-onfailure", 1, "Succeeded")):
        pod = run.phase(name, phase)
        assert pod["status"]["containerStatuses"][0]["restartCount"] == restarts
        assert not pod["status"]["containerStatuses"][0]["ready"]
    run.until(lambda: run.container("exits-always", "main").get("restartCount") == 2)
    run.ready("exits-always")
    pod = run.pod("exits-always")
    assert pod["status"]["phase"] == "Running" and "running" in pod["status"]["containerStatuses"][0]["state"]


@spec("[sig-node] InitContainer should invoke init containers on a RestartAlways pod")
def _(run: Run) -> None:
    run.ready("init-always")
    status = run.pod("init-always")["status"]
    assert [c["state"]["terminated"]["exitCode"] for c in status["initContainerStatuses"]] == [0, 0]
    assert next(c["status"] for c in status["conditions"] if c["type"] == "Initialized") == "True"


@spec("[sig-node] InitContainer should invoke init containers on a RestartNever pod")
def _(run: Run) -> None:
    status = run.phase("init-never", "Succeeded")["status"]
    assert [c["state"]["terminated"]["exitCode"] for c in status["initContainerStatuses"]] == [0, 0]


@spec(
    "[sig-node] InitContainer should not start app containers and fail the pod if init containers fail on a RestartNever pod"
)
def _(run: Run) -> None:
    status = run.phase("init-fails-never", "Failed")["status"]
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
    assert not status["containerStatuses"][0].get("started") and "containerID" not in status["containerStatuses"][0]


@spec("[sig-node] InitContainer should not start app containers if init containers fail on a RestartAlways pod")
def _(run: Run) -> None:
    run.until(lambda: run.container("init-fails-always", "first", init=True).get("restartCount", 0) >= 1)
    status = run.pod("init-fails-always")["status"]
    assert status["phase"] == "Pending"
    assert status["initContainerStatuses"][1]["state"]["waiting"]["reason"] == "PodInitializing"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


PROBES = "[sig-node] Probing container "


def restarts(container: str) -> Check:
    """A check that a probe of the pod `probed` has a container restarted."""

    def check(run: Run) -> None:
        run.until(lambda: run.container("probed", container).get("restartCount", 0) >= 1)

    return check


def stays(container: str) -> Check:
    """A check that a container goes on through many good probes."""

    def check(run: Run) -> None:
        running = run.until(lambda: run.container("probed", container).get("state", {}).get("running"))
        del running
        run.until(lambda: run.container("probed", "execfails").get("restartCount", 0) >= 2)
        assert run.container("probed", container)["restartCount"] == 0

    return check


CHECKS |= {
    PROBES + 'should be restarted with a exec "cat /tmp/health" liveness probe': restarts("execfails"),
    PROBES + "should be restarted with a /healthz http liveness probe": restarts("httpfails"),
    PROBES + 'should *not* be restarted with a exec "cat /tmp/health" liveness probe': stays("exec"),
    PROBES + "should *not* be restarted with a /healthz http liveness probe": stays("http"),
    PROBES + "should *not* be restarted with a tcp:8080 liveness probe": stays("tcp"),
    PROBES + "should be restarted with a GRPC liveness probe": restarts("grpcfails"),
    PROBES + "should *not* be restarted with a GRPC liveness probe": stays("grpc"),
}


@spec(PROBES + "should have monotonically increasing restart count")
def _(run: Run) -> None:
    counts = []

    def twice() -> bool:
        counts.append(run.container("probed", "execfails").get("restartCount", 0))
        return bool(counts[-1] >= 2)

    run.until(twice)
    assert counts == sorted(counts)


@spec(PROBES + "with readiness probe should not be ready before initial delay and never restart")
def _(run: Run) -> None:
    run.ready("late")
    status = run.pod("late")["status"]
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
    started = status["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert seconds_between(started, ready) >= 5 and status["containerStatuses"][0]["restartCount"] == 0


@spec(PROBES + "with readiness probe that fails should never be ready and never restart")
def _(run: Run) -> None:
    found = run.container("probed", "unready")
    assert not found["ready"] and found["restartCount"] == 0 and "running" in found["state"]


def seconds_between(first: str, second: str) -> float:
    form = "%Y-%m-%dT%H:%M:%SZ"
    return time.mktime(time.strptime(second, form)) - time.mktime(time.strptime(first, form))


HOOKS = "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute "


@spec(HOOKS + "poststart exec hook properly")
def _(run: Run) -> None:
    run.echoed("/poststart-exec")


@spec(HOOKS + "poststart http hook properly")
def _(run: Run) -> None:
    run.echoed("/poststart-http")


@spec(HOOKS + "prestop exec hook properly")
def _(run: Run) -> None:
    run.until(lambda: run.pod("hooked")["status"].get("phase") == "Running")
    run.kubectl.ok("delete", "pod", "hooked", "--wait=false")
    run.echoed("/prestop-exec")


@spec(HOOKS + "prestop http hook properly")
def _(run: Run) -> None:
    run.echoed("/prestop-http")


@spec("[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete")
def _(run: Run) -> None:
    run.kubectl.ok("delete", "pod", "init-fails-always", "--timeout=60s")


@spec("[sig-node] Pods should get a host IP")
def _(run: Run) -> None:
    assert run.pod("late")["status"]["hostIP"] == run.pod("late")["status"]["hostIPs"][0]["ip"] != ""


@spec("[sig-node] Pods should be updated")
def _(run: Run) -> None:
    run.kubectl.ok("label", "pod", "late", "time=value")
    found = json.loads(run.kubectl.ok("get", "pods", "-l", "time=value", "-o", "json"))["items"]
    assert [each["metadata"]["name"] for each in found] == ["late"]


@spec("[sig-node] Pods should allow activeDeadlineSeconds to be updated")
def _(run: Run) -> None:
    run.ready("deadline")
    run.kubectl.ok("patch", "pod", "deadline", "-p", '{"spec":{"activeDeadlineSeconds":5}}')
    assert run.phase("deadline", "Failed")["status"]["reason"] == "DeadlineExceeded"


@spec("[sig-node] Pods should be submitted and removed")
def _(run: Run) -> None:
    run.kubectl.ok("delete", "pod", "late", "--grace-period=1", "--timeout=60s")
    assert run.kubectl(["get", "pod", "late"]).code != 0


@spec("[sig-node] Pods should support remote command execution over websockets")
def _(run: Run) -> None:
    run.ready("handler")
    path = "exec?command=echo&command=remote&stdout=1&container=main"
    frames = asyncio.run(websocket(run, f"/api/v1/namespaces/{run.kubectl.namespace}/pods/handler/{path}", "v4"))
    assert b"".join(frame[1:] for frame in frames if frame[:1] == b"\x01").strip() == b"remote"


@spec("[sig-node] Pods should support retrieving logs from the container over websockets")
def _(run: Run) -> None:
    run.echoed("/poststart-exec")
    path = f"/api/v1/namespaces/{run.kubectl.namespace}/pods/handler/log?container=main"
    assert b"/poststart-exec" in b"".join(asyncio.run(websocket(run, path, "binary.k8s.io")))


CLASSES = "[sig-node] RuntimeClass should "


@spec(CLASSES + "reject a Pod requesting a non-existent RuntimeClass")
def _(run: Run) -> None:
    assert 'RuntimeClass "none" not found' in run.kubectl(*classed("rejected", "none")).err


@spec(CLASSES + "schedule a Pod requesting a RuntimeClass and initialize its Overhead")
def _(run: Run) -> None:
    assert run.kubectl(*classed("heavy", "heavy")).code == 0
    run.ready("heavy")
    assert run.pod("heavy")["spec"]["overhead"] == {"cpu": "10m", "memory": "1Mi"}


@spec(CLASSES + "schedule a Pod requesting a RuntimeClass without PodOverhead")
def _(run: Run) -> None:
    assert run.kubectl(*classed("plain", "plain")).code == 0
    run.ready("plain")
    assert "overhead" not in run.pod("plain")["spec"]


@spec(CLASSES + "reject a Pod requesting a deleted RuntimeClass")
def _(run: Run) -> None:
    run.kubectl.ok("delete", "runtimeclass", "heavy")
    assert 'RuntimeClass "heavy" not found' in run.kubectl(*classed("later", "heavy")).err


def classed(name: str, runtime_class: str) -> tuple[list[str], str]:
    from conformance_pods import pod

    return ["create", "-f", "-"], json.dumps(pod(name, runtimeClassName=runtime_class))


@spec("[sig-node] Sysctls should reject invalid sysctls")
def _(run: Run) -> None:
    from conformance_pods import pod

    names = ("kernel.shmmax", "foo-", "bar..", "kernel.msgmax")
    made = pod("wrong", securityContext={"sysctls": [{"name": name, "value": "1"} for name in names]})
    told = run.kubectl(["create", "-f", "-"], json.dumps(made)).err
    assert 'Invalid value: "foo-"' in told and 'Invalid value: "bar.."' in told and "kernel.shmmax" not in told


@spec("[sig-node] ConfigMap should update ConfigMap successfully")
def _(run: Run) -> None:
    run.kubectl.ok("patch", "configmap", "conf", "-p", '{"data":{"data_9":"new"}}')
    assert run.kubectl.ok("get", "configmap", "conf", "-o", "jsonpath={.data.data_9}") == "new"


@pytest.mark.parametrize("name", CHECKS, ids=list(CHECKS))
def test_what_the_conformance_suite_checks(name: str, run: Run) -> None:
    CHECKS[name](run)
