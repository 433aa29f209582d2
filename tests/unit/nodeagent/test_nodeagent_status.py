"""Pod status from what runs: phases, conditions, container states, and what is written of a change."""

from typing import Any

import msgspec
import pytest
from nodeagent_given import container, pod, ran, sandbox, seen

from kube import types
from nodeagent.pods import plan
from nodeagent.status import generate, patch, report

NOW = "2026-11-23T15:00:00Z"
LATER = "2026-11-23T15:01:00Z"


def status(of: types.Pod, *things: Any, **more: Any) -> dict[str, Any]:
    given = report.Report(seen=seen(*things), now=more.pop("now", NOW), host_ips=("192.168.77.11",), **more)
    return generate.status(of, given)


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in found["conditions"]}


def state(found: dict[str, Any], number: int = 0, kind: str = "containerStatuses") -> dict[str, Any]:
    result: dict[str, Any] = found[kind][number]["state"]
    return result


def again(of: types.Pod, found: dict[str, Any]) -> types.Pod:
    return msgspec.structs.replace(of, status=msgspec.convert(found, types.PodStatus))


def test_a_pod_that_was_just_bound_is_pending_and_creating() -> None:
    found = status(pod())
    assert found["phase"] == "Pending" and state(found) == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(found) == {
        "PodReadyToStartContainers": ("False", ""),
        "Initialized": ("True", ""),
        "Ready": ("False", "ContainersNotReady"),
        "ContainersReady": ("False", "ContainersNotReady"),
        "PodScheduled": ("True", ""),
    }
    assert found["hostIP"] == "192.168.77.11" and "podIP" not in found and found["startTime"] == NOW
    assert found["qosClass"] == "BestEffort" and found["observedGeneration"] == 1


def test_a_running_container_without_probes_makes_the_pod_ready_at_once() -> None:
    found = status(pod(), sandbox(), ran())
    assert found["phase"] == "Running" and conditions(found)["Ready"] == ("True", "")
    (entry,) = found["containerStatuses"]
    assert entry["ready"] and entry["started"] and entry["containerID"] == "containerd://main-0"
    assert entry["state"] == {"running": {"startedAt": "1970-01-01T00:00:51Z"}}
    assert found["podIPs"] == [{"ip": "10.0.0.1"}]


def test_readiness_follows_the_probe_and_waits_for_the_startup_probe() -> None:
    probe = {"exec": {"command": ["x"]}}
    probed = pod(container(readinessProbe=probe, startupProbe=probe))
    ready, started = ("main", "readiness"), ("main", "startup")
    assert not status(probed, sandbox(), ran(), results={ready: True})["containerStatuses"][0]["ready"]
    assert not status(probed, sandbox(), ran(), results={started: True})["containerStatuses"][0]["ready"]
    both = status(probed, sandbox(), ran(), results={ready: True, started: True})
    assert both["containerStatuses"][0]["ready"] and both["containerStatuses"][0]["started"]


def test_a_restarted_agent_does_not_make_a_ready_container_unready_before_it_has_probed() -> None:
    probed = pod(container(readinessProbe={"exec": {"command": ["x"]}}))
    ready = status(probed, sandbox(), ran(), results={("main", "readiness"): True})
    assert status(again(probed, ready), sandbox(), ran())["containerStatuses"][0]["ready"]
    assert not status(again(probed, ready), sandbox(), ran(), results={("main", "readiness"): False})[
        "containerStatuses"
    ][0]["ready"]
    assert not status(again(probed, ready), sandbox(), ran(restarts=1))["containerStatuses"][0]["ready"]


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Always", (0,), "Running"),
        ("Always", (1,), "Running"),
        ("OnFailure", (0,), "Succeeded"),
        ("OnFailure", (1,), "Running"),
        ("OnFailure", (0, 1), "Running"),
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
    ],
)
def test_the_phase_of_a_pod_whose_containers_have_ended(policy: str, codes: tuple[int, ...], phase: str) -> None:
    names = [f"c{number}" for number in range(len(codes))]
    dead = [ran(name, "exited", code=code) for name, code in zip(names, codes, strict=True)]
    assert status(pod(*(container(n) for n in names), restartPolicy=policy), sandbox(), *dead)["phase"] == phase


