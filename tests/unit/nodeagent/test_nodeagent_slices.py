"""Slices: their names, what systemd is told of them, and what it is asked as a pod comes and goes."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import UID, container, pod

from fakes.units import FakeUnits
from kube import types
from nodeagent.resources import cgroups, slices, tree

LAYOUT = cgroups.Layout(version=2, driver="systemd")
FLAT_UID = UID.replace("-", "_")
SLICE = f"kubepods-burstable-pod{FLAT_UID}.slice"


def burstable(cpu: str = "100m") -> types.Pod:
    return pod(container(resources={"requests": {"cpu": cpu}, "limits": {"cpu": "205m", "memory": "64Mi"}}))


def test_a_slice_is_in_the_slices_its_name_begins_with() -> None:
    assert slices.path(["a-b", "c"]) == "/a_b.slice/a_b-c.slice"
    assert slices.parents("/a.slice/a-b.slice") == ["a.slice", "a-b.slice"]
    rooted = cgroups.Layout(version=2, driver="systemd", root="/one/two")
    assert cgroups.pods_root(rooted) == "/one.slice/one-two.slice/one-two-kubepods.slice"


def test_a_pod_is_known_by_its_cgroup_whatever_its_class_and_the_driver() -> None:
    plain = cgroups.Layout(version=1, driver="cgroupfs", root="/x")
    for layout in (LAYOUT, plain):
        for path in cgroups.every_pod_path(UID, layout=layout):
            assert cgroups.pod_uid(path.rsplit("/", 1)[1], layout=layout) == UID
        for group in cgroups.classes([], layout=layout):
            assert cgroups.pod_uid(group.path.rsplit("/", 1)[1], layout=layout) is None


def test_systemd_is_told_what_the_kernel_is_told() -> None:
    assert slices.properties(cgroups.plan(burstable(), layout=LAYOUT, pids=100).values) == [
        ("CPUWeight", "t", "4"),
        ("MemoryMax", "t", str(64 << 20)),
        ("TasksMax", "t", "100"),
        ("CPUQuotaPerSecUSec", "t", "210000"),  # whole percents, rounded up
        ("CPUQuotaPeriodUSec", "t", "100000"),
    ]
    v1 = cgroups.Layout(version=1, driver="systemd")
    assert dict(p[::2] for p in slices.properties(cgroups.plan(burstable(), layout=v1).values)) == {
        "CPUShares": "102",
        "MemoryLimit": str(64 << 20),
        "CPUQuotaPerSecUSec": "210000",
        "CPUQuotaPeriodUSec": "100000",
    }
    assert slices.properties({("cpu", "cpu.max"): "max 100000"})[0] == ("CPUQuotaPerSecUSec", "t", slices.INFINITY)


def test_the_words_of_a_call_count_their_properties() -> None:
    words = slices.start_words("a.slice", [("CPUWeight", "t", "4")])
    assert words[4:9] == ["StartTransientUnit", "ssa(sv)a(sa(sv))", "a.slice", "replace", "6"]
    assert words[-4:] == ["CPUWeight", "t", "4", "0"]
    assert slices.set_words("a.slice", [("CPUWeight", "t", "4")])[6:] == ["a.slice", "true", "1", "CPUWeight", "t", "4"]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """What systemd will answer to the next calls, and the methods it was asked."""
    coming: list[str] = []
    asked: list[str] = []

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(argv[7])
        refused = coming.pop(0)
        return subprocess.CompletedProcess(argv, 1 if refused else 0, "", refused)

    monkeypatch.setattr(slices.subprocess, "run", run)
    return coming, asked


def test_a_slice_that_is_there_gets_the_properties(answers: tuple[list[str], list[str]]) -> None:
    coming, asked = answers
    coming[:] = ["Call failed: Unit a.slice was already loaded or has a fragment file.", ""]
    slices.Busctl().start("a.slice", [("CPUWeight", "t", "4")])
    assert asked == ["StartTransientUnit", "SetUnitProperties"]


def test_what_systemd_refuses_is_said_and_a_slice_that_is_gone_is_stopped(
    answers: tuple[list[str], list[str]],
) -> None:
    coming, _ = answers
    coming[:] = ["Call failed: Value specified in CPUWeight is out of range", "Unit a.slice not loaded.", "No."]
    with pytest.raises(OSError, match=r"systemd does not make a.slice: .*CPUWeight is out of range"):
        slices.Busctl().start("a.slice", [("CPUWeight", "t", "0")])
    slices.Busctl().stop("a.slice")
    with pytest.raises(OSError, match=r"systemd does not stop a\.slice: No\."):
        slices.Busctl().stop("a.slice")


def test_without_busctl_the_error_names_it() -> None:
    with pytest.raises(OSError, match="/none/busctl"):
        slices.Busctl("/none/busctl").start("a.slice", [])


def test_a_pods_slice_is_made_changed_found_and_removed(tmp_path: Path) -> None:
    units = FakeUnits(tmp_path)
    it = tree.Tree(LAYOUT, mount=tmp_path, units=units)
    planned = cgroups.plan(burstable(), layout=LAYOUT)
    it.create(planned)
    assert [unit for unit, _ in units.told] == [SLICE] and units.told[0][1]["MemoryMax"] == str(64 << 20)
    assert it.pods() == {UID}
    weight = units.folder(SLICE) / "cpu.weight"
    weight.write_text("4\n")
    it.create(planned)
    it.update(planned)
    assert len(units.told) == 1, "nothing differs, systemd is left alone"
    it.update(cgroups.plan(burstable("200m"), layout=LAYOUT))
    assert units.told[1][1]["CPUWeight"] == "8" and weight.read_text() == "8"
    it.remove(cgroups.every_pod_path(UID, layout=LAYOUT))
    it.remove(cgroups.every_pod_path(UID, layout=LAYOUT))
    assert units.told[2:] == [(SLICE, {})] and it.pods() == set()


def test_systemd_that_makes_nothing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "PATIENCE", 0.0)
    monkeypatch.setattr(FakeUnits, "start", lambda *words: None)
    with pytest.raises(OSError, match=r"systemd made no cgroup /kubepods\.slice"):
        tree.Tree(LAYOUT, mount=tmp_path, units=FakeUnits(tmp_path)).create(cgroups.plan(burstable(), layout=LAYOUT))


def test_burstable_pods_weigh_what_they_ask_for_together_and_best_effort_ones_next_to_nothing() -> None:
    plain = cgroups.Layout(version=1, driver="cgroupfs")
    pods = [burstable("1"), burstable("500m"), pod()]
    found = {group.path: group.values[("cpu", "cpu.shares")] for group in cgroups.classes(pods, layout=plain)}
    assert found == {"/kubepods/burstable": "1536", "/kubepods/besteffort": "2"}
    nobody = {g.path: g.values[("cpu", "cpu.weight")] for g in cgroups.classes([], layout=LAYOUT)}
    assert set(nobody.values()) == {"1"}


def test_all_processes_of_a_container_go_together_when_memory_runs_out_where_the_kernel_can() -> None:
    plain = cgroups.Layout(version=1, driver="cgroupfs")
    assert cgroups.unified(layout=LAYOUT, one_by_one=False) == {"memory.oom.group": "1"}
    assert cgroups.unified(layout=LAYOUT, one_by_one=True) == cgroups.unified(layout=plain, one_by_one=False) == {}


def test_every_controller_a_v2_cgroup_has_is_handed_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory misc\n")
    written = tmp_path / "cgroup.subtree_control"
    tree.hand_down(tmp_path)
    assert written.read_text() == "+memory", "the last of two writes, and misc is nobody's"
