"""The pytest plugin: a cluster as a fixture, pods and Services on it, and whether they reach each other.

Owns the fixtures' names, the options and what a failure prints. Every pytest where nodeagent is installed loads it, so
nothing but pytest is imported before a fixture is asked for. Must not know how anything is done.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from nodeagent.lab.testing import expect
    from nodeagent.lab.testing.handle import Keeper, Lab
    from nodeagent.lab.testing.pods import Pods

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
LOG_LINES = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the lab's options."""
    group = parser.getgroup("nodeagent", "nodeagent: tests on a cluster")
    group.addoption("--lab-nodes", type=int, default=1, metavar="N", help="nodes of the cluster (1 to 20; default 1)")
    group.addoption("--lab-keep", action="store_true", help="leave the cluster running, for a look and the next run")


@pytest.fixture(scope="session")
def labs(pytestconfig: pytest.Config) -> Iterator[Keeper]:
    """Keeps one lab at a time: `labs.of(3)` is one of three nodes. One for each xdist worker."""
    if os.geteuid() != 0:
        words = shlex.join([sys.executable, "-m", "pytest", *pytestconfig.invocation_params.args])
        pytest.fail(f"a lab needs root: it makes namespaces and mounts. Run: sudo {words}", pytrace=False)
    from nodeagent.lab import errors
    from nodeagent.lab.testing import handle

    try:
        folder = handle.place()
    except errors.LabError as error:
        _fail(error)
    keep = bool(pytestconfig.getoption("--lab-keep"))
    kept = folder / f"nodeagent-{_kept_name(pytestconfig.rootpath)}"
    made = handle.Keeper(kept if keep else folder / f"nodeagent-{os.getpid()}-{handle.unique()}", keep=keep)
    yield made
    made.end()


@pytest.fixture(scope="session")
def lab(labs: Keeper, pytestconfig: pytest.Config) -> Lab:
    """The cluster: its nodes, its kubeconfig; kill, start, restart, partition, heal, exec, load_image."""
    from nodeagent.lab import errors

    try:
        return labs.of(pytestconfig.getoption("--lab-nodes"))
    except errors.LabError as error:
        _fail(error)


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """The name of a fresh namespace; it and what is in it go with the test."""
    from nodeagent.lab.testing import handle, namespaces

    name = f"test-{handle.unique()}"
    namespaces.create(lab.kubeconfig, name)
    yield name
    namespaces.delete(lab.kubeconfig, name)


@pytest.fixture
def pods(lab: Lab, namespace: str) -> Pods:
    """Makes pods and Services in the test's namespace: `pods.run("client")`, `pods.serve("web", replicas=2)`."""
    from nodeagent.lab.testing import pods

    return pods.Pods(lab, namespace)


@pytest.fixture
def expect_reachable(lab: Lab) -> expect.Reachable:
    """`expect_reachable(client, "web:80")`: fails, with the packet's path, unless it comes to be so in time."""
    from nodeagent.lab.testing import expect

    return expect.Reachable(lab)


@pytest.fixture
def expect_unreachable(lab: Lab) -> expect.Unreachable:
    """`expect_unreachable(client, pod, because="timeout")`: where `because` is given, a refusal is no timeout."""
    from nodeagent.lab.testing import expect

    return expect.Unreachable(lab)


def _fail(error: Exception) -> NoReturn:
    hint = getattr(error, "hint", "")
    pytest.fail(f"{error}" + (f"\n  try: {hint}" if hint else ""), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test on a lab that fails shows what the services have said since it began."""
    report = yield
    keeper: Keeper | None = getattr(item, "funcargs", {}).get("labs")
    if report.failed and keeper is not None and keeper.lab is not None:
        logs = keeper.lab.logs(since=call.start, lines=LOG_LINES)
        report.sections += [(f"log of {name}", text) for name, text in logs.items()]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the labs are that were kept."""
    if not config.getoption("--lab-keep") or WORKER:
        return
    from nodeagent.lab import errors
    from nodeagent.lab.testing import handle

    try:
        found = sorted(handle.place().glob(f"nodeagent-{_kept_name(config.rootpath)}*"))
    except errors.LabError:
        return
    for directory in found:
        terminalreporter.write_line(f"lab kept; remove it with: {_program()} lab down --directory {directory}")


def _kept_name(root: Path) -> str:
    """One for each project and worker, the same in each run."""
    return "-".join(filter(None, ("kept", hashlib.sha256(str(root).encode()).hexdigest()[:8], WORKER)))


def _program() -> str:
    return os.path.join(os.path.dirname(sys.executable), "nodeagent")
