"""A pod's own files: hosts, termination messages, log links, and that they all go with the pod."""

from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import UID, container, pod, ran

from nodeagent.cri import labels
from nodeagent.pods import files


@pytest.fixture
def it(tmp_path: Path) -> files.PodFiles:
    return files.PodFiles(tmp_path / "kubelet", pod_logs=tmp_path / "pods", container_logs=tmp_path / "containers")


def ended(policy: str = "File", **fields: Any) -> Any:
    return ran(state="exited", annotations={labels.TERMINATION_POLICY: policy}, **fields)


def message_of(it: files.PodFiles, dead: Any) -> str:
    return it.messages(UID, [dead], logs=it.logs_of(pod()), containers=1).get(dead.id, "")


def test_a_termination_message_is_what_the_container_wrote(it: files.PodFiles) -> None:
    it.prepare_container(pod(), "main", restart_count=0, hosts=None)
    path = it.message(UID, "main", 0)
    assert path.stat().st_mode & 0o777 == 0o666, "whichever user the container runs as may write it"
    path.write_text("why")
    assert message_of(it, ended(code=1)) == "why"


def test_a_long_message_is_cut(it: files.PodFiles) -> None:
    it.prepare_container(pod(), "main", restart_count=0, hosts=None)
    it.message(UID, "main", 0).write_text("x" * 10_000)
    assert len(message_of(it, ended(code=1))) == 4096


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [("FallbackToLogsOnError", 1, "one\ntwo\n"), ("FallbackToLogsOnError", 0, ""), ("File", 1, "")],
)
def test_the_log_stands_in_for_a_message_on_failure_only(
    it: files.PodFiles, policy: str, code: int, expected: str
) -> None:
    it.prepare_container(pod(), "main", restart_count=0, hosts=None)
    stamp = "2026-11-23T15:00:00.000000000Z"
    log = f"{stamp} stdout F one\n{stamp} stderr P tw\n{stamp} stderr F o\n"
    (it.logs_of(pod()) / "main" / "0.log").write_text(log)
    assert message_of(it, ended(policy, code=code)) == expected


def test_the_tail_of_a_log_is_at_most_eighty_lines(it: files.PodFiles, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"t stdout F {n}\n" for n in range(200)))
    assert files.tail(path).splitlines() == [str(n) for n in range(120, 200)]
    assert files.tail(tmp_path / "absent") == ""


def test_the_hosts_file_is_changed_in_place(it: files.PodFiles) -> None:
    it.prepare_container(pod(), "main", restart_count=0, hosts="a\n")
    before = it.hosts(UID).stat().st_ino
    it.prepare_container(pod(), "main", restart_count=1, hosts="b\n")
    assert it.hosts(UID).read_text() == "b\n" and it.hosts(UID).stat().st_ino == before


@pytest.mark.parametrize(
    ("spec", "mounts", "managed"),
    [
        ({}, [], True),
        ({"hostNetwork": True}, [], False),
        ({"hostNetwork": True, "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a"]}]}, [], True),
        ({}, [{"name": "v", "mountPath": "/etc/hosts"}], False),
    ],
)
def test_whose_hosts_file_it_is(spec: Any, mounts: Any, managed: bool) -> None:
    of = pod(container(volumeMounts=mounts), **spec)
    assert files.manages_hosts(of, of.spec.containers[0]) is managed


def test_log_collectors_find_a_link_that_goes_with_the_pod(it: files.PodFiles, tmp_path: Path) -> None:
    it.prepare_pod(pod())
    it.prepare_container(pod(), "main", restart_count=0, hosts="a\n")
    it.link_log(pod(), "main", "abc", restart_count=0)
    it.link_log(pod(), "main", "abc", restart_count=0)
    link = tmp_path / "containers" / "web_default_main-abc.log"
    assert link.readlink() == it.logs_of(pod()) / "main" / "0.log"
    foreign = tmp_path / "containers" / "web_default_other-def.log"
    foreign.symlink_to("/elsewhere")
    it.remove_pod("default", "web", UID)
    it.remove_pod("default", "web", UID)
    assert not link.is_symlink() and foreign.is_symlink()
    assert not it.pod(UID).exists() and not it.logs_of(pod()).exists()


def test_a_removed_container_leaves_no_log_and_no_message(it: files.PodFiles, tmp_path: Path) -> None:
    it.prepare_container(pod(), "main", restart_count=0, hosts=None)
    log = it.logs_of(pod()) / "main" / "0.log"
    log.write_text("x")
    it.link_log(pod(), "main", "main-0", restart_count=0)
    it.remove_container(pod(), ended())
    assert not log.exists() and not it.message(UID, "main", 0).exists()
    assert not list((tmp_path / "containers").iterdir())


def test_a_long_name_makes_a_link_the_file_system_takes() -> None:
    name = files.link_name(pod(metadata={"name": "p" * 200}), "c" * 60, "f" * 64)
    assert len(name) == 255 and name.endswith(".log")
