"""Clusters to test on, by the product's own plugin: one at a time, kept from test to test; kubectl in a namespace of
its own. A module says how many nodes its tests need: NODES = 3.
"""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Kubectl

from nodeagent.lab import cluster
from nodeagent.lab.testing.handle import Keeper, Lab


@pytest.fixture
def lab(request: pytest.FixtureRequest, labs: Keeper) -> Lab:
    """The plugin's `lab`, of the size the module asks for."""
    return labs.of(getattr(request.module, "NODES", 1))


@pytest.fixture
def one_node(labs: Keeper) -> cluster.Running:
    """A cluster of one node."""
    return labs.of(1).running


@pytest.fixture
def three_nodes(labs: Keeper) -> cluster.Running:
    """A cluster of three nodes."""
    return labs.of(3).running


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
