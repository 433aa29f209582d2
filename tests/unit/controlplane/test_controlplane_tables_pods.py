# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""The words of `kubectl get pods`: what a pod in any state is said to do."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.apiserver.registry import pod_columns

NOW = datetime(2026, 11, 23, 15, 0, 0, tzinfo=UTC)
READY = [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]


def waiting(reason: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "state": {"waiting": {"reason": reason}}, **more}


def ended(code: int = 0, **fields: Any) -> dict[str, Any]:
    return {"name": "c", "state": {"terminated": {"exitCode": code, **fields}}}


RUNS = {"name": "c", "ready": True, "started": True, "state": {"running": {}}}
STARTS = {"name": "c", "ready": False, "state": {"running": {}}}
SIDECAR = {"name": "i", "restartPolicy": "Always"}
DELETED = {"deletionTimestamp": "2026-11-23T14:59:00Z"}


def row(status: dict[str, Any], *, containers: int = 1, init: list[Any] | None = None, **meta: Any) -> tuple[Any, ...]:
    spec = {"containers": [{"name": f"c{n}"} for n in range(containers)], "initContainers": init or []}
    obj = {
        "metadata": {"name": "p", "creationTimestamp": "2026-11-23T14:59:50Z", **meta},
        "spec": spec,
        "status": status,
    }
    return tuple(pod_columns.cells(obj, NOW)[1:4])


