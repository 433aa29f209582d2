"""Pods and Services for tests, made in one namespace and waited for.

Must not know how connections are tried.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kube import scheme, status
from kube.client import errors as client_errors
from kube.client import rest
from nodeagent.lab import errors, images, machine, prove
from nodeagent.lab.testing import api, reach
from nodeagent.lab.testing.handle import Lab

Object = dict[str, Any]
T = TypeVar("T")
READY_SECONDS = 60.0
GONE_SECONDS = 30.0
PORT = 8080
# Answers every connection and every datagram with the pod's name, on one port of both protocols.
ECHO = """
import os, socket, sys, threading
name, port = os.uname().nodename.encode(), int(sys.argv[1])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", port))
tcp = socket.create_server(("", port), backlog=128)
def datagrams():
    while True:
        udp.sendto(name, udp.recvfrom(2048)[1])
threading.Thread(target=datagrams, daemon=True).start()
while True:
    with tcp.accept()[0] as one:
        one.sendall(name)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that is Ready; `port` is the first its containers declare, 0 when there is none."""

    namespace: str
    name: str
    uid: str
    node: str
    ip: str
    port: int = 0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service and the pods behind it that were made with it."""

    namespace: str
    name: str
    ip: str
    port: int
    pods: tuple[Pod, ...] = ()

    def __str__(self) -> str:
        return self.name


class Pods:
    """Makes pods and Services in one namespace of a lab."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self._lab, self.namespace = lab, namespace

    def run(
        self,
        name: str,
        *command: str,
        image: str = images.BUSYBOX,
        node: str = "",
        port: int = 0,
        labels: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Pod:
        """A pod that runs a command (without one it sleeps), on a certain node if one is named; returns when it is
        Ready. Raises LabError, with what the pod says of itself, when it does not become so.
        """
        return self.create(pod(name, command, image=image, node=node, port=port, labels=labels or {}, **spec))

    def serve(
        self, name: str, *, replicas: int = 1, nodes: Sequence[str] = (), port: int = 80, target_port: int = PORT
    ) -> Service:
        """A Service of TCP and UDP, and pods behind it that answer with their name: NAME-0, NAME-1, ...

        The pods go to these nodes in turn, or wherever they are scheduled.
        """
        labels = {"app": name}
        made = [
            echo(f"{name}-{number}", node=nodes[number % len(nodes)] if nodes else "", port=target_port, labels=labels)
            for number in range(replicas)
        ]
        service = self._post(scheme.SERVICES, service_of(name, port=port, target_port=target_port, selector=labels))
        for each in made:
            self._post(scheme.PODS, each)
        pods = tuple(self.wait(each["metadata"]["name"]) for each in made)
        return Service(
            namespace=self.namespace, name=name, ip=service["spec"].get("clusterIP", ""), port=port, pods=pods
        )

    def create(self, manifest: Object) -> Pod:
        """Create a pod from its whole manifest, and return when it is Ready."""
        self._post(scheme.PODS, manifest)
        return self.wait(manifest["metadata"]["name"])

    def wait(self, name: str, *, seconds: float = READY_SECONDS) -> Pod:
        """The pod, once it is Ready. Raises LabError, with what the pod says of itself, when it is not in time."""
        found: Object = {}

        async def ready(client: rest.Client) -> Object:
            return await _until(lambda: self._look(client, name, found), seconds=seconds)

        try:
            return described(self._call(ready))
        except TimeoutError as error:
            why = "; ".join(complaints(found)) or found.get("status", {}).get("phase", "it was not there")
            hint = f"nodeagent lab kubectl --directory {self._lab.directory} -- -n {self.namespace} describe pod {name}"
            raise errors.LabError(f"pod {name} is not Ready after {seconds:.0f} s: {why}", hint=hint) from error

    async def _look(self, client: rest.Client, name: str, found: Object) -> Object | None:
        found.update(await client.get(scheme.PODS, name, namespace=self.namespace))
        return found if prove.has_condition(found, "Ready") else None

    def delete(self, name: str) -> None:
        """Delete a pod at once, and return when it is gone."""

        async def gone(client: rest.Client) -> None:
            await client.delete(scheme.PODS, name, namespace=self.namespace, grace_period=0)
            await _until(lambda: self._absent(client, name), seconds=GONE_SECONDS)

        self._call(gone)

    async def _absent(self, client: rest.Client, name: str) -> bool | None:
        try:
            await client.get(scheme.PODS, name, namespace=self.namespace)
        except status.ApiError as error:
            if status.is_not_found(error):
                return True
            raise
        return None

    def exec(self, one: Pod, *argv: str, seconds: float = 30.0) -> str:
        """Run a command of the pod's own image in a container of it; what it printed. Raises LabError when it fails."""
        inner = reach.inner_pid(self._lab, one)
        words = ["nsenter", "-t", str(inner), "-a", "-r", "-w", "--", *argv]
        return machine.run(self._lab.running.first(one.node), words, seconds=seconds).decode(errors="replace")

    def logs(self, one: Pod) -> str:
        """What the pod has printed."""
        path = scheme.PODS.path(namespace=self.namespace, name=one.name, subresource="log")

        async def read(client: rest.Client) -> str:
            return (await client.transport.request("GET", path, timeout=10)).body.decode(errors="replace")

        return self._call(read)

    def _post(self, resource: scheme.Resource, manifest: Object) -> Object:
        return self._call(lambda client: client.create(resource, manifest, namespace=self.namespace))

    def _call(self, work: Callable[[rest.Client], Awaitable[T]]) -> T:
        try:
            return api.call(self._lab.kubeconfig, work)
        except (client_errors.ClientError, status.ApiError) as error:
            raise errors.LabError(str(error)) from error


