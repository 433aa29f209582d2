"""Streams into pods: logs, exec, attach and port-forward, handed through to the kubelet of the pod's node.

Owns which kubelet and which path; the bytes of an upgraded connection pass unchanged, in both directions.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from controlplane.apiserver import kubelets
from controlplane.apiserver.context import Context
from controlplane.apiserver.reply import Headers, Receive, Reply, Send
from controlplane.apiserver.request import Request
from kube import status
from kube.duplex import Duplex
from kube.scheme import NODES, PODS
from kube.streams import oneway

Object = dict[str, Any]
KUBELET_PORT = 10250
MAX_REFUSAL = 2048
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")
LOG_PARAMETERS = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
STREAM_FLAGS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
STRIPPED = (b"authorization", b"cookie", b"host", b"content-length")
PASSED = (b"content-type", b"upgrade", b"connection", b"date")


@dataclass(frozen=True, slots=True)
class Node:
    """Where a kubelet listens."""

    name: str
    host: str
    port: int


def _pod(context: Context, request: Request) -> Object:
    target = request.target
    return context.objects.find(PODS, namespace=target.namespace, name=target.name).decode()


def node_of(context: Context, name: str) -> Node:
    """The address of a node's kubelet."""
    obj = context.objects.find(NODES, namespace="", name=name).decode()
    state = obj.get("status") or {}
    by_type = {a.get("type"): a.get("address") for a in reversed(state.get("addresses") or [])}
    host = next((by_type[kind] for kind in ADDRESS_TYPES if by_type.get(kind)), None)
    if host is None:
        raise status.internal(f"no preferred addresses found; known addresses of node {name}: []")
    port = ((state.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
    return Node(name, host, port)


def container_of(pod: Object, wanted: str) -> str:
    """The container meant: the named one if the pod has it, the only one if none is named; 400 otherwise."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    containers = [c["name"] for c in spec.get("containers") or []]
    others = [c["name"] for kind in ("initContainers", "ephemeralContainers") for c in spec.get(kind) or []]
    if wanted:
        if wanted not in containers + others:
            raise status.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    annotations = pod["metadata"].get("annotations") or {}
    default = annotations.get("kubectl.kubernetes.io/default-container", "")
    if default in containers:
        return str(default)
    if len(containers) == 1:
        return str(containers[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if init := [c["name"] for c in spec.get("initContainers") or []]:
        text += f" or one of the init containers: [{' '.join(init)}]"
    raise status.bad_request(text)


async def log(context: Context, request: Request) -> "Reply | _Passed":
    """The log of a container, followed when asked for."""
    pod = _pod(context, request)
    container = container_of(pod, request.query.get("container", ""))
    _check_log_options(request)
    node_name = pod["spec"].get("nodeName")
    if not node_name:
        return Reply(b"", content_type=b"text/plain")
    query = {name: request.query[name] for name in LOG_PARAMETERS if request.query.get(name)}
    path = _path("containerLogs", pod, container) + (f"?{urlencode(query)}" if query else "")
    return _Passed(context, node_of(context, node_name), "GET", path, [(b"accept", b"*/*")])


def _check_log_options(request: Request) -> None:
    found = []
    for name, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)):
        text = request.query.get(name)
        if text is None:
            continue
        if not text.lstrip("-").isdigit():
            raise status.bad_request(f'invalid value "{text}" for the parameter {name}: want a number')
        if int(text) < least:
            why = f"must be greater than or equal to {least}" if least == 0 else "must be greater than 0"
            found.append(status.invalid_value(name, int(text), why))
    if "sinceSeconds" in request.query and "sinceTime" in request.query:
        found.append(
            status.forbidden_field("sinceTime", "at most one of `sinceTime` or `sinceSeconds` may be specified")
        )
    if found:
        raise status.invalid("PodLogOptions", request.target.name, found)


async def connect(context: Context, request: Request) -> "Reply | _Passed":
    """exec, attach or port-forward: the upgrade goes to the kubelet and back."""
    pod, kind = _pod(context, request), request.target.subresource
    if kind == "portforward":
        path = _path("portForward", pod) + _portforward_query(request)
    else:
        container = container_of(pod, request.query.get("container", ""))
        path = _path(kind, pod, container) + _stream_query(request, kind)
    node_name = pod["spec"].get("nodeName")
    if not node_name:
        raise status.bad_request(f"pod {request.target.name} does not have a host assigned")
    headers = [(name, value) for name, value in request.scope["headers"] if name not in STRIPPED]
    return _Passed(context, node_of(context, node_name), request.method, path, headers)


async def node(context: Context, request: Request) -> "Reply | _Passed":
    """What a kubelet's own API answers at the path behind `proxy/`, read only."""
    target = request.target
    name, _, port = target.name.removeprefix("https:").partition(":")
    found = node_of(context, name)
    if port not in ("", str(found.port)):
        raise status.bad_request(f"node {name} is proxied at its kubelet's port {found.port} only, not at {port}")
    query = request.scope["query_string"].decode("latin-1")
    path = "/" + quote(target.rest, safe="/") + ("/" if request.path.endswith("/") and target.rest else "")
    accept = (b"accept", request.headers.get("accept", "*/*").encode("latin-1"))
    return _Passed(context, found, "GET", path + (f"?{query}" if query else ""), [accept])


def _path(kind: str, pod: Object, container: str = "") -> str:
    meta = pod["metadata"]
    parts = [kind, meta["namespace"], meta["name"], *([container] if container else [])]
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _pairs(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _stream_query(request: Request, kind: str) -> str:
    found = [("command", value) for name, value in _pairs(request) if name == "command"]
    if kind == "exec" and not found:
        raise status.bad_request("you must specify at least one command for the container")
    flags = [(short, "1") for name, short in STREAM_FLAGS.items() if request.flag(name)]
    if not any(short != "tty" for short, _ in flags):
        raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return "?" + urlencode(flags + found)


def _portforward_query(request: Request) -> str:
    ports = [("port", value) for name, value in _pairs(request) if name == "ports" for value in value.split(",")]
    return f"?{urlencode(ports)}" if ports else ""


@dataclass(slots=True)
class _Passed:
    """A request handed to a kubelet, its answer handed back: taken over when it upgrades, streamed when not."""

    context: Context
    node: Node
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]

    async def send(self, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
        """See Answer."""
        upgrade = request.scope.get("extensions", {}).get("kube.upgrade")
        answer = await self._open()
        try:
            if answer.upgraded and upgrade is not None:
                front: Duplex = await upgrade.accept(answer.code, [*_upgrade_headers(answer.headers)])
                if answer.rest:
                    await front.write(answer.rest)
                await tunnel(front, answer.duplex)
            elif request.target.subresource == "log" and not 200 <= answer.code <= 206:
                raise await _refusal(answer)
            elif request.target.subresource == "log" and upgrade is not None and upgrade.protocol == "websocket":
                await oneway.send(upgrade, request.scope["headers"], answer.chunks())
            else:
                await _stream(answer, receive, send, headers)
        finally:
            await answer.close()

    async def _open(self) -> kubelets.Answer:
        try:
            return await self.context.kubelets.open(
                self.node.host, self.node.port, method=self.method, path=self.path, headers=self.headers
            )
        except kubelets.KubeletUnreachable as e:
            raise status.internal(str(e)) from e


def _upgrade_headers(headers: kubelets.Headers) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in (b"date", b"content-length", b"transfer-encoding")]


async def _refusal(answer: kubelets.Answer) -> status.ApiError:
    """A kubelet's refusal to give a log is plain text; the client gets it as a Status."""
    text = b""
    async for chunk in answer.chunks():
        text += chunk
        if len(text) >= MAX_REFUSAL:
            break
    message = text[:MAX_REFUSAL].decode(errors="replace").strip()
    if answer.code == 400:
        return status.bad_request(message)
    if answer.code >= 500:
        return status.internal(message)
    return status.failure(answer.code, "NotFound" if answer.code == 404 else "Unknown", message)


async def _stream(answer: kubelets.Answer, receive: Receive, send: Send, headers: Headers) -> None:
    """Pass the body on as it comes; the client's leaving ends it."""
    kept = [(name, value) for name, value in answer.headers if name == b"content-type"]
    await send({"type": "http.response.start", "status": answer.code, "headers": [*headers, *kept]})
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(_close_with_client(receive, answer))
        try:
            async for chunk in answer.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except ConnectionError:
            pass  # the kubelet or the client went away in the middle: the body ends here
        leaving.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _close_with_client(receive: Receive, answer: kubelets.Answer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    await answer.close()


async def tunnel(front: Duplex, back: Duplex) -> None:
    """Bytes both ways. Both sides speak TLS, which knows no half-close: the first end is the end, after a flush."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(front, back))
            group.create_task(_pump(back, front))
    finally:
        await front.close()


async def _pump(source: Duplex, target: Duplex) -> None:
    """Until the source ends. A target that takes no more may still have much to say: the other pump hears it out."""
    try:
        while data := await source.read():
            if not await _written(target, data):
                return
    except ConnectionError:
        pass  # the source is lost: its end
    await target.close()


async def _written(target: Duplex, data: bytes) -> bool:
    try:
        await target.write(data)
    except ConnectionError:
        return False
    return True
