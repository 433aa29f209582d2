"""`nodeagent agent --manifests DIR`: a node without any API server, on a real containerd."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import throwaway_containerd
from throwaway_containerd import Containerd

IMAGE = "nodeagent.local/busybox:1"
CONFIG = """
apiVersion: nodeagent/v1
kind: AgentConfiguration
nodeName: alone
nodeIP: 127.0.0.1
rootDir: {folder}/kubelet
stateDir: {folder}/state
logDir: {folder}/log
containerRuntimeEndpoint: {endpoint}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: 0
healthzPort: 0
cgroupRoot: {cgroup}
evictionHard: {{memory.available: "0"}}
imageGCHighThresholdPercent: 100
"""


@pytest.fixture
def containerd(programs: None) -> Iterator[Containerd]:
    with throwaway_containerd.running() as found:
        yield found


def until(true: Callable[[], object], *, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def running(containerd: Containerd) -> str:
    return containerd._ctr("tasks", "list").stdout.decode()


def test_static_pods_run_and_end_without_an_api_server(containerd: Containerd, tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (tmp_path / "agent.yaml").write_text(
        CONFIG.format(folder=tmp_path, endpoint=containerd.endpoint, cgroup=containerd.cgroup)
    )
    script = "echo here; trap 'exit 0' TERM; while :; do sleep 0.1; done"
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}
    spec = {"hostNetwork": True, "terminationGracePeriodSeconds": 1, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
    command = [sys.executable, "-m", "nodeagent", "agent", "--manifests", str(manifests)]
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen([*command, "--config", str(tmp_path / "agent.yaml")], stdout=log, stderr=log)
    try:
        (manifests / "web.yaml").write_text(json.dumps(pod))

        def printed() -> bool:
            assert agent.poll() is None, (tmp_path / "agent.log").read_text()
            return any(
                "here" in path.read_text() for path in (tmp_path / "log" / "pods").glob("*web-alone*/main/0.log")
            )

        until(printed)
        assert running(containerd).count("RUNNING") == 2
        (manifests / "web.yaml").unlink()
        until(lambda: "RUNNING" not in running(containerd))
        until(lambda: not list((tmp_path / "kubelet" / "pods").glob("*")))
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(20)
