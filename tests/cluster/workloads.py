"""Pods and Services that tests make, and what they ask of them."""

import json
from typing import Any

from harness import Kubectl

IMAGE = "nodeagent.local/busybox:1"


def pod(name: str, script: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}],
        },
    }


def service(name: str, *ports: dict[str, Any], selector: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector or {"app": name}, "ports": list(ports), **spec},
    }


HTTP = "hostname > /www/index.html; exec httpd -f -p 8080 -h /www"


def create(kubectl: Kubectl, *objects: dict[str, Any]) -> None:
    kubectl.ok("create", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in objects))
    for each in objects:
        if each["kind"] == "Pod":
            kubectl.ok("wait", "--for=condition=Ready", f"pod/{each['metadata']['name']}", "--timeout=60s")


def sh(kubectl: Kubectl, name: str, script: str) -> str:
    return kubectl.ok("exec", name, "--", "sh", "-c", script).strip()


def fetch(kubectl: Kubectl, name: str, host: str) -> str:
    """What a pod gets from `http://host`; asked again while rules and records are on their way."""
    loop = f"for i in $(seq 50); do timeout 2 wget -q -O - http://{host} && exit 0; sleep 0.1; done; exit 1"
    return sh(kubectl, name, loop)


def address(kubectl: Kubectl, name: str) -> str:
    return kubectl.ok("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
