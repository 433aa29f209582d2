"""The pods of the conformance checks: few, of many containers each, all made at once. `HANDLER` is replaced later."""

import sys
import sysconfig
from typing import Any

from workloads import IMAGE

Json = dict[str, Any]
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
HEALTH = """
import grpc, sys, time
from concurrent import futures
end = time.monotonic() + int(sys.argv[2])
class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check":
            answer = lambda request, context: bytes([8, 1 if time.monotonic() < end else 2])
            return grpc.unary_unary_rpc_method_handler(answer)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Health(),))
server.add_insecure_port("0.0.0.0:" + sys.argv[1])
server.start()
server.wait_for_termination()
"""
SOURCES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {data_1: value-1}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {key_1: secret-1}
---
apiVersion: v1
kind: Service
metadata: {name: fooservice}
spec: {ports: [{port: 8765, targetPort: 8080}], selector: {a: b}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: plain}
handler: runc
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: heavy}
handler: runc
overhead: {podFixed: {cpu: 10m, memory: 1Mi}}
"""


def sh(name: str, script: str, **fields: Any) -> Json:
    """A container that runs a script."""
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **fields}


def pod(name: str, *containers: Json, **spec: Any) -> Json:
    """A pod; without containers one that waits."""
    body = {"terminationGracePeriodSeconds": 1, "containers": list(containers) or [sh("main", SLEEP)], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def told(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def amount(name: str, resource: str) -> Json:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}}


def environment() -> Json:
    """Everything a container finds in its environment and its rights, printed."""
    test = [{"name": "TEST", "value": "test-value"}]
    sources = sh(
        "sources",
        "env",
        env=[
            {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "data_1"}}},
            {"name": "HIDDEN", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "key_1"}}},
            amount("CPU_LIMIT", "limits.cpu"),
            amount("MEMORY_LIMIT", "limits.memory"),
            amount("CPU_REQUEST", "requests.cpu"),
            amount("MEMORY_REQUEST", "requests.memory"),
            told("POD_NAME", "metadata.name"),
            told("POD_NAMESPACE", "metadata.namespace"),
            told("POD_UID", "metadata.uid"),
            told("POD_IP", "status.podIP"),
            told("HOST_IP", "status.hostIP"),
            told("HOST_IPS", "status.hostIPs"),
            {"name": "FOO", "value": "foo-value"},
            {"name": "BAR", "value": "bar-value"},
            {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"},
        ],
        envFrom=[
            {"configMapRef": {"name": "conf"}},
            {"prefix": "p_", "configMapRef": {"name": "conf"}},
            {"secretRef": {"name": "hidden"}},
            {"prefix": "s_", "secretRef": {"name": "hidden"}},
        ],
        resources={"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}},
    )
    bare = {"image": IMAGE}
    rights = [
        sh("reader", "echo x > /file || echo refused", securityContext={"readOnlyRootFilesystem": True}),
        sh("writer", "echo written > /file && cat /file", securityContext={"readOnlyRootFilesystem": False}),
        sh("nobody", "id -u", securityContext={"runAsUser": 65534}),
        sh("plain", "mount -t tmpfs x /tmp || echo refused", securityContext={"privileged": False}),
        sh(
            "contained",
            "grep NoNewPrivs /proc/self/status",
            securityContext={"allowPrivilegeEscalation": False, "runAsUser": 1000},
        ),
    ]
    return pod(
        "env",
        sources,
        sh("unlimited", "env", env=[amount("CPU_LIMIT", "limits.cpu"), amount("MEMORY_LIMIT", "limits.memory")]),
        sh("command", "echo $(TEST)", env=test),
        {"name": "args", **bare, "command": ["sh", "-c"], "args": ["echo $(TEST)"], "env": test},
        {"name": "defaults", **bare},
        {"name": "arguments", **bare, "args": ["echo", "override", "arguments"]},
        {"name": "entry", **bare, "command": ["echo", "override command"]},
        {"name": "both", **bare, "command": ["echo"], "args": ["command and arguments"]},
        *rights,
        sh("hosts", "cat /etc/hosts"),
        sh("ownhosts", "cat /etc/hosts", volumeMounts=[{"name": "hosts", "mountPath": "/etc/hosts"}]),
        restartPolicy="Never",
        hostAliases=[{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}],
        volumes=[{"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}}],
    )


def words() -> Json:
    """Last words."""
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    return pod(
        "words",
        sh("file", "printf OK > /dev/termination-log", **fallback),
        sh("empty", "echo DONE", **fallback),
        sh("log", "printf DONE; exit 1", **fallback),
        sh(
            "custom",
            "printf DONE > /dev/termination-custom",
            terminationMessagePath="/dev/termination-custom",
            securityContext={"runAsUser": 1000},
        ),
        sh("reason", "exit 1"),
        restartPolicy="Never",
    )


def exiting(policy: str, *, last: str) -> Json:
    """A pod whose container counts its starts: it fails at first, then does `last`."""
    most = 2 if policy == "Always" else 1
    script = f"echo x >> /count/n; [ $(wc -l < /count/n) -gt {most} ] || exit 1; {last}"
    if policy == "Never":
        script = "exit 1"
    container = sh("main", script, volumeMounts=[{"name": "count", "mountPath": "/count"}])
    return pod(f"exits-{policy.lower()}", container, restartPolicy=policy, volumes=[{"name": "count", "emptyDir": {}}])


def probed() -> Json:
    """Containers with probes that pass, fail, and begin to fail."""
    python = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    folders = {
        "python": (sys.base_prefix, sys.base_prefix),
        "lib": ("/lib", "/usr/lib"),
        "lib64": ("/lib64", "/usr/lib64"),
        "packages": ("/packages", sysconfig.get_paths()["purelib"]),
    }
    often = {"periodSeconds": 1, "failureThreshold": 1}
    health = {"exec": {"command": ["cat", "/tmp/health"]}, **often}

    def web(name: str, port: int, script: str, probe: Json) -> Json:
        serve = f"touch /www/healthz; httpd -p {port} -h /www; {script}"
        return sh(name, serve, livenessProbe={**probe, **often, "initialDelaySeconds": 1})

    def grpc(name: str, port: int, seconds: int) -> Json:
        """The host's own Python answers: nothing in the image speaks gRPC."""
        script = f"exec {python} -c '{HEALTH}' {port} {seconds}"
        probe = {"grpc": {"port": port}, **often, "failureThreshold": 2, "initialDelaySeconds": 4, "timeoutSeconds": 3}
        mounts = [{"name": name, "mountPath": at} for name, (at, _) in folders.items()]
        places = [{"name": "PYTHONPATH", "value": "/packages"}]
        return sh(name, script, livenessProbe=probe, volumeMounts=mounts, env=places)

    return pod(
        "probed",
        grpc("grpcfails", 5001, 8),
        grpc("grpc", 5002, 10_000),
        sh("execfails", f"touch /tmp/health; sleep 3; rm /tmp/health; {SLEEP}", livenessProbe=health),
        sh("exec", f"touch /tmp/health; {SLEEP}", livenessProbe={**health, "initialDelaySeconds": 1}),
        web("httpfails", 8081, f"sleep 3; rm /www/healthz; {SLEEP}", {"httpGet": {"path": "/healthz", "port": 8081}}),
        web("http", 8082, SLEEP, {"httpGet": {"path": "/healthz", "port": 8082}}),
        web("tcp", 8083, SLEEP, {"tcpSocket": {"port": 8083}}),
        sh("unready", SLEEP, readinessProbe={"exec": {"command": ["false"]}, **often}),
        volumes=[{"name": name, "hostPath": {"path": path}} for name, (_, path) in folders.items()],
    )


