"""HTTP to pods and Services through the API server: which pod and port is meant, and how links are led through."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane.apiserver import links
from controlplane.apiserver.verbs import proxying
from kube import pki, serve, status
from kube.duplex import Duplex
from kube.streams import spdy
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
NAMESPACE = "/api/v1/namespaces/default"
POD: Object = {
    "metadata": {"name": "p"},
    "spec": {"containers": [{"ports": [{"containerPort": 8080, "name": "web"}]}, {"ports": [{"containerPort": 9}]}]},
}
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", ("http", "web", "")),
        ("web:80", ("http", "web", "80")),
        ("https:web:tls", ("https", "web", "tls")),
        ("http:web:", ("http", "web", "")),
    ],
)
def test_a_name_may_have_a_scheme_and_a_port(text: str, expected: tuple[str, str, str]) -> None:
    assert proxying.split_name(text) == expected


@pytest.mark.parametrize("text", ["", ":80", "ftp:web:80", "a:b:c:d"])
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(status.ApiError) as caught:
        proxying.split_name(text)
    assert caught.value.code == 400


@pytest.mark.parametrize(("wanted", "port"), [("", 8080), ("web", 8080), ("9", 9), ("1234", 1234)])
def test_a_pods_port_is_the_named_one_or_the_number_or_the_first(wanted: str, port: int) -> None:
    assert proxying.pod_port(POD, "http", wanted) == port


def test_a_pod_without_ports_is_asked_at_the_schemes_own() -> None:
    bare = {"metadata": {"name": "p"}, "spec": {"containers": [{}]}}
    assert [proxying.pod_port(bare, scheme, "") for scheme in ("http", "https")] == [80, 443]


def test_a_services_port_may_be_given_by_its_number() -> None:
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}, {"port": 81}]}}
    assert [proxying.service_port(service, wanted) for wanted in ("web", "80", "81")] == ["web", "web", ""]
    with pytest.raises(status.ApiError, match='no service port 82 found for service "s"'):
        proxying.service_port(service, "82")


def test_only_pods_behind_the_named_port_are_candidates() -> None:
    pod = {"ip": "10.0.0.1", "targetRef": {"kind": "Pod", "name": "p"}}
    endpoints = {
        "subsets": [
            {"addresses": [pod, {"ip": "1.2.3.4"}], "ports": [{"name": "web", "port": 8080}]},
            {"addresses": [pod], "ports": [{"name": "tls", "port": 8443}]},
        ]
    }
    assert proxying.ready_addresses(endpoints, "web") == [(pod, 8080)]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("/x?y=1#z", "/proxy/x?y=1#z"),
        ("/x/", "/proxy/x/"),
        ("http://10.0.0.1:80/x", "/proxy/x"),
        ("x/y", "x/y"),
        ("#top", "#top"),
        ("https://example.com/x", "https://example.com/x"),
        ("/proxy/x", "/proxy/x"),
        ("http://[", "http://["),
    ],
)
def test_a_link_of_the_backend_leads_through_the_proxy_and_others_stay(link: str, expected: str) -> None:
    assert links.lead_through(link, prefix="/proxy", backend="10.0.0.1:80") == expected


def test_links_are_found_in_tags_alone() -> None:
    text = """<a class=x href="/a?b=1&amp;c=2">href="/b"</a><form action='/c'><img src="d.png">"""
    expected = """<a class=x href="/p/a?b=1&amp;c=2">href="/b"</a><form action='/p/c'><img src="d.png">"""
    assert links.page(text, prefix="/p", backend="") == expected


class Kubelet:
    """A kubelet whose pod answers by what it was asked for, at one port; elsewhere nobody listens."""

    port = 8080
    reply = b""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] == "/portForward/default/p"
        duplex = await scope["extensions"]["kube.upgrade"].accept(
            101, [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")]
        )
        with contextlib.suppress(ConnectionError):
            await self._serve(duplex)
        await duplex.close()

    async def _serve(self, duplex: Duplex) -> None:
        session, kinds = spdy.Session(client=False), {}
        while data := await duplex.read():
            for event in session.receive(data):
                if isinstance(event, spdy.StreamOpened):
                    session.accept(event.stream)
                    kinds[event.headers["streamtype"]] = event.stream
                    if event.headers["streamtype"] == "data" and event.headers["port"] != str(self.port):
                        session.send(kinds["error"], b"connection refused", fin=True)
                elif isinstance(event, spdy.DataReceived) and event.data:
                    self.asked.append(event.data)
                    session.send(event.stream, self.reply, fin=True)
            if answers := session.pending():
                await duplex.write(answers)


@pytest.fixture
async def kubelet(api: Harness) -> AsyncIterator[Kubelet]:
    """A node with a kubelet on loopback, a pod on it, and a Service in front."""
    app, folder = Kubelet(), api.settings.pki
    pki.write_pair(folder, "kubelet", pki.node_serving(pki.load_ca(folder), name="n1", ips=["127.0.0.1"]))
    sock = serve.listen("127.0.0.1:0")
    tls = serve.tls_context(folder / "kubelet.crt", folder / "kubelet.key", folder / "ca.crt")
    server = serve.Server(app, sockets=[sock], tls=tls, name="kubelet", drain=0.0)
    await api.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    state = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": sock.getsockname()[1]}},
    }
    await api.ask("PATCH", "/api/v1/nodes/n1/status", {"status": state}, headers=MERGE)
    await fill(api)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(server.run())
        yield app
        running.cancel()
    sock.close()


async def fill(api: Harness) -> None:
    """The pod `p` at 10.0.0.9:8080 on that node, and the Service `s` whose port 80 leads there."""
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "x:1", "ports": [{"containerPort": 8080}]}]}
    _, made = await api.ask("POST", f"{NAMESPACE}/pods", {"metadata": {"name": "p"}, "spec": spec})
    await api.ask("PATCH", f"{NAMESPACE}/pods/p/status", {"status": {"podIP": "10.0.0.9"}}, headers=MERGE)
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}]}}
    await api.ask("POST", f"{NAMESPACE}/services", service)
    reference = {"kind": "Pod", "name": "p", "namespace": "default", "uid": made["metadata"]["uid"]}
    addresses = [{"ip": "10.0.0.9", "targetRef": reference}]
    subset = {"addresses": addresses, "ports": [{"name": "web", "port": 8080}]}
    await api.ask("POST", f"{NAMESPACE}/endpoints", {"metadata": {"name": "s"}, "subsets": [subset]})


@pytest.mark.parametrize("name", ["pods/p", "pods/p:8080", "services/s:80", "services/http:s:web"])
async def test_a_request_reaches_the_pod_and_the_answer_comes_back(api: Harness, kubelet: Kubelet, name: str) -> None:
    """[sig-network] Proxy version v1 should proxy through a service and a pod."""
    kubelet.reply = b"HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nx-own: 1\r\n\r\nok"
    answer = await api.raw("POST", f"{NAMESPACE}/{name}/proxy/a b/", b"{}", q="1")
    assert (answer.status, answer.body) == (201, b"ok")
    assert kubelet.asked[0].startswith(b"POST /a%20b/?q=1 HTTP/1.1\r\nhost: 10.0.0.9:8080\r\n")
    assert kubelet.asked[0].endswith(b"\r\n\r\n{}")
    assert b"authorization" not in kubelet.asked[0]


async def test_a_page_leads_through_the_proxy(api: Harness, kubelet: Kubelet) -> None:
    kubelet.reply = b'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<a href="/x">'
    answer = await api.raw("GET", f"{NAMESPACE}/pods/http:p:8080/proxy/y")
    assert answer.body == f'<a href="{NAMESPACE}/pods/http:p:8080/proxy/x">'.encode()


@pytest.mark.parametrize(("method", "code"), [("GET", 301), ("HEAD", 301), ("DELETE", 200), ("OPTIONS", 200)])
async def test_the_bare_path_redirects_those_who_only_read(
    api: Harness, kubelet: Kubelet, method: str, code: int
) -> None:
    """[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy."""
    kubelet.reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    answer = await api.raw(method, f"{NAMESPACE}/pods/p/proxy", m="1")
    assert answer.status == code
    if code == 301:
        assert answer.headers["location"] == f"{NAMESPACE}/pods/p/proxy/?m=1"


async def test_a_port_where_nobody_listens_is_unavailable(api: Harness, kubelet: Kubelet) -> None:
    code, told = await api.ask("GET", f"{NAMESPACE}/pods/p:1/proxy/")
    assert (code, told["reason"]) == (503, "ServiceUnavailable")
    assert "connection refused" in told["message"]


async def test_a_service_without_endpoints_is_unavailable(api: Harness) -> None:
    await api.ask("POST", f"{NAMESPACE}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    await api.ask("POST", f"{NAMESPACE}/endpoints", {"metadata": {"name": "s"}})
    code, told = await api.ask("GET", f"{NAMESPACE}/services/s/proxy/")
    assert (code, told["message"]) == (503, 'no endpoints available for service "s"')
