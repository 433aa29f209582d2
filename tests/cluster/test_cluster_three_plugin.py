"""The plugin's fixtures on three nodes: reachable, refused, silent and nameless are told apart; failures explain."""

from pathlib import Path
from typing import Any

import pytest
from test_cluster_user import ROOT, blocks

from nodeagent.lab import errors
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


def test_the_logs_of_a_failure_are_those_since_the_test_began(labs: Keeper, lab: Lab) -> None:
    assert labs.lab is lab
    assert "server server" in lab.logs()
    assert lab.logs(since=2**40) == {}
    assert Path(lab.kubeconfig).exists()
