# ruff: noqa: E501 (the names of the specs are as long as they are)
"""The outcomes that the conformance suite's network specs check, each under the spec's own name, on shared servers."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conformance_lifecycles import LIFECYCLES
from conformance_network import HTTP, UDP, Json, Net, client, endpoint_slice, server, service
from harness import Kubectl

from nodeagent.lab import machine, plan
from nodeagent.lab.testing.handle import Keeper

Check = Callable[[Net], None]
CHECKS: dict[str, Check] = {}
GRANULAR = "[sig-network] Networking Granular Checks: Pods should function for "
AFFINE: Json = {"sessionAffinity": "ClientIP"}
ZONE = "svc.cluster.local"


def spec(name: str) -> Callable[[Check], Check]:
    """Registers a check under the spec's name, without its tags."""

    def register(check: Check) -> Check:
        assert name not in CHECKS
        CHECKS[name] = check
        return check

    return register


@pytest.fixture(scope="module")
def net(labs: Keeper, kubectl_program: Path) -> Iterator[Net]:
    """Two servers with the label app=web, a third with app=other, and a client."""
    running = labs.of(1).running
    kubectl = Kubectl(kubectl_program, running.plan.kubeconfig, f"test-{secrets.token_hex(3)}")
    kubectl.ok("create", "namespace", kubectl.namespace)
    found = Net(kubectl, running.plan.nodes[0].ip)
    found.run_on_node = lambda argv: machine.run(running.first("node-1"), argv).decode()  # type: ignore[attr-defined]
    try:
        webs = [server(f"web-{n}", app="web") for n in (1, 2)]
        found.create(*webs, server("other", app="other"), client("client"), service("web"))
        found.ready("web-1", "web-2", "other", "client")
        yield found
    finally:
        kubectl(["delete", "pods", "--all", "--force", "--grace-period=0"])
        kubectl(["delete", "namespace", kubectl.namespace, "--wait=false"])


@spec("[sig-network] API Server should provide secure master service")
@spec("[sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server")
def api_server(net: Net) -> None:
    found = net.get("service", "kubernetes", "-n", "default")["spec"]
    assert [(p["name"], p["port"]) for p in found["ports"]] == [("https", 443)]
    (subset,) = net.get("endpoints", "kubernetes", "-n", "default")["subsets"]
    shown = net.get("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")["items"]
    addresses = {a for each in shown for e in each["endpoints"] for a in e["addresses"]}
    assert {each["ip"] for each in subset["addresses"]} == addresses
    net.connect(found["clusterIP"], 443)


@spec("[sig-network] DNS should provide DNS for the cluster")
def dns_cluster(net: Net) -> None:
    assert plan.API_SERVICE in net.lookup(f"kubernetes.default.{ZONE}")


@spec("[sig-network] DNS should resolve DNS of partial qualified names for services")
def dns_partial(net: Net) -> None:
    own = net.address("web")
    for name in ("web", f"web.{net.kubectl.namespace}", f"web.{net.kubectl.namespace}.svc"):
        assert net.ask(name, 80)[0] in ("web-1", "web-2"), name
    assert own in net.lookup(f"web.{net.kubectl.namespace}.{ZONE}")


@spec("[sig-network] DNS should provide DNS for services")
def dns_services(net: Net) -> None:
    net.create(service("bare", {"name": "http", "port": HTTP}, selector={"app": "web"}, clusterIP="None"))
    found = net.until(
        lambda: (text := net.lookup(f"bare.{net.kubectl.namespace}.{ZONE}")).count("Address") > 2 and text
    )
    assert all(net.ip(pod) in found for pod in ("web-1", "web-2"))
    full = f"web.{net.kubectl.namespace}.{ZONE}"
    assert f"80 {full}" in net.lookup(f"_http._tcp.{full}", "-type=srv")
    assert full in net.lookup(net.address("web"))


@spec("[sig-network] DNS should provide DNS for pods for Hostname")
@spec("[sig-network] DNS should provide DNS for pods for Subdomain")
def dns_pod_names(net: Net) -> None:
    made = server("querier", app="named")
    made["spec"] |= {"hostname": "querier-2", "subdomain": "named"}
    net.create(service("named", {"name": "http", "port": HTTP}, clusterIP="None"), made)
    net.ready("querier")
    full = f"querier-2.named.{net.kubectl.namespace}.{ZONE}"
    assert net.ip("querier") in net.lookup(full)
    assert net.kubectl.ok("exec", "querier", "--", "hostname", "-f").strip() == full


@spec("[sig-network] DNS should provide /etc/hosts entries for the cluster")
def dns_hosts(net: Net) -> None:
    text = net.kubectl.ok("exec", "client", "--", "cat", "/etc/hosts")
    assert f"{net.ip('client')}\tclient" in text
    assert "127.0.0.1" in text