def test_a_pod_with_a_waiting_container_is_pending_even_beside_a_running_one() -> None:
    assert status(pod(container("a"), container("b")), sandbox(), ran("a"))["phase"] == "Pending"


def test_crash_loop_back_off_hides_how_the_container_ended_in_its_last_state() -> None:
    why = report.Waiting(reason="CrashLoopBackOff", message="back-off 10s")
    dead = ran(state="exited", code=3, ended=100.0, restarts=2)
    found = status(pod(), sandbox(), dead, waiting={"main": why}, messages={"main-2": "boom"})
    (entry,) = found["containerStatuses"]
    assert entry["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    ended = entry["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "boom")
    assert entry["restartCount"] == 2 and found["phase"] == "Running" and not entry["ready"]


def test_a_restarted_container_shows_the_one_before_as_last_state() -> None:
    found = status(pod(), sandbox(), ran(state="exited", code=1), ran(restarts=1))
    (entry,) = found["containerStatuses"]
    assert "running" in entry["state"] and entry["lastState"]["terminated"]["containerID"] == "containerd://main-0"
    assert entry["restartCount"] == 1


def test_containers_wait_for_init_containers() -> None:
    one = pod(init=(container("i"),))
    found = status(one, sandbox(), ran("i"))
    assert found["phase"] == "Pending" and state(found) == {"waiting": {"reason": "PodInitializing"}}
    assert conditions(found)["Initialized"] == ("False", "ContainersNotInitialized")
    done = status(one, sandbox(), ran("i", "exited"), ran())
    assert done["phase"] == "Running" and conditions(done)["Initialized"] == ("True", "")
    assert done["initContainerStatuses"][0]["ready"]


def test_a_failed_init_container_under_never_fails_the_pod_and_leaves_the_others_waiting() -> None:
    one = pod(init=(container("i"),), restartPolicy="Never")
    found = status(one, sandbox(), ran("i", "exited", code=1), final=True)
    assert found["phase"] == "Failed" and state(found) == {"waiting": {"reason": "PodInitializing"}}
    assert conditions(found)["Ready"] == ("False", "PodFailed")


def test_a_succeeded_pod_is_not_ready_because_it_is_complete() -> None:
    found = status(pod(restartPolicy="Never"), sandbox(), ran(state="exited"))
    assert conditions(found)["Ready"] == ("False", "PodCompleted")
    assert conditions(found)["Initialized"] == ("True", "PodCompleted")


def test_a_sidecar_must_be_ready_too() -> None:
    both = pod(init=(container("side", restartPolicy="Always", readinessProbe={"exec": {"command": ["x"]}}),))
    assert conditions(status(both, sandbox(), ran("side"), ran()))["Ready"] == ("False", "ContainersNotReady")
    ready = status(both, sandbox(), ran("side"), ran(), results={("side", "readiness"): True})
    assert conditions(ready)["Ready"] == ("True", "")


def test_a_terminal_phase_is_not_shown_while_a_sidecar_still_runs() -> None:
    both = pod(init=(container("side", restartPolicy="Always"),), restartPolicy="Never", status={"phase": "Running"})
    assert status(both, sandbox(), ran("side"), ran(state="exited"))["phase"] == "Running"
    assert (
        status(both, sandbox(), ran("side", "exited", code=143), ran(state="exited"), final=True)["phase"]
        == "Succeeded"
    )


def test_a_terminal_phase_never_goes_back() -> None:
    failed = pod(status={"phase": "Failed", "reason": "Evicted", "message": "m"})
    found = status(failed, sandbox(), ran())
    assert (found["phase"], found["reason"]) == ("Failed", "Evicted")


