"""The first process of a machine: its sockets, its services' starts, and what it says of their ends. No root."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodeagent.lab import boot, init


def service(tmp_path: Path, *argv: str, fds: list[int] | None = None) -> init.Service:
    return init.Service(
        name="one", argv=list(argv), env={"PATH": init.PATH}, fds=fds or [], log=str(tmp_path / "one.log")
    )


def end(started: init.Service) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pid, status = os.waitpid(started.pid, os.WNOHANG)
        if pid:
            return init.describe(status)
        time.sleep(0.01)
    raise AssertionError("it did not end")


def test_a_service_writes_to_its_log_and_gets_a_clean_environment(tmp_path: Path) -> None:
    started = service(tmp_path, "/bin/sh", "-c", "echo out; echo err >&2; env")
    init.start(started)
    assert end(started) == "exit code 0"
    lines = (tmp_path / "one.log").read_text().splitlines()
    assert lines[:2] == ["out", "err"]
    assert not any(line.startswith("HOME=") for line in lines)


def test_a_log_is_appended_to_over_restarts(tmp_path: Path) -> None:
    for _ in range(2):
        started = service(tmp_path, "/bin/sh", "-c", "echo again")
        init.start(started)
        end(started)
    assert (tmp_path / "one.log").read_text() == "again\nagain\n"


def test_a_listening_socket_arrives_at_descriptor_three(tmp_path: Path) -> None:
    fd = init.listening_socket({"name": "api", "address": "127.0.0.1:0", "fd": -1})
    try:
        port = socket.socket(fileno=os.dup(fd)).getsockname()[1]
        script = "import os, socket; s = socket.socket(fileno=3); print(os.environ['LISTEN_FDS'], s.getsockname()[1])"
        started = service(tmp_path, sys.executable, "-c", script, fds=[fd])
        init.start(started)
        assert end(started) == "exit code 0"
        assert (tmp_path / "one.log").read_text() == f"1 {port}\n"
    finally:
        os.close(fd)


def test_a_client_waits_while_the_service_behind_a_socket_is_away() -> None:
    fd = init.listening_socket({"name": "api", "address": "127.0.0.1:0", "fd": -1})
    with socket.socket(fileno=fd) as listening, socket.create_connection(listening.getsockname(), timeout=5) as client:
        client.sendall(b"hello")
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


@pytest.mark.parametrize(("status", "words"), [(0, "exit code 0"), (3 << 8, "exit code 3"), (9, "signal 9")])
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert init.describe(status) == words


SUPERVISED = """
import json, os, signal, sys
from nodeagent.lab import boot, init
init.write_pid = lambda service: None
signal.pthread_sigmask(signal.SIG_BLOCK, init.SIGNALS)
init.Init(json.loads(sys.argv[1])).run()
print("stopped", flush=True)
"""


def spec(tmp_path: Path, script: str) -> str:
    entry = {"name": "one", "argv": ["/bin/sh", "-c", script], "env": {}, "sockets": []}
    import json

    return json.dumps({"logs": str(tmp_path), "sockets": [], "services": [entry]})


def wait_for_lines(path: Path, count: int) -> list[str]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and len(lines := path.read_text().splitlines()) >= count:
            return lines
        time.sleep(0.01)
    raise AssertionError(f"{path} did not get {count} lines")


def test_a_service_that_ends_is_started_again_and_all_stop_on_sigterm(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SUPERVISED, spec(tmp_path, "echo $$; exit 4")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(Path.cwd())}) as child:
        pids = wait_for_lines(tmp_path / "one.log", 2)
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=10)
    assert pids[0] != pids[1]
    assert out == "stopped\n"
    assert "one ended with exit code 4; starting it again in 0.1 s" in (tmp_path / "init.log").read_text()


def test_a_service_gets_sigterm_before_its_machine_ends(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    argv = [sys.executable, "-c", SUPERVISED, spec(tmp_path, script)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(Path.cwd())}) as child:
        wait_for_lines(tmp_path / "one.log", 1)
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=10)
    assert (tmp_path / "one.log").read_text() == "up\nbye\n"


def test_under_cgroup_v2_every_group_but_the_root_passes_its_controllers_on(tmp_path: Path) -> None:
    leaf = tmp_path / "nodeagent-lab" / "lab-1" / "node-1" / "system"
    leaf.mkdir(parents=True)
    for folder in (tmp_path, *leaf.parents[:3], leaf):
        (folder / "cgroup.controllers").write_text("cpu memory\n")
        (folder / "cgroup.subtree_control").write_text("")
    boot.pass_controllers_down(leaf, root=tmp_path)
    passed = {str(f.parent.relative_to(tmp_path)): f.read_text() for f in tmp_path.rglob("cgroup.subtree_control")}
    assert passed == {
        ".": "",
        "nodeagent-lab": "+cpu +memory",
        "nodeagent-lab/lab-1": "+cpu +memory",
        "nodeagent-lab/lab-1/node-1": "+cpu +memory",
        "nodeagent-lab/lab-1/node-1/system": "",
    }


def test_under_cgroup_v1_nothing_is_passed_on(tmp_path: Path) -> None:
    leaf = tmp_path / "memory" / "nodeagent-lab" / "system"
    leaf.mkdir(parents=True)
    boot.pass_controllers_down(leaf, root=tmp_path)
    assert [path.name for path in leaf.iterdir()] == []