@spec("[sig-network] DNS should provide DNS for ExternalName services")
def dns_external(net: Net) -> None:
    outside: Json = {"type": "ExternalName", "externalName": f"web.{net.kubectl.namespace}.{ZONE}"}
    net.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"}, "spec": outside})
    full = f"alias.{net.kubectl.namespace}.{ZONE}"
    assert f"web.{net.kubectl.namespace}.{ZONE}" in net.lookup(full, "-type=cname")
    net.patch("service", "alias", body={"spec": {"externalName": f"kubernetes.default.{ZONE}"}})
    net.until(lambda: f"kubernetes.default.{ZONE}" in net.lookup(full, "-type=cname"))
    ports = [{"port": 80, "name": "http"}]
    net.patch("service", "alias", body={"spec": {"type": "ClusterIP", "externalName": None, "ports": ports}})
    net.until(lambda: net.address("alias") in net.lookup(full))


@spec("[sig-network] DNS should support configurable pod DNS nameservers")
def dns_config(net: Net) -> None:
    wanted = {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]}
    net.create(client("asks", dnsPolicy="None", dnsConfig=wanted))
    net.ready("asks")
    text = net.kubectl.ok("exec", "asks", "--", "cat", "/etc/resolv.conf")
    assert text.split() == ["search", "resolv.conf.local", "nameserver", "1.1.1.1"] or set(text.splitlines()) == {
        "nameserver 1.1.1.1",
        "search resolv.conf.local",
    }


def granular(kind: str, port: int, *, node: bool) -> Check:
    """A check that each server is reached, from a pod or from the node."""

    def check(net: Net) -> None:
        if node and "hosted" not in net.kubectl.ok("get", "pods", "-o", "name"):
            net.create(client("hosted", hostNetwork=True))
            net.ready("hosted")
        for pod in ("web-1", "web-2"):
            net.answered(net.ip(pod), port, pod, kind=kind, by="hosted" if node else "client")

    return check


CHECKS |= {
    GRANULAR + "intra-pod communication: http": granular("http", HTTP, node=False),
    GRANULAR + "intra-pod communication: udp": granular("udp", UDP, node=False),
    GRANULAR + "node-pod communication: http": granular("http", HTTP, node=True),
    GRANULAR + "node-pod communication: udp": granular("udp", UDP, node=True),
}


@spec("[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service")
@spec("[sig-network] EndpointsController should create Endpoints for Pods matching a Service")
def endpoints_of_pods(net: Net) -> None:
    wanted = {net.ip("web-1"), net.ip("web-2")}
    net.until(lambda: net.shown("web") == wanted)
    (subset,) = net.get("endpoints", "web")["subsets"]
    assert {each["ip"] for each in subset["addresses"]} == wanted


@spec(
    "[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no pods"
)
@spec(
    "[sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods"
)
def endpoints_of_nobody(net: Net) -> None:
    net.create(service("nobody"))
    net.until(lambda: len(net.slices("nobody")) == 1)
    net.until(lambda: net.kubectl(["get", "endpoints", "nobody"]).code == 0)
    assert net.shown("nobody") == set()
    net.kubectl.ok("delete", "service", "nobody")
    net.until(lambda: not net.slices("nobody") and net.kubectl(["get", "endpoints", "nobody"]).code != 0)


@spec("[sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices")
def slices_ports(net: Net) -> None:
    ports: list[Json] = [{"name": "one", "port": 81}, {"name": "two", "port": 82}]
    slices = [
        endpoint_slice("ports-1", "ports", [net.ip("web-1")], {"name": "one", "port": HTTP, "protocol": "TCP"}),
        endpoint_slice("ports-2", "ports", [net.ip("web-2")], {"name": "two", "port": HTTP, "protocol": "TCP"}),
    ]
    net.create(service("ports", *ports, selector={}), *slices)
    net.answered(net.address("ports"), 81, "web-1")
    net.answered(net.address("ports"), 82, "web-2")


@spec(
    "[sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices"
)
def slices_addresses(net: Net) -> None:
    port: Json = {"name": "http", "port": HTTP, "protocol": "TCP"}
    slices = [endpoint_slice(f"ips-{pod}", "ips", [net.ip(pod)], port) for pod in ("web-1", "web-2")]
    net.create(service("ips", {"name": "http", "port": 80}, selector={}), *slices)
    net.answered(net.address("ips"), 80, "web-1", "web-2")


