"""Machines to test on: one for each cgroup driver, or a pair; kubectl on the host speaks to them."""

import json
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from harness import Kubectl
from vm import cluster, qemu, seed

SECONDS = 1800
"""For a test with all it waits for: where a processor is emulated everything takes ten times as long."""
PIDS = 512
DRIVERS: tuple[seed.Driver, ...] = ("cgroupfs", "systemd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vm-pause", type=float, default=20.0, help="seconds that paused machines sleep (default: 20)")
    parser.addoption("--vm-memory", type=int, default=2048, help="MiB of each machine of a pair (default: 2048)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS))


class Machines:
    """Clusters of machines under the name the cluster tests know; one is up at a time."""

    def __init__(self, folder: Path, *, say: cluster.Say) -> None:
        self._say = say
        self._boot = cluster.boot_image(say=say)
        self._kvm = qemu.kvm_works(folder, self._boot)
        self._up: cluster.Cluster | None = None
        if not self._kvm:
            say("this host lends no processor that runs a kernel: machines are emulated, everything takes its time")

    def start(self, **options: Any) -> cluster.Cluster:
        self.end()
        self._up = cluster.up(self._boot, kvm=self._kvm, say=self._say, **options)
        return self._up

    def of(self, nodes: int) -> cluster.Cluster:
        """The cluster that is up, once its nodes are Ready."""
        assert self._up is not None and len(self._up.machines) == nodes
        self._up.wait()
        return self._up

    def end(self) -> None:
        if self._up is not None:
            self._up.end()
            self._up = None

    def logs(self) -> dict[str, str]:
        return self._up.logs() if self._up is not None else {}


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """Where machines come from."""
    terminal = request.config.get_terminal_writer()
    made = Machines(tmp_path_factory.mktemp("vm"), say=lambda text: terminal.line(f"\n--  {text}"))
    yield made
    made.end()


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> seed.Driver:
    """Who makes cgroups."""
    found: seed.Driver = request.param
    return found


@pytest.fixture(scope="session")
def labs(machines: Machines, driver: seed.Driver) -> Iterator[Machines]:
    """One node with this driver, in the place of the cluster tests' labs."""
    running = machines.start(driver=driver).machines[0]
    document = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "podPidsLimit": PIDS}
    running("/usr/bin/tee", "/etc/nodeagent/50-pids.yaml", stdin=json.dumps(document).encode())
    running("/usr/bin/systemctl", "restart", "nodeagent-agent", seconds=SECONDS)
    yield machines
    machines.end()


@pytest.fixture
def node(labs: Machines) -> qemu.Running:
    """The one node's machine."""
    return labs.of(1).machines[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that fails shows what the services said."""
    report = yield
    used: Any = getattr(item, "funcargs", {}).get("machines")
    if report.failed and isinstance(used, Machines):
        report.sections += [(f"log of {name}", text) for name, text in used.logs().items()]
    return report


@pytest.fixture
def kubectl_for(kubectl_program: Path) -> Iterator[Callable[[cluster.Cluster], Kubectl]]:
    """Makes a kubectl in a fresh namespace of a cluster; the namespace goes with the test."""
    made: list[Kubectl] = []

    def make(running: cluster.Cluster) -> Kubectl:
        bound = Kubectl(kubectl_program, running.plan.kubeconfig, f"test-{secrets.token_hex(3)}")
        bound.ok("create", "namespace", bound.namespace)
        made.append(bound)
        return bound

    yield make
    for bound in made:
        bound(["delete", "pods", "--all", "--force", "--grace-period=0"])
        bound(["delete", "namespace", bound.namespace, "--wait=false"])


@pytest.fixture
def kubectl(labs: Machines, kubectl_for: Callable[[cluster.Cluster], Kubectl]) -> Kubectl:
    """kubectl on the cluster of one node."""
    return kubectl_for(labs.of(1))
