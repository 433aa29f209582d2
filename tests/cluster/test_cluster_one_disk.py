"""A full disk under the server's store: writes are refused in words, reads go on, and nothing that was told is lost."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Kubectl

from nodeagent.lab import cluster, phases
from nodeagent.lab.testing import handle

SIZE_MIB = 256


@pytest.fixture
def small_disk(programs: None) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    path = Path("/dev/shm") / f"natest-{os.getpid()}-small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "natest", str(path)], check=True, timeout=10)
    yield path
    cluster.down(path / "lab")
    subprocess.run(["umount", str(path)], check=True, timeout=10)
    path.rmdir()


def fill(path: Path) -> None:
    """Write until nothing fits."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass


def test_a_full_disk_refuses_writes_in_words_and_loses_nothing(
    small_disk: Path, kubectl_for: Callable[[cluster.Running], Kubectl]
) -> None:
    options = cluster.Options(directory=small_disk / "lab", nodes=1, port=0, outside=False)
    running = cluster.up(options, report=phases.Phases())
    handle.Lab(running).wait()
    kubectl = kubectl_for(running)
    kubectl.ok("create", "configmap", "early", "--from-literal=a=b")
    ballast = small_disk / "ballast"
    fill(ballast)
    big = "x" * 200_000
    told, refusal = [], ""
    for number in range(40):
        answer = kubectl(["create", "configmap", f"late-{number}", f"--from-literal=a={big[:100_000]}"])
        if answer.code == 0:
            told.append(f"configmap/late-{number}")
        else:
            refusal = answer.err
            break
    assert "disk" in refusal or "space" in refusal or "full" in refusal, refusal
    assert kubectl.ok("get", "configmap", "early", "-o", "jsonpath={.data.a}") == "b"
    ballast.unlink()
    kubectl.ok("create", "configmap", "after", "--from-literal=a=b")
    names = set(kubectl.ok("get", "configmaps", "-o", "name").split())
    assert {"configmap/early", "configmap/after", *told} <= names
