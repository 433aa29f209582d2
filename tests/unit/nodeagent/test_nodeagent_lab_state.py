"""The lab's record of itself and its lock; processes told apart; leftovers found by cgroup."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.lab import cluster, diagnose, errors, leftovers, machine, plan, processes, state

RECORD = state.Record(
    name="lab-1",
    cgroup="/nodeagent-lab/lab-1",
    port=6443,
    ready=True,
    nodes=["node-1"],
    processes=[state.Process(name="server", pid=7, start=99)],
)


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    state.save(tmp_path, RECORD)
    assert state.load(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_directory_without_a_lab_has_no_record(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None


@pytest.mark.parametrize("content", ["{", '{"version": 99}'])
def test_a_record_that_cannot_be_understood_names_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(errors.LabError) as caught:
        state.load(tmp_path)
    assert caught.value.hint.startswith("nodeagent lab down")


def test_a_second_run_is_refused_while_the_first_holds_the_directory(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path / "lab"),
        pytest.raises(errors.LabError, match="another run is at work"),
        state.locked(tmp_path / "lab"),
    ):
        raise AssertionError("both have the lock")


def test_the_lock_survives_the_removal_of_the_directory(tmp_path: Path) -> None:
    with state.locked(tmp_path / "lab"):
        (tmp_path / "lab").rmdir()
    with state.locked(tmp_path / "lab"):
        assert (tmp_path / "lab").is_dir()


def test_a_process_is_told_from_a_later_one_with_its_id() -> None:
    own = processes.describe("me", os.getpid())
    assert processes.alive(own)
    assert not processes.alive(state.Process(name="me", pid=os.getpid(), start=own.start + 1))


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        deaf = processes.describe("deaf", child.pid)
        assert processes.end([deaf], term_seconds=0.1) == []
        assert not processes.alive(deaf)


def test_a_command_that_fails_is_told_in_its_own_words() -> None:
    with pytest.raises(errors.LabError, match="no such thing"):
        processes.run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_a_command_that_is_not_installed_is_named() -> None:
    with pytest.raises(errors.LabError, match="no-such-program is not installed"):
        processes.run(["no-such-program"])


def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(errors.LabError, match="did not end"):
        processes.run(["sleep", "30"], seconds=0.1)


def fake_cgroups(root: Path) -> None:
    for hierarchy in ("memory", "pids"):
        deep = root / hierarchy / "nodeagent-lab" / "lab-1" / "node-1"
        deep.mkdir(parents=True)
        (root / hierarchy / "cgroup.procs").write_text("1\n")
    (root / "pids/nodeagent-lab/lab-1/node-1/cgroup.procs").write_text("41\n42\n")
    (root / "memory/nodeagent-lab/lab-1/cgroup.procs").write_text("43\n0\n")


def test_processes_are_found_in_every_hierarchy_by_the_labs_cgroup(tmp_path: Path) -> None:
    fake_cgroups(tmp_path)
    assert leftovers.members("/nodeagent-lab/lab-1", root=tmp_path) == {41, 42, 43}
    assert leftovers.members("/nodeagent-lab/lab-2", root=tmp_path) == set()


def test_the_cgroups_of_another_lab_stay(tmp_path: Path) -> None:
    for name in ("lab-1/node-1", "lab-2/node-1"):
        (tmp_path / "memory/nodeagent-lab" / name).mkdir(parents=True)
    leftovers.remove_cgroups("/nodeagent-lab/lab-1", root=tmp_path)
    assert [path.name for path in (tmp_path / "memory/nodeagent-lab").iterdir()] == ["lab-2"]
    leftovers.remove_cgroups("/nodeagent-lab/lab-2", root=tmp_path)
    assert not (tmp_path / "memory/nodeagent-lab").exists()


def test_a_machine_joins_every_hierarchy_but_those_that_need_setting_up(tmp_path: Path) -> None:
    for name in ("cpu", "cpuset", "devices", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    assert [path.name for path in machine.hierarchies(tmp_path)] == ["cpu", "memory"]


def test_the_unified_hierarchy_is_joined_as_one(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    assert machine.hierarchies(tmp_path) == [tmp_path]


def test_two_directories_never_share_a_lab_name(tmp_path: Path) -> None:
    assert cluster.name_of(tmp_path / "a") != cluster.name_of(tmp_path / "b")
    assert cluster.name_of(tmp_path / "a") == cluster.name_of(tmp_path / "x" / ".." / "a")


def test_nothing_is_removed_where_there_is_no_lab(tmp_path: Path) -> None:
    assert cluster.down(tmp_path / "none") is False
    assert not (tmp_path / "none").exists()


def test_a_lab_is_not_running_where_none_was_made(tmp_path: Path) -> None:
    with pytest.raises(errors.NotRunning, match="no lab is up"):
        cluster.running(tmp_path)


def test_a_lab_that_does_not_come_up_is_told_by_its_services_last_words(tmp_path: Path) -> None:
    host = plan.Host(python="python", containerd="containerd", source=tmp_path)
    made = plan.plan("lab-1", directory=tmp_path, nodes=1, host=host)
    logs = made.nodes[0].data("/var/log/nodeagent")
    logs.mkdir(parents=True)
    ended = "agent ended with exit code 1; starting it again in 0.1 s"
    (logs / "init.log").write_text(f"2026-11-23T15:21:37Z {ended}\n2026-11-23T15:21:38Z {ended}\n")
    (logs / "agent.log").write_text("starting\n\nerror: no kubeconfig\n")
    said = "agent on node-1 ended 2 times, last with exit code 1: starting | error: no kubeconfig"
    assert diagnose.troubles(made) == [said]
