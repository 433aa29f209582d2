"""`--dry-run`: what would be done for a manifest, given what is observed, and nothing done."""

import json
from pathlib import Path
from typing import Any

import pytest

from nodeagent import __main__ as command

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, uid: u1}
spec:
  initContainers: [{name: prepare, image: i}]
  containers:
  - {name: main, image: i, livenessProbe: {exec: {command: [x]}}}
"""


def planned(folder: Path, capsys: pytest.CaptureFixture[str], seen: str = "") -> dict[str, Any]:
    (folder / "pod.yaml").write_text(POD)
    argv = ["agent", "--dry-run", str(folder / "pod.yaml")]
    if seen:
        (folder / "seen.yaml").write_text(seen)
        argv += ["--observed", str(folder / "seen.yaml")]
    assert command.main(argv) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["default/web"]
    return found


def test_a_pod_nothing_runs_of_gets_its_sandbox_and_first_container(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planned(tmp_path, capsys)
    assert found["create_sandbox"] is True
    assert [start["name"] for start in found["start"]] == ["prepare"]


BOX = "sandboxes: [{id: box, ready: true, ips: [10.0.0.1], createdAt: 1}]\n"
PREPARED = "{id: a, name: prepare, state: exited, exitCode: 0, createdAt: 2}"


def test_what_is_observed_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(tmp_path, capsys, BOX + f"containers: [{PREPARED}]\n")
    assert not found["create_sandbox"] and [s["name"] for s in found["start"]] == ["main"]
    running = "{id: b, name: main, state: running, createdAt: 3}"
    probed = f"containers: [{PREPARED}, {running}]\nprobes: {{main/liveness: false}}\n"
    found = planned(tmp_path, capsys, BOX + probed)
    assert [kill["id"] for kill in found["kill"]] == ["b"] and "liveness" in found["kill"][0]["message"]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("sandboxs: []\n", "sandboxs: want sandboxes, containers, probes"),
        ("containers: [{id: a, nam: main}]\n", "containers[0]: unknown field nam"),
        ("containers: [{id: a, name: main, state: odd}]\n", "containers[0]"),
        ("[]\n", "not a mapping"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], seen: str, said: str) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "seen.yaml").write_text(seen)
    argv = ["agent", "--dry-run", str(tmp_path / "pod.yaml"), "--observed", str(tmp_path / "seen.yaml")]
    assert command.main(argv) == 1
    assert said in capsys.readouterr().err


def test_only_pods_can_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x}\n")
    assert command.main(["agent", "--dry-run", str(tmp_path / "x.yaml")]) == 1
    assert "only Pod can be planned" in capsys.readouterr().err
