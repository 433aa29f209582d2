"""A current kubectl on a cluster of one node, compared with what it prints and returns on any other cluster."""

import signal
import subprocess
import time
from pathlib import Path
from typing import IO

import pytest
import transcript
from harness import Kubectl

EXPECTED = Path(__file__).parent / "expected"


@pytest.mark.parametrize("name", sorted(path.stem for path in EXPECTED.glob("*.txt")))
def test_a_session_prints_what_kubernetes_prints(name: str, kubectl: Kubectl) -> None:
    text = (EXPECTED / f"{name}.txt").read_text()
    transcript.play(transcript.parse(text, folder=EXPECTED, values={"ns": kubectl.namespace}), kubectl)


def start(kubectl: Kubectl, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        kubectl.argv(words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kubectl.env(),
    )


def read_until(stream: IO[str] | None, wanted: str, *, seconds: float = 30) -> list[str]:
    assert stream is not None
    lines: list[str] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        line = stream.readline()
        if not line:
            break
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"no line with {wanted!r} in {lines}")


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)


def run_pod(kubectl: Kubectl, name: str, script: str) -> None:
    kubectl.ok(
        "run", name, "--image=nodeagent.local/busybox:1", "--restart=Never", "--command", "--", "sh", "-c", script
    )
    kubectl.ok("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def test_a_watch_shows_a_pod_from_its_making_to_its_end(kubectl: Kubectl) -> None:
    run_pod(kubectl, "earlier", "sleep 3600")
    watch = start(kubectl, "get", "pods", "-w", "--no-headers")
    try:
        read_until(watch.stdout, "earlier")
        kubectl.ok(
            "run", "seen", "--image=nodeagent.local/busybox:1", "--restart=Never", "--command", "--", "sleep", "3600"
        )
        seen = read_until(watch.stdout, "Running")
        assert "Pending" in seen[0]
        kubectl.ok("delete", "pod", "seen", "--grace-period=1")
        read_until(watch.stdout, "Terminating")
    finally:
        end(watch)


def test_followed_logs_arrive_as_they_are_written_and_end_with_the_container(kubectl: Kubectl) -> None:
    run_pod(kubectl, "talk", "echo first; until [ -e /tmp/go ]; do sleep 0.1; done; echo last")
    follow = start(kubectl, "logs", "-f", "talk")
    read_until(follow.stdout, "first")
    kubectl.ok("exec", "talk", "--", "touch", "/tmp/go")
    out, _ = follow.communicate(timeout=30)
    assert out == "last\n"
    assert follow.returncode == 0


def test_exec_closes_stdin_half_way_and_passes_every_byte(kubectl: Kubectl) -> None:
    run_pod(kubectl, "bytes", "sleep 3600")
    data = bytes(range(256)) * 4096
    argv = kubectl.argv(["exec", "-i", "bytes", "--", "sh", "-c", "md5sum; echo read all >&2"])
    done = subprocess.run(argv, input=data, capture_output=True, timeout=60, check=True, env=kubectl.env())
    import hashlib

    assert done.stdout.decode().split()[0] == hashlib.md5(data).hexdigest()
    assert done.stderr == b"read all\n"


def test_exec_brings_a_megabyte_back_whole(kubectl: Kubectl) -> None:
    run_pod(kubectl, "flood", "sleep 3600")
    argv = kubectl.argv(["exec", "flood", "--", "dd", "if=/dev/zero", "bs=1k", "count=4096"])
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True, env=kubectl.env())
    assert len(done.stdout) == 4096 * 1024


def test_a_pod_gets_its_grace_and_a_forced_one_does_not(kubectl: Kubectl) -> None:
    script = "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done"
    for name in ("patient", "forced"):
        run_pod(kubectl, name, script)
    began = time.monotonic()
    kubectl.ok("delete", "pod", "patient", "--grace-period=20")
    took = time.monotonic() - began
    assert 2 <= took < 15
    began = time.monotonic()
    kubectl.ok("delete", "pod", "forced", "--grace-period=0", "--force")
    assert time.monotonic() - began < 2


def test_a_hundred_writes_at_once_are_all_there(kubectl: Kubectl) -> None:
    objects = [
        f'{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"map-{number}"}},"data":{{"n":"{number}"}}}}'
        for number in range(100)
    ]
    created = kubectl.ok("create", "-f", "-", stdin="\n---\n".join(objects))
    assert len(created.splitlines()) == 100
    listed = kubectl.ok("get", "configmaps", "-o", "name", "--chunk-size=7").split()
    assert {f"configmap/map-{number}" for number in range(100)} <= set(listed)


def test_a_deleted_namespace_takes_everything_in_it_along(kubectl: Kubectl) -> None:
    name = kubectl.namespace + "-gone"
    kubectl.ok("create", "namespace", name)
    kubectl.ok("create", "configmap", "left", "-n", name, "--from-literal=a=b")
    kubectl.ok("run", "left", "-n", name, "--image=nodeagent.local/busybox:1", "--command", "--", "sleep", "3600")
    kubectl.ok("delete", "namespace", name, "--timeout=60s", seconds=90)
    answer = kubectl(["get", "namespace", name])
    assert answer.code == 1
    assert "not found" in answer.err
