"""The plugin's fixtures on three nodes: reachable, refused, silent and nameless are told apart; failures explain."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Kubectl
from test_cluster_user import ROOT, blocks

from nodeagent.lab import cluster, errors
from nodeagent.lab.testing import expect
from nodeagent.lab.testing.handle import Keeper, Lab
from nodeagent.lab.testing.pods import Pods

NODES = 3


def test_the_test_that_the_page_shows_holds(
    lab: Lab, pods: Pods, expect_reachable: expect.Reachable, expect_unreachable: expect.Unreachable
) -> None:
    shown = blocks(ROOT / "tests" / "README.md", "A test on a cluster")[0]
    assert len(shown.strip().splitlines()) <= 10
    names: dict[str, Any] = {}
    exec(shown, names)
    test = next(value for name, value in names.items() if name.startswith("test_"))
    test(lab, pods, expect_reachable, expect_unreachable)


def test_udp_that_nobody_listens_for_is_refused_and_no_route_is_told(
    pods: Pods, expect_unreachable: expect.Unreachable
) -> None:
    client, server = pods.run("client", node="node-1"), pods.run("server", node="node-3")
    expect_unreachable(client, server, port=81, protocol="UDP", because="refused")
    expect_unreachable("node-2", "10.244.200.1:80", because="no route")
    with pytest.raises(AssertionError, match="be told 'timeout'"):
        expect_unreachable(client, server, port=81, because="timeout", within=0.5)


def test_machines_are_sources_and_targets_by_name(lab: Lab, pods: Pods, expect_reachable: expect.Reachable) -> None:
    client = pods.run("client", node="node-2")
    expect_reachable(client, "server:6443")
    expect_reachable(client, "node-3", port=10250)
    expect_reachable("node-1", "node-2:10250")
    assert lab.exec("node-2", "hostname") == "node-2\n"
    assert pods.exec(client, "hostname") == "client\n"


def test_a_pod_that_does_not_become_ready_says_why(pods: Pods) -> None:
    with pytest.raises(errors.LabError, match=r"pod lost is not Ready after 3 s: .*node") as caught:
        pods._post(*_unplaceable())
        pods.wait("lost", seconds=3)
    assert "describe pod lost" in caught.value.hint


def _unplaceable() -> Any:
    from kube import scheme
    from nodeagent.lab.testing import pods

    return scheme.PODS, pods.pod("lost", node="nowhere", labels={})


def test_a_target_without_a_port_is_told(pods: Pods, expect_reachable: expect.Reachable) -> None:
    client = pods.run("client")
    with pytest.raises(errors.LabError, match="no port is known for web"):
        expect_reachable(client, "web")


def test_a_failure_tells_the_packets_path_and_where_it_stops(
    lab: Lab, pods: Pods, expect_reachable: expect.Reachable
) -> None:
    client, server = pods.run("client", node="node-1"), pods.run("server", node="node-3")
    with pytest.raises(AssertionError) as caught:
        expect_reachable(client, server, port=81, within=0)
    told = str(caught.value)
    assert told.startswith(
        f"client should reach server ({server.ip}:81) over TCP within 0 s: refused at {server.ip}:81"
    )
    assert f"$ nodeagent trace -n {pods.namespace} pod/client {server.ip}:81" in told
    assert told.endswith("STOPS: nobody listens on tcp port 81")


def trace(lab: Lab, *words: str, code: int) -> dict[str, Any]:
    """`nodeagent trace`, as a program runs it."""
    argv = [sys.executable, "-m", "nodeagent", "trace", *words, "--directory", str(lab.directory), "--output", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_trace_goes_from_a_name_through_the_rules_to_the_socket_on_another_node(
    lab: Lab, pods: Pods, expect_reachable: expect.Reachable
) -> None:
    web = pods.serve("web", nodes=["node-2"])
    client = pods.run("client", node="node-1")
    expect_reachable(client, "web:80")
    way = trace(lab, "-n", pods.namespace, "client", "->", "web", code=0)
    seen = {(hop["machine"], hop["place"]): hop for hop in way["hops"]}
    assert seen["node-1", "DNS server 10.96.0.10"]["onward"] == [web.ip]
    assert seen["node-1", "service rules (nftables)"]["onward"] == [f"{web.pods[0].ip}:8080"]
    assert seen["node-1", "connection tracking"]["onward"] == [f"{web.pods[0].ip}:8080"]
    assert seen["node-1", "neighbour"]["onward"] == ["192.168.77.12"]
    assert "the pod's veth" in seen["node-2", "bridge entry"]["found"]
    assert "0.0.0.0:8080" in seen["node-2", "listening socket"]["found"]
    assert (way["outcome"], way["stops"], way["hops"][-1]["place"]) == ("reached", "", "connection")
    assert all(hop["command"] for hop in way["hops"])


def test_a_trace_stops_at_a_cut_wire_a_policy_and_a_service_without_endpoints(
    lab: Lab, pods: Pods, kubectl_for: Callable[[cluster.Running], Kubectl], expect_unreachable: expect.Unreachable
) -> None:
    web = pods.serve("web", nodes=["node-2"])
    client = pods.run("client", node="node-1")
    asked = ("-n", pods.namespace, "client", f"{web.pods[0].ip}:8080")
    lab.partition("node-1", "node-2")
    stopped = trace(lab, *asked, code=1)["hops"][-1]
    assert stopped["stops"] in (
        "the machine 192.168.77.12 does not answer: the wire to it is cut, or it is down",
        "nobody answers for 192.168.77.12 on eth0",
    )
    lab.heal()
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": pods.namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
    }
    kubectl_for(lab.running).ok("create", "-n", pods.namespace, "-f", "-", stdin=json.dumps(deny))
    expect_unreachable(client, web.pods[0])
    stopped = trace(lab, *asked, code=1)["hops"][-1]
    assert (stopped["place"], f"{pods.namespace}/deny" in stopped["found"]) == ("network policies", True)
    pods.delete("web-0")
    expect_unreachable(client, "web:80", because="refused")
    assert trace(lab, "-n", pods.namespace, "client", "web", code=1)["stops"].startswith("refused")


def test_the_logs_of_a_failure_are_those_since_the_test_began(labs: Keeper, lab: Lab) -> None:
    assert labs.lab is lab
    assert "server server" in lab.logs()
    assert lab.logs(since=2**40) == {}
    assert Path(lab.kubeconfig).exists()
