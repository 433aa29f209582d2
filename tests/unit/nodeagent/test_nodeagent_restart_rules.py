"""Who restarts after which exit code, what the phase becomes, and what a node refuses because it cannot do it."""

from typing import Any

import pytest
from nodeagent_given import container, planned, pod, ran, sandbox, seen, starts

from nodeagent.pods import admit, crashloop, files, plan
from nodeagent.status import generate, report

ROOM = admit.Node(name="n1", labels={}, allocatable={"cpu": "2", "memory": "1Gi", "pods": "10"})


def rule(operator: str, *codes: int, action: str = "Restart") -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": operator, "values": list(codes)}}


@pytest.mark.parametrize(
    ("sentence", "whole", "own", "rules", "code", "again"),
    [
        ("the pod's policy", "Always", None, [], 0, True),
        ("the pod's policy, after success", "OnFailure", None, [], 0, False),
        ("the container's own policy comes first", "Never", "OnFailure", [], 1, True),
        ("and the other way round", "Always", "Never", [], 1, False),
        ("a rule for this code", "Never", "Never", [rule("In", 42)], 42, True),
        ("a rule for another code", "Never", "Never", [rule("In", 42)], 43, False),
        ("a rule for all but one", "Never", "Never", [rule("NotIn", 0)], 43, True),
        ("that one", "Never", "Never", [rule("NotIn", 0)], 0, False),
    ],
)
def test_a_container_that_ended_is_started_again_or_not(
    sentence: str, whole: str, own: str | None, rules: list[Any], code: int, again: bool
) -> None:
    it = pod(container(restartPolicy=own, restartPolicyRules=rules), restartPolicy=whole)
    ended = ran(state="exited", code=code)
    found = planned(it, sandbox(), ended)
    assert starts(found) == ([("main", 1)] if again else []), sentence
    assert found.end == (None if again else plan.End()), sentence
    told = generate.status(it, report.Report(seen=seen(sandbox(), ended), now="2026-11-23T15:00:00Z"))
    assert told["phase"] == ("Running" if again else "Failed" if code else "Succeeded"), sentence


ALL = pod(
    container(restartPolicyRules=[rule("In", 42, action="RestartAllContainers")]),
    container("side"),
    init=(container("prepare"),),
    restartPolicy="Never",
)
PREPARED = ran("prepare", "exited")


def test_one_container_may_have_all_of_the_pod_start_anew_and_goes_last() -> None:
    ended = ran(state="exited", code=42)
    found = planned(ALL, sandbox(), ended, ran("side"), PREPARED)
    assert [c.name for c in found.reset] == ["side", "prepare", "main"]
    assert not found.start and not found.kill and not found.create_sandbox
    told = generate.status(ALL, report.Report(seen=seen(sandbox(), ended, PREPARED), now="2026-11-23T15:00:00Z"))
    [condition] = [c for c in told["conditions"] if c["type"] == "AllContainersRestarting"]
    assert condition["status"] == "True" and told["phase"] != "Failed"
    begun = planned(ALL, sandbox())
    assert starts(begun) == [("prepare", 0)]


def test_another_code_starts_nothing_anew() -> None:
    assert planned(ALL, sandbox(), ran(state="exited", code=1), ran("side"), PREPARED).reset == ()


def test_starting_all_anew_backs_off_like_any_crash() -> None:
    late = crashloop.Delay(seconds=40.0, since=60.0)
    found = planned(ALL, sandbox(), ran(state="exited", code=42, ended=90.0), delays={"main": late}, now=100.0)
    assert found.reset == () and found.backing_off == {"main": 30.0}


def test_an_init_container_with_a_policy_of_its_own_is_tried_again_in_a_pod_that_is_not() -> None:
    it = pod(init=(container("i", restartPolicy="OnFailure"),), restartPolicy="Never")
    found = planned(it, sandbox(), ran("i", "exited", code=1))
    assert starts(found) == [("i", 1)] and found.end is None
    told = generate.status(it, report.Report(seen=seen(sandbox(), ran("i", "exited", code=1)), now="x"))
    assert told["phase"] == "Pending"


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        ({"hostUsers": False}, "UnexpectedAdmissionError", "user namespaces are not supported"),
        (
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled',
        ),
        (
            {"hostIPC": True, "securityContext": {"sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled',
        ),
    ],
)
def test_what_a_node_cannot_do_is_refused_in_words(spec: dict[str, Any], reason: str, message: str) -> None:
    found = admit.reject(pod(*spec.pop("containers", ()), **spec), others=[], node=ROOM)
    assert found is not None and found.reason == reason and message in found.message


def test_many_containers_share_the_room_for_termination_messages(tmp_path: Any) -> None:
    kept = files.PodFiles(tmp_path, pod_logs=tmp_path, container_logs=tmp_path)
    ended = ran(state="exited")
    path = kept.message("u", "main", 0)
    path.parent.mkdir(parents=True)
    path.write_text("x" * 10_000)
    assert len(kept.messages("u", [ended], logs=tmp_path, containers=1)["main-0"]) == 4096
    assert len(kept.messages("u", [ended], logs=tmp_path, containers=12)["main-0"]) == 1024
