"""QoS classes, oom scores, and where cgroups go with which values."""

from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import UID, container, pod

from nodeagent.resources import cgroups, qos, tree

GIB = 1 << 30
V1 = cgroups.Layout(version=1, driver="cgroupfs", root="/lab/n1")
V2 = cgroups.Layout(version=2, driver="systemd")


def asks(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return container(more.pop("name", "main"), resources={"requests": requests or {}, "limits": limits or {}}, **more)


ALL = {"cpu": "100m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("containers", "klass"),
    [
        ([asks()], "BestEffort"),
        ([asks({"cpu": "0"})], "BestEffort"),
        ([asks({"cpu": "1"})], "Burstable"),
        ([asks(ALL, ALL)], "Guaranteed"),
        ([asks({}, ALL)], "Guaranteed"),
        ([asks(ALL, {"cpu": "200m", "memory": "64Mi"})], "Burstable"),
        ([asks({}, {"cpu": "1"})], "Burstable"),
        ([asks(ALL, ALL), asks(name="b")], "Burstable"),
        ([asks({"ephemeral-storage": "1Gi"})], "BestEffort"),
    ],
)
def test_the_qos_class(containers: list[dict[str, Any]], klass: str) -> None:
    assert qos.qos_class(pod(*containers)) == klass


def test_init_containers_count_for_the_class() -> None:
    assert qos.qos_class(pod(asks(ALL, ALL), init=(asks(name="i"),))) == "Burstable"


def test_a_pod_needs_what_its_hungriest_moment_needs() -> None:
    side = asks({"cpu": "100m"}, name="side", restartPolicy="Always")
    needed = qos.pod_requests(
        pod(asks({"cpu": "200m"}), asks({"cpu": "300m"}, name="b"), init=(side, asks({"cpu": "550m"}, name="i")))
    )
    assert needed["cpu"].milli() == 650
    assert qos.pod_requests(pod(asks({"cpu": "200m"}), overhead={"cpu": "50m"}))["cpu"].milli() == 250


@pytest.mark.parametrize(
    ("requests", "limits", "score"),
    [
        ({}, {}, 1000),
        (ALL, ALL, -997),
        ({"memory": "256Mi"}, {}, 750),
        ({"memory": "1"}, {}, 999),
        ({"memory": "2Gi"}, {}, 3),
        ({"cpu": "1"}, {}, 999),
    ],
)
def test_the_oom_score(requests: dict[str, str], limits: dict[str, str], score: int) -> None:
    made = pod(asks(requests, limits))
    assert qos.oom_score_adj(made, made.spec.containers[0], memory_capacity=GIB) == score


def test_node_critical_pods_and_sidecars_have_scores_of_their_own() -> None:
    critical = pod(asks(), priority=2_000_001_000)
    assert qos.oom_score_adj(critical, critical.spec.containers[0], memory_capacity=GIB) == -997
    side = asks({"memory": "1Mi"}, name="side", restartPolicy="Always")
    both = pod(asks({"memory": "512Mi"}), init=(side,))
    assert qos.oom_score_adj(both, both.spec.init_containers[0], memory_capacity=GIB) == 500


@pytest.mark.parametrize(("milli", "expected"), [(0, 2), (1, 2), (100, 102), (1000, 1024), (10**9, 262144)])
def test_shares(milli: int, expected: int) -> None:
    assert cgroups.shares(milli) == expected


@pytest.mark.parametrize(("milli", "expected"), [(0, -1), (1, 1000), (200, 20000), (2000, 200000)])
def test_quota(milli: int, expected: int) -> None:
    assert cgroups.quota(milli) == expected


@pytest.mark.parametrize(
    ("requests", "limits", "v1", "v2"),
    [
        ({}, {}, f"besteffort/pod{UID}", "kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice"),
        ({"cpu": "1"}, {}, f"burstable/pod{UID}", "kubepods-burstable.slice/kubepods-burstable-pod{}.slice"),
        (ALL, ALL, f"pod{UID}", "kubepods-pod{}.slice"),
    ],
)
def test_paths(requests: dict[str, str], limits: dict[str, str], v1: str, v2: str) -> None:
    made = pod(asks(requests, limits))
    plain = cgroups.plan(made, layout=V1)
    assert plain.path == plain.parent == f"/lab/n1/kubepods/{v1}"
    slices = cgroups.plan(made, layout=V2)
    assert slices.path == "/kubepods.slice/" + v2.format(UID.replace("-", "_"))
    assert slices.parent == slices.path.rsplit("/", 1)[1]


def test_values_in_both_versions() -> None:
    made = pod(asks(ALL, {"cpu": "200m", "memory": "128Mi"}))
    assert cgroups.plan(made, layout=V1, pids=100).values == {
        ("cpu", "cpu.shares"): "102",
        ("cpu", "cpu.cfs_period_us"): "100000",
        ("cpu", "cpu.cfs_quota_us"): "20000",
        ("memory", "memory.limit_in_bytes"): str(128 << 20),
        ("pids", "pids.max"): "100",
    }
    assert cgroups.plan(made, layout=V2).values == {
        ("cpu", "cpu.weight"): "4",
        ("cpu", "cpu.max"): "20000 100000",
        ("memory", "memory.max"): str(128 << 20),
    }


def test_a_pod_is_limited_only_where_all_its_containers_are() -> None:
    made = pod(asks({}, {"cpu": "1", "memory": "64Mi"}), asks({}, {"cpu": "1"}, name="b"))
    values = cgroups.plan(made, layout=V1).values
    assert values[("cpu", "cpu.cfs_quota_us")] == "200000" and ("memory", "memory.limit_in_bytes") not in values
    assert ("cpu", "cpu.cfs_quota_us") not in cgroups.plan(made, layout=V1, cfs_quota=False).values


def made_by_kernel(root: Path, *controllers: str) -> Path:
    """A folder that looks like a v1 hierarchy."""
    for controller in controllers:
        (root / controller).mkdir()
    (root / "unified").mkdir()
    return root


def test_a_pods_cgroup_is_made_in_every_hierarchy_and_removed_from_every_one(tmp_path: Path) -> None:
    root = made_by_kernel(tmp_path, "cpu", "memory", "pids", "systemd")
    assert tree.version(root) == 1
    it = tree.Tree(V1, mount=root)
    planned = cgroups.plan(pod(asks({"cpu": "1"})), layout=V1)
    it.create(planned)
    it.create(planned)
    assert (root / "memory" / planned.path.lstrip("/")).is_dir() and it.pods() == {UID}
    (root / "unified" / planned.path.lstrip("/") / "leaf").mkdir(parents=True)
    it.remove(cgroups.every_pod_path(UID, layout=V1))
    it.remove(cgroups.every_pod_path(UID, layout=V1))
    assert it.pods() == set() and not list(root.rglob(f"pod{UID}"))


def test_values_are_written_where_they_differ(tmp_path: Path) -> None:
    root = made_by_kernel(tmp_path, "cpu", "memory")
    it = tree.Tree(V1, mount=root)
    planned = cgroups.plan(pod(asks(ALL, ALL)), layout=V1)
    it.create(planned)
    limit = root / "memory" / planned.path.lstrip("/") / "memory.limit_in_bytes"
    limit.write_text("9223372036854771712")
    it.update(planned)
    assert limit.read_text() == str(64 << 20)


def test_a_new_cpuset_inherits_what_it_needs_to_hold_a_process(tmp_path: Path) -> None:
    parent, child = tmp_path / "p", tmp_path / "p" / "c"
    child.mkdir(parents=True)
    (parent / "cpuset.cpus").write_text("0-1\n")
    (child / "cpuset.cpus").write_text("\n")
    tree.inherit(parent, child)
    assert (child / "cpuset.cpus").read_text() == "0-1\n"