def test_a_pod_past_its_deadline_fails_with_the_reason_once_its_containers_have_stopped() -> None:
    over = plan.End(reason="DeadlineExceeded", message="too long")
    running = pod(status={"phase": "Running"})
    assert "reason" not in status(running, sandbox(), ran(), end=over)
    found = status(running, sandbox(), ran(state="exited", code=143), end=over, final=True)
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_refused_pod_fails_without_container_statuses_also_after_a_restart_of_the_agent() -> None:
    found = status(pod(), end=plan.End(reason="OutOfcpu", message="m"), final=True)
    assert (found["phase"], found["reason"]) == ("Failed", "OutOfcpu") and "containerStatuses" not in found
    assert "containerStatuses" not in status(again(pod(), found), end=plan.End(), final=True)


def test_a_deleted_pod_that_never_ran_is_failed_with_lost_containers() -> None:
    found = status(pod(), final=True)
    assert found["phase"] == "Failed"
    assert (state(found)["terminated"]["reason"], state(found)["terminated"]["exitCode"]) == (
        "ContainerStatusUnknown",
        137,
    )


def test_a_container_the_runtime_has_forgotten_keeps_its_count_and_counts_as_lost() -> None:
    before = status(pod(), sandbox(), ran(restarts=3))
    (entry,) = status(again(pod(), before), sandbox())["containerStatuses"]
    assert entry["restartCount"] == 3 and entry["state"]["waiting"]["reason"] == "ContainerCreating"
    assert entry["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_container_that_ended_and_was_removed_keeps_its_terminated_state() -> None:
    before = status(pod(restartPolicy="Never"), sandbox(), ran(state="exited", code=2), final=True)
    after = status(again(pod(restartPolicy="Never"), before), final=True)
    assert state(after) == state(before) and after["phase"] == "Failed"


def test_the_address_of_a_pod_that_ends_is_kept() -> None:
    before = status(pod(), sandbox(), ran())
    assert status(again(pod(), before), sandbox(ready=False), ran(state="exited"), final=True)["podIP"] == "10.0.0.1"


def test_readiness_gates_of_others_must_be_true() -> None:
    gated = {"readinessGates": [{"conditionType": "example.com/ok"}]}
    assert conditions(status(pod(**gated), sandbox(), ran()))["Ready"] == ("False", "ReadinessGatesNotReady")
    opened = pod(**gated, status={"conditions": [{"type": "example.com/ok", "status": "True"}]})
    assert conditions(status(opened, sandbox(), ran()))["Ready"] == ("True", "")


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    first = status(pod(), sandbox())
    second = status(again(pod(), first), sandbox(), ran(), now=LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["PodScheduled"] == NOW and times["Ready"] == LATER
    assert second["startTime"] == NOW


def test_an_unchanged_status_makes_no_patch() -> None:
    found = status(pod(), sandbox(), ran())
    assert patch.between(found, found) == {}
    assert patch.between(msgspec.to_builtins(again(pod(), found).status), found) == {}


def test_a_patch_takes_back_the_reason_of_a_condition_that_turned_true() -> None:
    before, after = status(pod(), sandbox()), status(pod(), sandbox(), ran())
    changed = {c["type"]: c for c in patch.between(before, after)["conditions"]}
    assert set(changed) == {"Ready", "ContainersReady"}
    assert changed["Ready"]["status"] == "True" and changed["Ready"]["reason"] is None


def test_a_patch_deletes_the_address_of_a_former_sandbox() -> None:
    before, after = status(pod(), sandbox(ip="10.0.0.1"), ran()), status(pod(), sandbox(ip="10.0.0.2"), ran())
    found = patch.between(before, after)
    assert found["podIP"] == "10.0.0.2"
    assert found["podIPs"] == [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}]


def test_a_patch_leaves_conditions_of_others_alone() -> None:
    found = status(pod(), sandbox(), ran())
    theirs = {**found, "conditions": [*found["conditions"], {"type": "example.com/ok", "status": "True"}]}
    assert patch.between(theirs, found) == {}
