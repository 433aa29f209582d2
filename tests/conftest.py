"""What every test may rely on: who runs it, what is installed, and that the whole run leaves nothing on the host.

A prerequisite that is missing fails the test that needs it, by name: a skipped test proves nothing.
"""

import gc
import os
import shutil
import signal
from pathlib import Path
from types import FrameType

import census
import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
KUBECTL = ROOT / ".venv" / "bin" / "kubectl"
PROGRAMS = ("containerd", "ctr", "runc", "nft", "ip", "unshare", "nsenter", "busybox", "catatonit", "conntrack")
NEEDS_ROOT = {"kernel", "cluster"}
BEFORE = pytest.StashKey[census.Census]()
LAST = "leaves_nothing_behind"

# How many examples a property is tried on. For a long search: pytest --hypothesis-profile=thorough
hypothesis.settings.register_profile("quick", max_examples=30, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Count what is on the host before any test runs. A run that is told to end takes its labs down, as on Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt_once)
    if os.geteuid() == 0:
        session.config.stash[BEFORE] = census.take()


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C; what comes after the first does not disturb the clearing up (`timeout` sends two)."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The check for leaks goes last, whatever else is run with it."""
    items.sort(key=lambda item: LAST in item.name)


@pytest.fixture
def host_before(request: pytest.FixtureRequest) -> census.Census:
    """The census taken when the run began."""
    return request.config.stash[BEFORE]


@pytest.fixture(scope="session")
def root() -> None:
    """The test needs root."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root: run it with sudo, or leave it out: ./dev test lint unit")


@pytest.fixture(scope="session")
def programs(root: None) -> None:
    """The test needs the programs a node runs."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; ./dev test brings them")


@pytest.fixture(scope="session")
def kubectl_program(root: None) -> Path:
    """The current kubectl that ./dev test has put into the virtual environment."""
    if not KUBECTL.exists():
        pytest.fail(f"{KUBECTL} is missing; ./dev test cluster brings it")
    return KUBECTL


@pytest.fixture(autouse=True)
def _root_where_it_is_needed(request: pytest.FixtureRequest) -> None:
    """Kernel and cluster tests change namespaces, mounts and rules: without root they fail, and say so."""
    if NEEDS_ROOT & set(request.path.relative_to(ROOT).parts):
        request.getfixturevalue("root")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was collected stays: the garbage collector need not look through it after every few tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
