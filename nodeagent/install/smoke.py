"""`nodeagent smoke`: a web server and a client on every node; each client asks each server, the Service, and its name.

Speaks to the API as any client does, and removes what it made. The objects are pure.
"""

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kube import kubeconfig, scheme, status
from kube.client import errors
from kube.client.http import HttpTransport
from kube.client.rest import Client
from nodeagent.install.errors import InstallError

Object = dict[str, Any]
LABEL: Final = "nodeagent-smoke"
PORT: Final = 8080
LOOK_SECONDS: Final = 0.3
SERVE: Final = f"mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p {PORT} -h /tmp/www"
ASK: Final = """
for target in $TARGETS; do
  answer=
  for try in $(seq 1 40); do
    answer=$(timeout 3 wget -q -O - "http://$target/") && break
    sleep 0.5
  done
  echo "$target ${answer:-SILENT}"
done
"""


def server(node: str, image: str) -> Object:
    """A web server on one node, which answers with its own name."""
    container = {
        "name": "web",
        "image": image,
        "command": ["sh", "-c", SERVE],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
    }
    return _pod(f"server-{node}", node, container, restart="Always")


def client(node: str, image: str, targets: Sequence[str]) -> Object:
    """A pod on one node that asks every target and ends."""
    environment = [{"name": "TARGETS", "value": " ".join(targets)}]
    container = {"name": "ask", "image": image, "command": ["sh", "-c", ASK], "env": environment}
    return _pod(f"client-{node}", node, container, restart="Never")


def service() -> Object:
    """Port 80 of one address and one name for all servers."""
    spec = {"selector": {"app": LABEL}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def _pod(name: str, node: str, container: Object, *, restart: str) -> Object:
    labels = {"app": LABEL} if restart == "Always" else {}
    spec = {"nodeName": node, "restartPolicy": restart, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def silent(lines: Sequence[str]) -> list[str]:
    """The targets that did not answer, of a client's output."""
    return [line.split()[0] for line in lines if line.endswith(" SILENT")]


def run(options: argparse.Namespace) -> int:
    """0 when everybody reached everybody."""
    try:
        return asyncio.run(_run(options))
    except (errors.ClientError, status.ApiError, kubeconfig.KubeconfigError) as e:
        raise InstallError(f"the cluster could not be tried: {e}") from e


async def _run(options: argparse.Namespace) -> int:
    api = Client(HttpTransport(kubeconfig.load(Path(options.kubeconfig))), user_agent="nodeagent-smoke")
    namespace = f"smoke-{secrets.token_hex(3)}"
    start = time.monotonic()
    await api.create(scheme.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        trial = Trial(api, namespace, image=options.image, deadline=start + options.timeout)
        failed = await trial.run(at_least=options.nodes)
    finally:
        await api.delete(scheme.NAMESPACES, namespace)
        await api.close()
    if failed:
        sys.stderr.write("".join(f"smoke: {each}\n" for each in failed))
        return 1
    print(f"smoke: pods, Service and name answer on every node ({time.monotonic() - start:.1f} s)")
    return 0


class Trial:
    """One run in a namespace of its own; `deadline` on the monotonic clock."""

    def __init__(self, api: Client, namespace: str, *, image: str, deadline: float) -> None:
        self._api, self._namespace, self._image, self._deadline = api, namespace, image, deadline

    async def run(self, *, at_least: int) -> list[str]:
        """What failed, a line each."""
        nodes = await self._ready_nodes(at_least)
        print(f"smoke: nodes {', '.join(nodes)}", flush=True)
        await self._account()
        made = await self._api.create(scheme.SERVICES, service(), namespace=self._namespace)
        for node in nodes:
            await self._api.create(scheme.PODS, server(node, self._image), namespace=self._namespace)
        addresses = [await self._address(f"server-{node}") for node in nodes]
        name = f"web.{self._namespace}.svc.cluster.local"
        targets = [*(f"{each}:{PORT}" for each in addresses), made["spec"]["clusterIP"], "web", name]
        for node in nodes:
            await self._api.create(scheme.PODS, client(node, self._image, targets), namespace=self._namespace)
        failed = []
        for node in nodes:
            lines = await self._output(f"client-{node}")
            print("\n".join(f"smoke: {node} -> {line}" for line in lines), flush=True)
            failed += [f"{node} does not reach {each}" for each in silent(lines)]
            failed += [f"{node}: {len(lines)} answers of {len(targets)}"] if len(lines) != len(targets) else []
        return failed

    async def _ready_nodes(self, at_least: int) -> list[str]:
        while True:
            nodes = (await self._api.list(scheme.NODES))["items"]
            found = [node["metadata"]["name"] for node in nodes if _ready(node)]
            if len(found) >= max(1, at_least):
                return sorted(found)
            await self._pause(f"{at_least} nodes to be Ready, so far: {', '.join(found) or 'none'}")

    async def _account(self) -> None:
        while True:
            try:
                await self._api.get(scheme.SERVICE_ACCOUNTS, "default", namespace=self._namespace)
                return
            except status.ApiError as e:
                if not status.is_not_found(e):
                    raise
            await self._pause("the namespace's service account")

    async def _address(self, name: str) -> str:
        while True:
            pod = await self._api.get(scheme.PODS, name, namespace=self._namespace)
            if _ready(pod) and pod["status"].get("podIP"):
                return str(pod["status"]["podIP"])
            await self._pause(f"pod {name}: {_state(pod)}", pod=name)

    async def _output(self, name: str) -> list[str]:
        while True:
            pod = await self._api.get(scheme.PODS, name, namespace=self._namespace)
            if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                break
            await self._pause(f"pod {name}: {_state(pod)}")
        path = scheme.PODS.path(namespace=self._namespace, name=name, subresource="log")
        answer = await self._api.transport.request("GET", path, timeout=10)
        return answer.body.decode(errors="replace").splitlines()

    async def _pause(self, what: str, *, pod: str = "") -> None:
        if time.monotonic() > self._deadline:
            told = await self._last_warning(pod) if pod else ""
            raise InstallError(f"smoke: waited too long for {what}{told}")
        await asyncio.sleep(LOOK_SECONDS)

    async def _last_warning(self, pod: str) -> str:
        selector = f"involvedObject.name={pod},type=Warning"
        found = (await self._api.list(scheme.EVENTS, namespace=self._namespace, field_selector=selector))["items"]
        return f": {found[-1].get('message', '')}" if found else ""


def _ready(obj: Object) -> bool:
    found = obj.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in found)


def _state(pod: Object) -> str:
    """Why a pod does not run, in the runtime's own words."""
    for each in pod.get("status", {}).get("containerStatuses") or ():
        if waiting := (each.get("state") or {}).get("waiting"):
            return f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    return str(pod.get("status", {}).get("phase") or "not seen by its node yet")
