"""HTTP to pods and Services through the API server: `.../pods/[scheme:]name[:port]/proxy/path`, Services alike.

Owns which pod and port is meant, and what of a request and its answer is passed on. The way to a pod is its kubelet's.
"""

import asyncio
import contextlib
import ipaddress
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httptools

from controlplane.apiserver import body, kubelets, links
from controlplane.apiserver.context import Context
from controlplane.apiserver.podconnection import PodConnection
from controlplane.apiserver.reply import Headers, Receive, Reply, Send
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import connecting
from kube import status
from kube.duplex import Duplex
from kube.scheme import ENDPOINTS, PODS, SERVICES
from kube.tlsduplex import TlsDuplex

Object = dict[str, Any]
METHODS = ("create", "delete", "get", "options", "patch", "update")
BODY_LIMIT = 64 * 1024 * 1024
PAGE_LIMIT = 16 * 1024 * 1024  # bytes of a page whose links are led through
HEAD_SECONDS = 30.0
HOP = (
    b"authorization",
    b"connection",
    b"content-length",
    b"host",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
)
UPGRADE = [
    (b"connection", b"Upgrade"),
    (b"upgrade", b"SPDY/3.1"),
    (b"x-stream-protocol-version", b"portforward.k8s.io"),
]
DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE = "/:@!$&'()*+,;=~"  # in a path, these stand for themselves


@dataclass(frozen=True, slots=True)
class Backend:
    """A port of a pod; `host` is what a client that reached it directly would have called."""

    pod: Object
    scheme: str
    port: int

    @property
    def host(self) -> str:
        """Address and port."""
        return f"{(self.pod.get('status') or {}).get('podIP') or ''}:{self.port}"


