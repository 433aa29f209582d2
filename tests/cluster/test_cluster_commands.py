"""The commands a person types, each as a process: up in the foreground and detached, status, exec, image, down."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import census
import pytest

from nodeagent.lab import cluster, images

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where these labs keep their state; whatever is left is removed."""
    path = Path("/dev/shm") / f"natest-{os.getpid()}-commands"
    yield path
    cluster.down(path)


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "nodeagent", *words]


def run(*words: str, code: int = 0, seconds: float = 90) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(argv(*words), capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT)
    assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_up_in_the_foreground_proves_the_cluster_and_ctrl_c_removes_it(directory: Path) -> None:
    up = argv("lab", "up", "--directory", str(directory), "--port", "0")
    with subprocess.Popen(up, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Running until Ctrl-C"):
                break
        assert process.poll() is None, f"{lines}\n{process.stderr.read() if process.stderr else ''}"
        made = census.belongings(directory)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    text = "".join(lines)
    assert "web -> web-" in text
    assert f"kubeconfig: {directory}/kubeconfig" in text
    assert (process.returncode, err, out) == (0, "", "Removing the lab.\n")
    assert made.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_that_is_interrupted_half_way_leaves_nothing(directory: Path, number: int) -> None:
    up = argv("lab", "up", "--directory", str(directory), "--port", "0")
    with subprocess.Popen(up, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while not (directory / "state.json").exists():
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert census.belongings(directory).left() == []


def test_a_detached_lab_is_looked_at_entered_given_an_image_and_removed(directory: Path, tmp_path: Path) -> None:
    place = ("--directory", str(directory))
    made = json.loads(run("lab", "up", "--detach", "--port", "0", "--output", "json", *place).stdout)
    assert made["nodes"] == ["node-1"]
    assert len(made["replies"]) == 7
    assert all(phase["seconds"] >= 0 for phase in made["phases"])
    assert oct((directory / "kubeconfig").stat().st_mode & 0o777) == "0o600"

    again = run("lab", "up", "--detach", "--port", "0", *place, code=1)
    assert "already up" in again.stderr

    services = json.loads(run("lab", "status", "--output", "json", *place).stdout)["services"]
    assert [(each["machine"], each["service"]) for each in services] == [
        ("server", "server"),
        ("node-1", "containerd"),
        ("node-1", "agent"),
        ("node-1", "dns"),
    ]
    assert all(each["pid"].isdigit() for each in services)
    assert run("lab", "exec", *place, "node-1", "--", "hostname").stdout == "node-1\n"
    run("lab", "exec", *place, "node-9", "--", "true", code=1)

    assert json.loads(run("lab", "partition", "node-1", "server", "--output", "json", *place).stdout) == {
        "cut": [["node-1", "server"]]
    }
    assert "cut: node-1 | server (nodeagent lab heal mends it)" in run("lab", "status", *place).stdout
    assert run("lab", "heal", *place).stdout == "all wires are whole\n"
    assert "agent was restarted on node-1" in run("lab", "restart", "agent", *place).stdout
    assert (
        "no service 'kubelet' on server, node-1; there are" in run("lab", "restart", "kubelet", *place, code=1).stderr
    )
    assert "agent ended with exit code 0" in run("lab", "logs", "node-1", "init", *place).stdout
    run("lab", "logs", "node-9", *place, code=1)
    assert run("lab", "kill", "node-1", *place).stdout.startswith("node-1 is dead")
    assert "try: nodeagent lab start node-1" in run("lab", "exec", *place, "node-1", "--", "true", code=1).stderr
    assert json.loads(run("lab", "status", "--output", "json", *place).stdout)["killed"] == ["node-1"]
    run("lab", "start", "node-1", *place)
    wait = ("wait", "--for=condition=Ready", "node/node-1", "--timeout=60s")
    assert "condition met" in run("lab", "kubectl", *place, "--", *wait).stdout

    archive = tmp_path / "brought.tar"
    image = images.Image(name="example.test/brought:2", files={"bin/true": b"x"}, links={})
    archive.write_bytes(images.archive(image, architecture=images.own_architecture()))
    assert "example.test/brought:2 is on node-1" in run("lab", "load-image", str(archive), *place).stdout
    assert "example.test/brought:2" in run("image", "ls", *place).stdout
    run("image", "load", str(archive), "--node", "node-7", *place, code=1)

    made_on_host = census.belongings(directory)
    assert "Removed the lab" in run("lab", "down", *place).stdout
    assert run("lab", "down", *place).stdout == "There is no lab here.\n"
    assert made_on_host.left() == []


def test_a_kubelet_that_cannot_start_is_told_by_its_own_words(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "from nodeagent.lab import documents, prove; from nodeagent.__main__ import main; import sys;"
        "made = documents.node; prove.NODES_SECONDS = 4.0;"
        "documents.node = lambda machine: made(machine) | {'bad.yaml': "
        "{'apiVersion': 'nodeagent/v1', 'kind': 'AgentConfiguration', 'nope': 1}};"
        f"sys.exit(main(['lab', 'up', '--detach', '--port', '0', '--directory', {str(directory)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=90, cwd=ROOT)
    assert done.returncode == 1
    assert "waited 4 s for all nodes to be Ready" in done.stderr
    assert "agent on node-1 ended" in done.stdout
    assert "nope" in done.stdout