@spec("[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete")
def mirroring(net: Net) -> None:
    def made(address: str) -> Json:
        subsets = [{"addresses": [{"ip": address}], "ports": [{"name": "http", "port": HTTP}]}]
        return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "byhand"}, "subsets": subsets}

    net.create(service("byhand", {"name": "http", "port": 80}, selector={}), made(net.ip("web-1")))
    net.answered(net.address("byhand"), 80, "web-1")
    net.patch("endpoints", "byhand", body={"subsets": made(net.ip("web-2"))["subsets"]})
    net.answered(net.address("byhand"), 80, "web-2")
    assert len(net.slices("byhand")) == 1
    net.kubectl.ok("delete", "endpoints", "byhand")
    net.until(lambda: not net.slices("byhand"))


@spec(
    "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol"
)
def host_port(net: Net) -> None:
    number = 54323
    for name, address, protocol in (("p1", "127.0.0.1", "TCP"), ("p2", net.node, "TCP"), ("p3", net.node, "UDP")):
        made = server(name)
        inner = HTTP if protocol == "TCP" else UDP
        made["spec"]["containers"][0]["ports"] = [
            {"containerPort": inner, "hostPort": number, "hostIP": address, "protocol": protocol}
        ]
        net.create(made)
    net.ready("p1", "p2", "p3")
    net.answered(net.node, number, "p2")
    net.answered(net.node, number, "p3", kind="udp")
    page = net.run_on_node(["busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:{number}/hostname"])  # type: ignore[attr-defined]
    assert page.split()[0] == "p1"


@spec("[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy")
@spec("[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath")
@spec("[sig-network] Proxy version v1 should proxy through a service and a pod")
def proxying(net: Net) -> None:
    base = f"/api/v1/namespaces/{net.kubectl.namespace}"
    for path in ("", "/some/path"):
        assert net.raw(f"{base}/pods/http:web-1:{HTTP}/proxy{path}").split()[:3] == ["web-1", "GET", path or "/"]
        by_name = net.until(lambda path=path: net.raw(f"{base}/services/http:web:http/proxy{path}"))
        assert by_name.split()[0] in ("web-1", "web-2")