@pytest.mark.parametrize(
    ("sentence", "status", "options", "expected"),
    [
        ("not scheduled", {"phase": "Pending"}, {}, ("0/1", "Pending", "0")),
        ("gated", {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}, {}, ("0/1", "SchedulingGated", "0")),
        ("being created", {"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}, {}, ("0/1", "ContainerCreating", "0")),
        ("no image", {"phase": "Pending", "containerStatuses": [waiting("ImagePullBackOff")]}, {}, ("0/1", "ImagePullBackOff", "0")),
        ("running, not ready", {"phase": "Running", "containerStatuses": [STARTS]}, {}, ("0/1", "Running", "0")),
        ("running and ready", {"phase": "Running", "conditions": READY, "containerStatuses": [RUNS]}, {}, ("1/1", "Running", "0")),
        ("crashing", {"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff", restartCount=3)]}, {}, ("0/1", "CrashLoopBackOff", "3")),
        ("crashed a while ago", {"phase": "Running", "containerStatuses": [{**RUNS, "restartCount": 3, "lastState": {"terminated": {"finishedAt": "2026-11-23T14:59:40Z"}}}]}, {}, ("1/1", "Running", "3 (20s ago)")),
        ("done", {"phase": "Succeeded", "containerStatuses": [ended(reason="Completed")]}, {}, ("0/1", "Completed", "0")),
        ("failed", {"phase": "Failed", "containerStatuses": [ended(1, reason="Error")]}, {}, ("0/1", "Error", "0")),
        ("out of memory", {"phase": "Failed", "containerStatuses": [ended(137, reason="OOMKilled")]}, {}, ("0/1", "OOMKilled", "0")),
        ("an exit code", {"phase": "Failed", "containerStatuses": [ended(3)]}, {}, ("0/1", "ExitCode:3", "0")),
        ("a signal", {"phase": "Failed", "containerStatuses": [ended(137, signal=9)]}, {}, ("0/1", "Signal:9", "0")),
        ("evicted", {"phase": "Failed", "reason": "Evicted"}, {}, ("0/1", "Evicted", "0")),
        ("one done, one ready", {"phase": "Running", "conditions": READY, "containerStatuses": [ended(reason="Completed"), RUNS]}, {"containers": 2}, ("1/2", "Running", "0")),
        ("one done, not all ready", {"phase": "Running", "containerStatuses": [ended(reason="Completed"), RUNS]}, {"containers": 2}, ("1/2", "NotReady", "0")),
        ("the first container that waits wins", {"phase": "Pending", "containerStatuses": [waiting("ErrImagePull"), waiting("ContainerCreating")]}, {"containers": 2}, ("0/2", "ErrImagePull", "0")),
        ("going away", {"phase": "Running", "conditions": READY, "containerStatuses": [RUNS]}, {"meta": DELETED}, ("1/1", "Terminating", "0")),
        ("on a lost node", {"phase": "Running", "reason": "NodeLost"}, {"meta": DELETED}, ("0/1", "Unknown", "0")),
        ("done and going away", {"phase": "Succeeded", "containerStatuses": [ended(reason="Completed")]}, {"meta": DELETED}, ("0/1", "Completed", "0")),
        ("before the first init container", {"phase": "Pending", "initContainerStatuses": [waiting("PodInitializing")]}, {"init": [{"name": "i"}]}, ("0/1", "Init:0/1", "0")),
        ("in the second of two", {"phase": "Pending", "initContainerStatuses": [ended(), {"name": "j", "state": {"running": {}}}]}, {"init": [{"name": "i"}, {"name": "j"}]}, ("0/1", "Init:1/2", "0")),
        ("init crashes", {"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff", restartCount=2)]}, {"init": [{"name": "i"}]}, ("0/1", "Init:CrashLoopBackOff", "2")),
        ("init failed", {"phase": "Pending", "initContainerStatuses": [ended(1, reason="Error")]}, {"init": [{"name": "i"}]}, ("0/1", "Init:Error", "0")),
        ("init ended with a code", {"phase": "Pending", "initContainerStatuses": [ended(2)]}, {"init": [{"name": "i"}]}, ("0/1", "Init:ExitCode:2", "0")),
        ("init was killed", {"phase": "Pending", "initContainerStatuses": [ended(137, signal=9)]}, {"init": [{"name": "i"}]}, ("0/1", "Init:Signal:9", "0")),
        ("init done, containers wait", {"phase": "Pending", "initContainerStatuses": [ended()], "containerStatuses": [waiting("PodInitializing")]}, {"init": [{"name": "i"}]}, ("0/1", "PodInitializing", "0")),
        ("restarts of init are forgotten once it is done", {"phase": "Running", "conditions": READY, "initContainerStatuses": [{**ended(), "restartCount": 4}], "containerStatuses": [RUNS]}, {"init": [{"name": "i"}]}, ("1/1", "Running", "0")),
        ("a sidecar counts", {"phase": "Running", "conditions": READY, "initContainerStatuses": [{**RUNS, "name": "i"}], "containerStatuses": [RUNS]}, {"init": [SIDECAR]}, ("2/2", "Running", "0")),
        ("a sidecar's restarts count", {"phase": "Running", "conditions": READY, "initContainerStatuses": [{**RUNS, "name": "i", "restartCount": 2}], "containerStatuses": [{**RUNS, "restartCount": 1}]}, {"init": [SIDECAR]}, ("2/2", "Running", "3")),
        ("a sidecar starts", {"phase": "Pending", "initContainerStatuses": [{"name": "i", "started": False, "state": {"running": {}}}]}, {"init": [SIDECAR]}, ("0/2", "Init:0/1", "0")),
    ],
)  # fmt: skip
def test_ready_status_and_restarts(
    sentence: str, status: dict[str, Any], options: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    meta = options.pop("meta", {})
    assert row(status, **options, **meta) == expected, sentence


def test_the_wide_columns_of_a_pod() -> None:
    spec = {"containers": [], "nodeName": "n", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]}
    status = {"podIP": "10.0.0.1", "nominatedNodeName": "m", "conditions": [{"type": "a", "status": "True"}]}
    assert pod_columns.cells({"metadata": {"name": "p"}, "spec": spec, "status": status}, NOW)[4:] == [
        "<unknown>",
        "10.0.0.1",
        "n",
        "m",
        "1/2",
    ]


def test_what_a_pod_does_not_have_is_none() -> None:
    assert pod_columns.cells({"metadata": {"name": "p"}}, NOW)[5:] == ["<none>"] * 4