def hooked() -> Json:
    """Hooks that ask the handler."""

    def ask(name: str, hook: str) -> Json:
        if hook == "http":
            action: Json = {"httpGet": {"host": "HANDLER", "port": 8080, "path": f"/{name}-http"}}
        else:
            # The handler has no such page, which is no failure of the hook.
            command = f"wget -q -O /dev/null http://HANDLER:8080/{name}-exec"
            action = {"exec": {"command": ["sh", "-c", command]}}
        return action

    return pod(
        "hooked",
        *(
            sh(hook, SLEEP, lifecycle={"postStart": ask("poststart", hook), "preStop": ask("prestop", hook)})
            for hook in ("exec", "http")
        ),
        terminationGracePeriodSeconds=20,
    )


def pods() -> list[Json]:
    """All of them, the hooks' handler first."""
    pages = " ".join(f"/www/{when}-{how}" for when in ("poststart", "prestop") for how in ("exec", "http"))
    true, false = sh("first", "true"), sh("first", "false")
    second = sh("second", "true")
    delayed = {"exec": {"command": ["true"]}, "initialDelaySeconds": 5, "periodSeconds": 1}
    sysctl = {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}
    return [
        pod("handler", sh("main", f"touch {pages}; exec httpd -f -vv -p 8080 -h /www")),
        probed(),
        hooked(),
        exiting("Always", last=SLEEP),
        exiting("OnFailure", last="true"),
        exiting("Never", last="true"),
        pod("late", sh("main", SLEEP, readinessProbe=delayed)),
        pod("init-fails-always", initContainers=[false, second]),
        environment(),
        words(),
        pod("init-always", initContainers=[true, second]),
        pod("init-never", sh("main", "true"), initContainers=[true, second], restartPolicy="Never"),
        pod("init-fails-never", initContainers=[false, second], restartPolicy="Never"),
        pod("deadline"),
        pod("hosthosts", sh("main", "cat /etc/hosts"), hostNetwork=True, restartPolicy="Never"),
        pod(
            "sysctls",
            sh("main", "cat /proc/sys/kernel/shm_rmid_forced"),
            securityContext=sysctl,
            restartPolicy="Never",
        ),
    ]