async def _until(check: Callable[[], Awaitable[T | None]], *, seconds: float) -> T:
    async with asyncio.timeout(seconds):
        while True:
            if (found := await check()) is not None:
                return found
            await asyncio.sleep(prove.POLL_SECONDS)


def pod(
    name: str,
    command: Sequence[str] = (),
    *,
    image: str = images.BUSYBOX,
    node: str = "",
    port: int = 0,
    labels: Mapping[str, str],
    **spec: Any,
) -> Object:
    """A pod's manifest; `spec` adds to its spec. Pure."""
    container: Object = {"name": "main", "image": image}
    if command or image == images.BUSYBOX:
        container["command"] = list(command) or ["sleep", "86400"]
    if port:
        container["ports"] = [{"containerPort": port}]
    placed = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"run": name, **labels}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **placed, **spec},
    }


def echo(name: str, *, node: str = "", port: int = PORT, labels: Mapping[str, str]) -> Object:
    """A pod that answers with its name over TCP and UDP: by the Python of its node, seen through hostPath volumes."""
    python = os.path.realpath(sys.executable)
    folders = dict.fromkeys(path for path in ("/usr", "/lib", "/lib64", sys.base_prefix) if os.path.isdir(path))
    made = pod(name, (python, "-I", "-S", "-c", ECHO, str(port)), node=node, port=port, labels=labels)
    made["spec"]["volumes"] = [
        {"name": f"host-{number}", "hostPath": {"path": os.path.realpath(folder)}}
        for number, folder in enumerate(folders)
    ]
    container = made["spec"]["containers"][0]
    container["volumeMounts"] = [
        {"name": f"host-{number}", "mountPath": folder, "readOnly": True} for number, folder in enumerate(folders)
    ]
    container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    return made


def service_of(name: str, *, port: int, target_port: int, selector: Mapping[str, str]) -> Object:
    """A Service's manifest, of both protocols. Pure."""
    ports = [
        {"name": protocol.lower(), "port": port, "targetPort": target_port, "protocol": protocol}
        for protocol in ("TCP", "UDP")
    ]
    spec = {"selector": dict(selector), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def described(found: Object) -> Pod:
    """The pod's place and addresses. Pure."""
    meta, spec = found["metadata"], found["spec"]
    ports = [port["containerPort"] for each in spec["containers"] for port in each.get("ports", ())]
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        node=spec.get("nodeName", ""),
        ip=found.get("status", {}).get("podIP", ""),
        port=ports[0] if ports else 0,
    )


def complaints(found: Object) -> list[str]:
    """Why a pod is not Ready, in its own words. Pure."""
    state = found.get("status", {})
    words = [
        each["message"] for each in state.get("conditions", ()) if each["status"] != "True" and each.get("message")
    ]
    for each in state.get("containerStatuses", ()):
        for how in each.get("state", {}).values():
            words += [f"{each['name']}: {how['reason']} {how.get('message', '')}".strip()] if "reason" in how else []
    return list(dict.fromkeys(words))
