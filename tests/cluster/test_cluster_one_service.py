"""A pod behind a Service on one node: by address, by name, over TCP and UDP, to itself, to nobody."""

from typing import Any

import pytest
from harness import Kubectl
from workloads import HTTP, address, create, fetch, pod, service, sh


@pytest.fixture
def web(kubectl: Kubectl) -> Kubectl:
    """A server behind a Service, and a client."""
    ports = {"name": "http", "port": 80, "targetPort": 8080}
    create(kubectl, pod("server", HTTP, app="web"), service("web", ports), pod("client", "sleep 3600"))
    return kubectl


def test_a_pod_reaches_a_service_by_address_and_by_every_form_of_its_name(web: Kubectl) -> None:
    full = f"web.{web.namespace}.svc.cluster.local"
    for host in (address(web, "web"), "web", f"web.{web.namespace}", full, full + ".:80"):
        assert fetch(web, "client", host) == "server"


def test_a_pod_reaches_itself_through_its_own_service(web: Kubectl) -> None:
    assert fetch(web, "server", address(web, "web")) == "server"


def test_the_node_reaches_a_service(web: Kubectl, one_node: Any) -> None:
    from nodeagent.lab import machine

    argv = ["busybox", "timeout", "5", "busybox", "wget", "-q", "-O", "-", f"http://{address(web, 'web')}/"]
    assert machine.run(one_node.first("node-1"), argv).decode().strip() == "server"


def test_names_answer_addresses_ports_and_the_way_back(web: Kubectl) -> None:
    found = address(web, "web")
    assert found in sh(web, "client", f"nslookup web.{web.namespace}.svc.cluster.local")
    srv = sh(web, "client", f"nslookup -type=srv _http._tcp.web.{web.namespace}.svc.cluster.local")
    assert f"80 web.{web.namespace}.svc.cluster.local" in srv
    assert f"web.{web.namespace}.svc.cluster.local" in sh(web, "client", f"nslookup {found}")


def test_a_name_that_is_not_there_is_told_at_once(web: Kubectl) -> None:
    answer = web(["exec", "client", "--", "nslookup", f"nothing.{web.namespace}.svc.cluster.local"])
    assert answer.code != 0
    assert "NXDOMAIN" in answer.out + answer.err


def test_a_headless_service_answers_with_its_pods(web: Kubectl) -> None:
    create(web, service("bare", {"port": 8080}, selector={"app": "web"}, clusterIP="None"))
    pod_ip = web.ok("get", "pod", "server", "-o", "jsonpath={.status.podIP}")
    name = f"bare.{web.namespace}.svc.cluster.local"
    assert pod_ip in sh(web, "client", f"for i in $(seq 50); do nslookup {name} && exit 0; sleep 0.1; done; exit 1")


def test_a_service_without_endpoints_refuses_at_once(web: Kubectl) -> None:
    create(web, service("empty", {"port": 80}))
    script = f"for i in 1 2 3; do timeout 3 nc -w 2 {address(web, 'empty')} 80 </dev/null; echo $?; sleep 0.3; done"
    assert sh(web, "client", script).split()[-1] == "1"


def test_one_service_carries_several_ports(kubectl: Kubectl) -> None:
    serve = "mkdir /www/{0}; echo {0} > /www/{0}/index.html; httpd -p {0} -h /www/{0}"
    script = "; ".join((serve.format(8081), serve.format(8082), "sleep 3600"))
    ports = [{"name": f"p{port}", "port": port, "targetPort": 8000 + port} for port in (81, 82)]
    create(kubectl, pod("server", script, app="many"), service("many", *ports), pod("client", "sleep 3600"))
    for port in (81, 82):
        assert fetch(kubectl, "client", f"{address(kubectl, 'many')}:{port}") == str(8000 + port)


def test_a_service_without_selector_carries_udp_to_the_endpoints_it_is_given(web: Kubectl) -> None:
    made = service("datagrams", {"name": "dns", "port": 90, "targetPort": 10053, "protocol": "UDP"})
    del made["spec"]["selector"]
    given = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "datagrams-1", "labels": {"kubernetes.io/service-name": "datagrams"}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": 10053, "protocol": "UDP"}],
        "endpoints": [{"addresses": ["192.168.77.11"], "conditions": {"ready": True}}],
    }
    create(web, made, given)
    name = f"web.{web.namespace}.svc.cluster.local"
    ask = f"timeout 3 nslookup -port=90 {name} {address(web, 'datagrams')}"
    answer = sh(web, "client", f"for i in $(seq 20); do {ask} && exit 0; sleep 0.1; done; exit 1")
    assert address(web, "web") in answer


def test_a_pod_that_is_gone_gets_no_more_connections(web: Kubectl) -> None:
    create(web, pod("server-2", HTTP, app="web"))
    web.ok("delete", "pod", "server", "--grace-period=1")
    assert {fetch(web, "client", address(web, "web")) for _ in range(10)} == {"server-2"}


def test_a_pod_may_ask_the_api_with_its_token(web: Kubectl) -> None:
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert sh(web, "client", f"cat {folder}/namespace") == web.namespace
    assert sh(web, "client", "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT") == "10.96.0.1:443"
    assert sh(web, "client", "timeout 3 nc -w 2 10.96.0.1 443 </dev/null && echo open") == "open"