@spec("[sig-network] Service endpoints latency should not be very high")
def latency(net: Net) -> None:
    walls = []
    for number in range(20):
        begin = time.monotonic()
        net.create(service(f"late-{number}", selector={"app": "web"}))
        net.until(lambda number=number: net.shown(f"late-{number}"))
        walls.append(time.monotonic() - begin)
    assert sorted(walls)[len(walls) // 2] < 2.0
    net.kubectl.ok("delete", "service", *(f"late-{number}" for number in range(20)))


@spec("[sig-network] Services should serve a basic endpoint from pods")
def basic(net: Net) -> None:
    net.answered(net.address("web"), 80, "web-1", "web-2")
    net.create(service("moving", selector={"role": "moving"}))
    net.kubectl.ok("label", "pod", "web-1", "role=moving")
    net.answered(net.address("moving"), 80, "web-1")
    net.kubectl.ok("label", "pod", "web-1", "role-")
    net.until(lambda: net.ask(net.address("moving"), 80)[0].startswith("-"))


@spec("[sig-network] Services should serve multiport endpoints from pods")
@spec("[sig-network] Services should serve endpoints on same port and different protocols")
def multiport(net: Net) -> None:
    ports: list[Json] = [
        {"name": "tcp", "port": 80, "targetPort": HTTP, "protocol": "TCP"},
        {"name": "udp", "port": 80, "targetPort": UDP, "protocol": "UDP"},
        {"name": "more", "port": 81, "targetPort": HTTP, "protocol": "TCP"},
    ]
    net.create(service("several", *ports, selector={"app": "other"}))
    own = net.address("several")
    for port, kind in ((80, "http"), (80, "udp"), (81, "http")):
        net.answered(own, port, "other", kind=kind)
    net.patch("service", "several", body={"spec": {"ports": ports[:1]}})
    net.until(lambda: net.ask(own, 80, kind="udp")[0].startswith("-"))
    net.answered(own, 80, "other")


def affinity(*, node_port: bool, switch: bool) -> Check:
    """A check that a client stays with one endpoint, at a cluster address or a NodePort, and when it is switched."""

    def check(net: Net) -> None:
        name = f"sticky-{'node' if node_port else 'cluster'}{'-switched' if switch else ''}"
        kind = {"type": "NodePort"} if node_port else {}
        net.create(service(name, selector={"app": "web"}, **kind, **({} if switch else AFFINE)))
        found = net.get("service", name)["spec"]
        to = (net.node, found["ports"][0]["nodePort"]) if node_port else (found["clusterIP"], 80)
        if switch:
            net.answered(*to, "web-1", "web-2")
            net.patch("service", name, body={"spec": AFFINE})
        net.until(lambda: len(set(got := net.ask(*to, count=16))) == 1 and not got[0].startswith("-"))
        if switch:
            net.patch("service", name, body={"spec": {"sessionAffinity": "None"}})
            net.answered(*to, "web-1", "web-2")

    return check


CHECKS |= {
    "[sig-network] Services should have session affinity work for service with type clusterIP": affinity(
        node_port=False, switch=False
    ),
    "[sig-network] Services should have session affinity work for NodePort service": affinity(
        node_port=True, switch=False
    ),
    "[sig-network] Services should be able to switch session affinity for service with type clusterIP": affinity(
        node_port=False, switch=True
    ),
    "[sig-network] Services should be able to switch session affinity for NodePort service": affinity(
        node_port=True, switch=True
    ),
}


@spec("[sig-network] Services should be able to create a functioning NodePort service")
def node_port(net: Net) -> None:
    net.create(service("exposed", selector={"app": "web"}, type="NodePort"))
    number = net.get("service", "exposed")["spec"]["ports"][0]["nodePort"]
    net.answered(net.node, number, "web-1", "web-2")
    net.answered(net.address("exposed"), 80, "web-1", "web-2")


@spec("[sig-network] Services should be able to change the type from ExternalName to ClusterIP")
@spec("[sig-network] Services should be able to change the type from ClusterIP to ExternalName")
@spec("[sig-network] Services should be able to change the type from ExternalName to NodePort")
@spec("[sig-network] Services should be able to change the type from NodePort to ExternalName")
def changing_type(net: Net) -> None:
    name, target = f"kind-{secrets.token_hex(2)}", f"web.{net.kubectl.namespace}.{ZONE}"
    outside: Json = {"type": "ExternalName", "externalName": target}
    net.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": outside})
    full = f"{name}.{net.kubectl.namespace}.{ZONE}"
    for kind in ("ClusterIP", "NodePort"):
        inside = {
            "type": kind,
            "externalName": None,
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": HTTP}],
        }
        net.patch("service", name, body={"spec": inside})
        net.answered(net.address(name), 80, "web-1", "web-2")
        if kind == "NodePort":
            number = net.get("service", name)["spec"]["ports"][0]["nodePort"]
            net.answered(net.node, number, "web-1", "web-2")
        net.patch("service", name, body={"spec": outside | {"clusterIP": None, "clusterIPs": None, "ports": None}})
        net.until(lambda: target in net.lookup(full, "-type=cname"))


@spec("[sig-network] Services should complete a service status lifecycle")
def status_lifecycle(net: Net) -> None:
    net.create(service("told", selector={"app": "web"}))
    ingress = {"status": {"conditions": [condition("First")]}}
    assert (
        net.patch("service", "told", "--subresource=status", body=ingress)["status"]["conditions"][0]["type"] == "First"
    )
    assert net.get("service", "told", "--subresource=status")["status"]["conditions"][0]["type"] == "First"
    net.patch("service", "told", body={"metadata": {"labels": {"seen": "yes"}}})
    assert net.get("services", "-l", "seen=yes")["items"][0]["metadata"]["name"] == "told"
    net.kubectl.ok("delete", "service", "told")


def condition(kind: str) -> Json:
    return {
        "type": kind,
        "status": "True",
        "reason": "Test",
        "message": "from a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


@spec("[sig-network] Services should delete a collection of services")
@spec("[sig-network] Services should find a service from listing all namespaces")
def collection(net: Net) -> None:
    mark = f"batch-{secrets.token_hex(2)}"
    made = [service(f"{mark}-{n}", selector={"app": "web"}) for n in range(3)]
    for each in made:
        each["metadata"]["labels"] = {"batch": mark}
    net.create(*made)
    assert len(net.get("services", "-A", "-l", f"batch={mark}")["items"]) == 3
    net.kubectl.ok("delete", "services", "-l", f"batch={mark}")
    assert net.get("services", "-l", f"batch={mark}")["items"] == []


CHECKS |= LIFECYCLES


@spec("[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations")
def service_cidr(net: Net) -> None:
    found = net.get("servicecidrs", "kubernetes")
    assert found["spec"]["cidrs"] == [plan.SERVICE_CIDR]
    assert net.get("servicecidrs", "kubernetes", "--subresource=status")["metadata"]["uid"] == found["metadata"]["uid"]
    assert len(net.get("servicecidrs")["items"]) == 1


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_conformance(name: str, net: Net) -> None:
    """What several names are about is looked at once."""
    check = CHECKS[name]
    if check not in net.outcomes:
        try:
            check(net)
        except BaseException as error:
            net.outcomes[check] = error
            raise
        net.outcomes[check] = None
    if net.outcomes[check] is not None:
        pytest.fail(f"the same check has failed: {net.outcomes[check]}")
