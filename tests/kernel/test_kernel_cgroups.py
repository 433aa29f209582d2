"""Pod cgroups in this kernel's own hierarchies, under a root that is thrown away."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kube import types
from nodeagent.resources import cgroups, tree

UID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def layout() -> Iterator[cgroups.Layout]:
    name = f"/nodeagent-test-{secrets.token_hex(3)}"
    found = cgroups.Layout(version=tree.version(), driver="cgroupfs", root=name)
    yield found
    tree.Tree(found).remove([cgroups.pods_root(found), name])
    assert not list(tree.MOUNT.glob(f"*{name}")) and not list(tree.MOUNT.glob(f"*/{name.lstrip('/')}"))


def limited(memory: str) -> types.Pod:
    resources = {"limits": {"cpu": "200m", "memory": memory}}
    obj = {"metadata": {"uid": UID}, "spec": {"containers": [{"name": "a", "image": "x", "resources": resources}]}}
    return msgspec.convert(obj, types.Pod)


def limit_file(planned: cgroups.PodCgroup, layout: cgroups.Layout) -> Path:
    if layout.version == 2:
        return tree.MOUNT / planned.path.lstrip("/") / "memory.max"
    return tree.MOUNT / "memory" / planned.path.lstrip("/") / "memory.limit_in_bytes"


def test_the_kernel_takes_a_pods_limits_and_their_change(layout: cgroups.Layout) -> None:
    it, planned = tree.Tree(layout), cgroups.plan(limited("64Mi"), layout=layout, pids=100)
    it.create(planned)
    assert limit_file(planned, layout).read_text().strip() == str(64 << 20)
    it.update(cgroups.plan(limited("128Mi"), layout=layout, pids=100))
    assert limit_file(planned, layout).read_text().strip() == str(128 << 20)
    assert it.pods() == {UID}


def test_a_process_may_live_in_it_and_what_is_left_of_containers_is_removed_with_it(layout: cgroups.Layout) -> None:
    it, planned = tree.Tree(layout), cgroups.plan(limited("64Mi"), layout=layout)
    it.create(planned)
    folder = limit_file(planned, layout).parent / "container"
    folder.mkdir()
    sleeper = subprocess.Popen(["sleep", "30"])
    try:
        (folder / "cgroup.procs").write_text(str(sleeper.pid))
        assert folder.joinpath("cgroup.procs").read_text().split() == [str(sleeper.pid)]
    finally:
        sleeper.kill()
        sleeper.wait(10)
    it.remove(cgroups.every_pod_path(UID, layout=layout))
    assert it.pods() == set() and not folder.parent.exists()