def split_name(text: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `name`, `name:port` or `scheme:name:port`; 400 for anything else."""
    parts = text.split(":")
    if len(parts) == 1:
        parts = ["", parts[0], ""]
    elif len(parts) == 2:
        parts = ["", *parts]
    if len(parts) != 3 or not parts[1] or parts[0] not in ("", "http", "https"):
        raise status.bad_request(f'invalid request "{text}": want name, name:port or scheme:name:port')
    return parts[0] or "http", parts[1], parts[2]


def pod_port(pod: Object, scheme: str, wanted: str) -> int:
    """The port meant: a number, the name of a declared port, the first declared one when none is named."""
    declared = [port for each in pod["spec"].get("containers") or () for port in each.get("ports") or ()]
    if not wanted:
        return int(declared[0]["containerPort"]) if declared else DEFAULT_PORTS[scheme]
    named = next((port["containerPort"] for port in declared if port.get("name") == wanted), None)
    if named is None and not (wanted.isdigit() and 0 < int(wanted) < 65536):
        raise status.bad_request(f'pod {pod["metadata"]["name"]} has no port "{wanted}"')
    return int(named or wanted)


def service_port(service: Object, wanted: str) -> str:
    """The name of the Service's port meant; it may be given as a number. 503 for a number it does not have."""
    if not wanted.isdigit():
        return wanted
    for port in (service.get("spec") or {}).get("ports") or ():
        if port.get("port") == int(wanted):
            return str(port.get("name") or "")
    name = service["metadata"]["name"]
    raise status.unavailable(f'no service port {wanted} found for service "{name}"')


def ready_addresses(endpoints: Object, port: str) -> list[tuple[Object, int]]:
    """The endpoints of pods behind the named port, each with its number."""
    return [
        (address, int(entry["port"]))
        for subset in endpoints.get("subsets") or ()
        for entry in subset.get("ports") or ()
        if (entry.get("name") or "") == port
        for address in subset.get("addresses") or ()
        if (address.get("targetRef") or {}).get("kind") == "Pod"
    ]


def _backend(context: Context, request: Request) -> Backend:
    target = request.target
    scheme, name, wanted = split_name(target.name)
    find, namespace = context.objects.find, target.namespace
    if target.resource is PODS:
        pod = find(PODS, namespace=namespace, name=name).decode()
        return Backend(pod, scheme, pod_port(pod, scheme, wanted))
    port = service_port(find(SERVICES, namespace=namespace, name=name).decode(), wanted)
    found = ready_addresses(find(ENDPOINTS, namespace=namespace, name=name).decode(), port)
    for address, number in random.sample(found, len(found)):
        reference = address["targetRef"]
        with contextlib.suppress(status.ApiError):
            pod = find(PODS, namespace=namespace, name=reference["name"]).decode()
            if pod["metadata"]["uid"] == reference.get("uid"):
                return Backend(pod, scheme, number)
    raise status.unavailable(f'no endpoints available for service "{target.name}"')


async def proxy(context: Context, request: Request, receive: Receive) -> "Reply | _Forwarded":
    """Hand a request to a pod, and its answer back."""
    backend = _backend(context, request)
    query = request.scope["query_string"].decode("latin-1")
    rest = request.target.rest
    if not rest and not request.path.endswith("/") and request.method in ("GET", "HEAD"):
        where = quote(request.path, safe=_SAFE) + "/" + (f"?{query}" if query else "")
        return Reply(b"", 301, b"text/plain", extra=[(b"location", where.encode())])
    address = (backend.pod.get("status") or {}).get("podIP") or ""
    node = backend.pod["spec"].get("nodeName") or ""
    if not node or not _allowed(address):
        raise status.bad_request("address not allowed")
    sent = await body.read(request, receive, limit=BODY_LIMIT)
    path = "/" + quote(rest, safe=_SAFE) + ("/" if rest and request.path.endswith("/") else "")
    head = kubelets.head(request.method, path + (f"?{query}" if query else ""), backend.host, _passed(request, sent))
    return _Forwarded(backend, connecting.node_of(context, node), context, head + sent)


def _allowed(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)


def _passed(request: Request, sent: bytes) -> list[tuple[bytes, bytes]]:
    upgrading = request.scope.get("extensions", {}).get("kube.upgrade") is not None
    kept = [(name, value) for name, value in request.scope["headers"] if name not in HOP]
    if not upgrading:
        kept = [(name, value) for name, value in kept if name not in (b"upgrade", b"accept-encoding")]
        kept.append((b"connection", b"close"))
    else:
        kept.append((b"connection", b"Upgrade"))
    client = (request.scope.get("client") or ("",))[0]
    kept.append((b"x-forwarded-for", str(client).encode()))
    if sent or request.method in ("POST", "PUT", "PATCH"):
        kept.append((b"content-length", str(len(sent)).encode()))
    return kept


def _unchecked() -> ssl.SSLContext:
    """For `https:`: pods have certificates of their own making, as with upstream nobody checks them here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class _Forwarded:
    """The request on its way: opened, answered, streamed back; taken over when it upgrades."""

    backend: Backend
    node: connecting.Node
    context: Context
    message: bytes

    async def send(self, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
        """See Answer."""
        meta, upgrade = self.backend.pod["metadata"], request.scope.get("extensions", {}).get("kube.upgrade")
        path = f"/portForward/{meta['namespace']}/{meta['name']}"
        try:
            session = await self.context.kubelets.open(
                self.node.host, self.node.port, method="POST", path=path, headers=UPGRADE
            )
        except kubelets.KubeletUnreachable as e:
            raise status.unavailable(f"error trying to reach service: {e}") from e
        try:
            answer = await self._ask(session)
            if answer.upgraded and upgrade is not None:
                front: Duplex = await upgrade.accept(answer.code, list(answer.headers))
                if answer.rest:
                    await front.write(answer.rest)
                await connecting.tunnel(front, answer.duplex)
            else:
                await self._answer(request, answer, send, headers)
        finally:
            await session.close()

    async def _ask(self, session: kubelets.Answer) -> kubelets.Answer:
        try:
            if not session.upgraded:
                raise ConnectionError(f"the kubelet answered {session.code}")
            plain = PodConnection(session.duplex, port=self.backend.port)
            connection: Duplex = plain
            if self.backend.scheme == "https":
                secured = TlsDuplex(plain, _unchecked(), host=self.backend.host.rpartition(":")[0])
                await secured.handshake()
                connection = secured
            async with asyncio.timeout(HEAD_SECONDS):
                await connection.write(self.message)
                return await kubelets.answer(connection)
        except (TimeoutError, OSError, httptools.HttpParserError) as e:
            text = str(e) or "no answer in time"
            raise status.unavailable(f"error trying to reach service: dial tcp {self.backend.host}: {text}") from e

    async def _answer(self, request: Request, answer: kubelets.Answer, send: Send, headers: Headers) -> None:
        bare = request.path.removesuffix("/").removesuffix("/" + request.target.rest).removesuffix("/")
        prefix = quote(bare, safe=_SAFE)
        kept = _returned(answer.headers, prefix=prefix, backend=self.backend.host)
        kind = next((value for name, value in answer.headers if name == b"content-type"), b"")
        if request.method == "HEAD":
            await send({"type": "http.response.start", "status": answer.code, "headers": [*headers, *kept]})
            await send({"type": "http.response.body", "body": b""})
            return
        whole = kind.startswith(b"text/html")
        if whole:
            page = await _whole(answer)
            text = links.page(page.decode("latin-1"), prefix=prefix, backend=self.backend.host).encode("latin-1")
            kept = [(name, value) for name, value in kept if name != b"content-length"]
            kept.append((b"content-length", str(len(text)).encode()))
        await send({"type": "http.response.start", "status": answer.code, "headers": [*headers, *kept]})
        if whole:
            await send({"type": "http.response.body", "body": text, "more_body": True})
        else:
            with contextlib.suppress(ConnectionError):  # the pod went away in the middle: the body ends here
                async for chunk in answer.chunks():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _whole(answer: kubelets.Answer) -> bytes:
    text = b""
    async for chunk in answer.chunks():
        text += chunk
        if len(text) > PAGE_LIMIT:
            raise status.unavailable(f"the page is larger than {PAGE_LIMIT} bytes")
    return text


def _returned(found: Sequence[tuple[bytes, bytes]], *, prefix: str, backend: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, without what belonged to the connection; a Location leads through the proxy."""
    kept = [(name, value) for name, value in found if name not in HOP or name == b"content-length"]
    return [
        (name, links.lead_through(value.decode("latin-1"), prefix=prefix, backend=backend).encode("latin-1"))
        if name == b"location"
        else (name, value)
        for name, value in kept
    ]
