"""Clusters to test on, one at a time, kept from test to test; kubectl; a namespace for each test."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Kubectl, Labs

from nodeagent.lab import cluster


@pytest.fixture(scope="session")
def labs(programs: None, kubectl_program: Path) -> Iterator[Labs]:
    made = Labs()
    yield made
    made.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A cluster test that fails shows what the services said."""
    report = yield
    used: Any = getattr(item, "funcargs", {}).get("labs")
    if report.failed and isinstance(used, Labs):
        report.sections += [(f"log of {name}", text) for name, text in used.logs().items()]
    return report


@pytest.fixture
def one_node(labs: Labs) -> cluster.Running:
    """A cluster of one node."""
    return labs.of(1)


@pytest.fixture
def three_nodes(labs: Labs) -> cluster.Running:
    """A cluster of three nodes."""
    return labs.of(3)


@pytest.fixture
def kubectl_for(kubectl_program: Path) -> Iterator[Callable[[cluster.Running], Kubectl]]:
    """Makes a kubectl in a fresh namespace of a cluster; the namespace goes with the test."""
    made: list[Kubectl] = []

    def make(running: cluster.Running) -> Kubectl:
        bound = Kubectl(kubectl_program, running.plan.kubeconfig, f"test-{secrets.token_hex(3)}")
        bound.ok("create", "namespace", bound.namespace)
        made.append(bound)
        return bound

    yield make
    for bound in made:
        bound(["delete", "pods", "--all", "--force", "--grace-period=0"])
        bound(["delete", "namespace", bound.namespace, "--wait=false"])


@pytest.fixture
def kubectl(one_node: cluster.Running, kubectl_for: Callable[[cluster.Running], Kubectl]) -> Kubectl:
    """kubectl on the cluster of one node."""
    return kubectl_for(one_node)
