"""The pytest plugin without a lab: it costs nothing unused, names what is missing, and its manifests and attempts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nodeagent.lab import errors
from nodeagent.lab.testing import pods, probe, reach

LIGHT = (
    "import sys; import pytest; before = set(sys.modules); import nodeagent.lab.plugin;"
    "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
)


def test_the_plugin_imports_nothing_but_what_pytest_has() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["nodeagent"]


def run_without_root(folder: Path, *words: str) -> str:
    """pytest as a user has it, told that it is not root."""
    (folder / "test_mine.py").write_text("def test_it(pods):\n    pass\n")
    (folder / "conftest.py").write_text("import os\nos.geteuid = lambda: 1000\n")
    plugin = ["-p", "nodeagent.lab.plugin"] if "PYTEST_DISABLE_PLUGIN_AUTOLOAD" in os.environ else []
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout


def test_without_root_it_says_what_to_run(tmp_path: Path) -> None:
    said = run_without_root(tmp_path, "--lab-nodes", "2")
    assert f"Run: sudo {sys.executable} -m pytest -p no:cacheprovider --lab-nodes 2" in said
    assert "1 error" in said


FOUND: dict[str, Any] = {
    "metadata": {"namespace": "n", "name": "web-0", "uid": "u"},
    "spec": {"nodeName": "node-1", "containers": [{"name": "main", "ports": [{"containerPort": 8080}]}]},
    "status": {"podIP": "10.244.0.7"},
}


def test_a_pod_is_described_by_its_place_addresses_and_first_port() -> None:
    assert pods.described(FOUND) == pods.Pod(
        namespace="n", name="web-0", uid="u", node="node-1", ip="10.244.0.7", port=8080
    )


def test_a_pod_complains_by_its_conditions_and_its_containers() -> None:
    waiting = {"name": "main", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    state = {
        "conditions": [{"type": "Ready", "status": "False", "message": "containers not ready"}],
        "containerStatuses": [waiting, {"name": "other", "state": {"running": {}}}],
    }
    assert pods.complaints({"status": state}) == ["containers not ready", "main: ErrImagePull no such image"]


class FakeLab:
    """Two nodes, by name."""

    nodes = ("node-1", "node-2")

    def address(self, name: str) -> str:
        return f"192.168.77.1{name[-1]}"


@pytest.mark.parametrize(
    ("to", "port", "goal"),
    [
        (pods.described(FOUND), None, "10.244.0.7:8080"),
        (pods.described(FOUND), 81, "10.244.0.7:81"),
        (pods.Service(namespace="n", name="web", ip="10.96.0.9", port=80), None, "10.96.0.9:80"),
        ("web:80", None, "web:80"),
        ("web.n.svc", 53, "web.n.svc:53"),
        ("node-2:10250", None, "192.168.77.12:10250"),
    ],
)
def test_a_target_is_a_pod_a_service_a_machine_or_any_name(to: Any, port: int | None, goal: str) -> None:
    assert str(reach.target(FakeLab(), to, port=port)) == goal  # type: ignore[arg-type]


def test_a_target_needs_a_port() -> None:
    with pytest.raises(errors.LabError, match="no port is known for web") as caught:
        reach.target(FakeLab(), "web", port=None)  # type: ignore[arg-type]
    assert "name:8080" in caught.value.hint


def outcomes(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.0)
    said = iter(words)
    return lambda: reach.Attempt(outcome=next(said))


def test_a_connection_is_tried_until_it_comes_about(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = outcomes(monkeypatch, probe.TIMEOUT, probe.REFUSED, probe.REACHED)
    assert reach.until(tries, lambda each: each.reached) == (reach.Attempt(outcome=probe.REACHED), True)


def test_a_connection_that_should_fail_must_fail_twice_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (probe.TIMEOUT, probe.REACHED, probe.TIMEOUT, probe.TIMEOUT)
    last, met = reach.until(outcomes(monkeypatch, *words), lambda each: each.outcome == probe.TIMEOUT)
    assert (last.outcome, met) == (probe.TIMEOUT, True)


def test_what_does_not_come_about_in_time_is_told_by_its_last_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    last, met = reach.until(outcomes(monkeypatch, probe.REFUSED), lambda each: each.reached, within=-1)
    assert (last.outcome, met) == (probe.REFUSED, False)
