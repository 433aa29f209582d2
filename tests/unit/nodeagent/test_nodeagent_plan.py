"""The planner, in sentences: what is there, what has changed, what is done."""

import dataclasses

import pytest
from nodeagent_given import container, planned, pod, ran, sandbox, starts

from nodeagent.pods import crashloop, plan

SIDECAR = container("side", restartPolicy="Always")


def test_a_new_pod_gets_a_sandbox_and_all_its_containers() -> None:
    found = planned(pod(container("a"), container("b")))
    assert found.create_sandbox and found.attempt == 0
    assert starts(found) == [("a", 0), ("b", 0)]


def test_a_new_pod_with_init_containers_starts_only_the_first() -> None:
    found = planned(pod(container("a"), init=(container("i"), container("j"))))
    assert found.create_sandbox and starts(found) == [("i", 0)]


def test_a_pod_that_runs_as_it_shall_is_left_alone() -> None:
    assert planned(pod(), sandbox(), ran()) == plan.PodPlan()


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_failed_container_is_started_again(policy: str) -> None:
    found = planned(pod(restartPolicy=policy), sandbox(), ran(state="exited", code=1))
    assert starts(found) == [("main", 1)] and not found.create_sandbox


def test_the_first_restart_is_immediate_and_the_next_waits_ten_seconds() -> None:
    dead = ran(state="exited", code=1, ended=100.0, restarts=1)
    delay = crashloop.after_restart(None, finished_at=90.0, now=90.0)
    found = planned(pod(), sandbox(), dead, now=104.0, delays={"main": delay})
    assert found.start == () and found.backing_off == {"main": pytest.approx(6.0)} and found.wait == pytest.approx(6.0)
    assert starts(planned(pod(), sandbox(), dead, now=110.1, delays={"main": delay})) == [("main", 2)]


def test_a_container_that_ended_well_is_not_started_again_on_failure_policy() -> None:
    found = planned(pod(restartPolicy="OnFailure"), sandbox(), ran(state="exited", code=0))
    assert found.start == () and found.end == plan.End()


def test_a_container_that_ended_well_is_started_again_on_always_policy() -> None:
    assert starts(planned(pod(), sandbox(), ran(state="exited", code=0))) == [("main", 1)]


def test_a_pod_that_never_restarts_ends_with_its_last_container() -> None:
    both = pod(container("a"), container("b"), restartPolicy="Never")
    half = planned(both, sandbox(), ran("a", "exited", code=1), ran("b"))
    assert half.end is None and half.start == ()
    assert planned(both, sandbox(), ran("a", "exited", code=1), ran("b", "exited")).end == plan.End()


def test_a_container_that_was_created_but_never_started_is_made_again_which_is_no_restart() -> None:
    assert starts(planned(pod(restartPolicy="Never"), sandbox(), ran(state="created"))) == [("main", 0)]
    assert starts(planned(pod(), sandbox(), ran(state="created", restarts=2))) == [("main", 2)]


def test_an_older_attempt_that_still_runs_is_killed_before_another_is_started() -> None:
    found = planned(pod(init=(container("i"),)), sandbox(), ran("i", "running"), ran("i", "created", restarts=1))
    assert [k.id for k in found.kill] == ["i-0"]
    assert [s.name for s in found.start] == ["i"]


def test_a_container_in_unknown_state_is_killed_before_another_is_started() -> None:
    found = planned(pod(restartPolicy="Never"), sandbox(), ran(state="unknown"))
    assert [k.id for k in found.kill] == ["main-0"] and starts(found) == [("main", 1)]


def test_a_container_of_another_image_is_killed_and_started_again() -> None:
    found = planned(pod(restartPolicy="Never"), sandbox(), ran(image="other:1"))
    assert [k.id for k in found.kill] == ["main-0"] and starts(found) == [("main", 1)]
    assert found.kill[0].message == "Container main definition changed, will be restarted"


def test_a_container_made_by_another_agent_without_our_annotation_is_left_alone() -> None:
    foreign = ran()
    foreign.annotations.pop("io.kubernetes.container.hash")  # type: ignore[attr-defined]
    assert planned(pod(), sandbox(), foreign) == plan.PodPlan()


@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_a_failed_probe_kills_with_its_own_grace(kind: str) -> None:
    probe = {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 7}
    probed = pod(container(**{f"{kind}Probe": probe}))
    found = planned(probed, sandbox(), ran(), results={("main", kind): False})
    assert [(k.message, k.grace) for k in found.kill] == [(f"Container main failed {kind} probe, will be restarted", 7)]
    assert found.start == () and found.end is None


def test_a_container_killed_for_its_probe_is_started_again_however_it_ended_and_with_back_off() -> None:
    lazy = pod(restartPolicy="OnFailure")
    dead = ran(state="exited", code=0, ended=100.0)
    assert starts(planned(lazy, sandbox(), dead, killed=frozenset({"main-0"}))) == [("main", 1)]
    delay = crashloop.Delay(seconds=10.0, since=50.0)
    found = planned(lazy, sandbox(), dead, killed=frozenset({"main-0"}), delays={"main": delay})
    assert found.backing_off == {"main": pytest.approx(10.0)}


def test_a_failed_liveness_probe_under_never_kills_without_a_restart() -> None:
    probed = pod(container(livenessProbe={"exec": {"command": ["x"]}}), restartPolicy="Never")
    found = planned(probed, sandbox(), ran(), results={("main", "liveness"): False})
    assert len(found.kill) == 1 and found.start == () and found.end is None


def test_a_failed_readiness_probe_kills_nothing() -> None:
    probed = pod(container(readinessProbe={"exec": {"command": ["x"]}}))
    assert planned(probed, sandbox(), ran(), results={("main", "readiness"): False}) == plan.PodPlan()


def test_a_dead_sandbox_is_replaced_and_containers_keep_counting() -> None:
    found = planned(pod(), sandbox(ready=False), ran(state="exited", code=137, restarts=3))
    assert found.create_sandbox and found.attempt == 1 and starts(found) == [("main", 4)]


def test_what_still_runs_in_a_dead_sandbox_is_killed() -> None:
    found = planned(pod(), sandbox(ready=False), ran())
    assert [k.id for k in found.kill] == ["main-0"] and found.create_sandbox


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    found = planned(pod(init=(container("i"),)), sandbox(ready=False), ran("i", "exited"), ran(state="exited"))
    assert starts(found) == [("i", 1)]


def test_a_dead_sandbox_is_not_replaced_for_a_pod_that_never_restarts() -> None:
    found = planned(pod(restartPolicy="Never"), sandbox(ready=False), ran(state="exited", code=137))
    assert not found.create_sandbox and found.end == plan.End()


def test_a_dead_sandbox_is_not_replaced_when_everything_has_succeeded() -> None:
    found = planned(pod(restartPolicy="OnFailure"), sandbox(ready=False), ran(state="exited", code=0))
    assert not found.create_sandbox and found.end == plan.End()


def test_a_sandbox_whose_creation_failed_before_any_container_is_tried_again_even_under_never() -> None:
    found = planned(pod(restartPolicy="Never"), sandbox(ready=False))
    assert found.create_sandbox and found.attempt == 1


def test_a_sandbox_without_an_address_is_replaced_unless_the_pod_is_in_the_hosts_network() -> None:
    assert planned(pod(), sandbox(ip="")).create_sandbox
    on_host = dataclasses.replace(sandbox(ip=""), host_network=True)
    assert starts(planned(pod(hostNetwork=True), on_host)) == [("main", 0)]
    assert planned(pod(hostNetwork=True), sandbox()).create_sandbox


def test_two_ready_sandboxes_are_one_too_many() -> None:
    assert planned(pod(), sandbox("old"), sandbox("box", attempt=1), ran()).create_sandbox


def test_the_next_init_container_starts_when_the_one_before_has_succeeded() -> None:
    two = pod(init=(container("i"), container("j")))
    assert planned(two, sandbox(), ran("i")) == plan.PodPlan()
    assert starts(planned(two, sandbox(), ran("i", "exited"))) == [("j", 0)]
    assert starts(planned(two, sandbox(), ran("i", "exited"), ran("j", "exited"))) == [("main", 0)]


def test_a_failed_init_container_is_retried_with_back_off() -> None:
    one = pod(init=(container("i"),))
    dead = ran("i", "exited", code=1, ended=100.0)
    assert starts(planned(one, sandbox(), dead)) == [("i", 1)]
    delay = crashloop.Delay(seconds=20.0, since=90.0)
    assert planned(one, sandbox(), dead, delays={"i": delay}).backing_off == {"i": pytest.approx(20.0)}


def test_a_failed_init_container_under_never_ends_the_pod() -> None:
    found = planned(pod(init=(container("i"),), restartPolicy="Never"), sandbox(), ran("i", "exited", code=1))
    assert found.end == plan.End() and found.start == ()


def test_init_containers_the_runtime_has_forgotten_do_not_run_again_beside_main_ones() -> None:
    assert planned(pod(init=(container("i"),)), sandbox(), ran()) == plan.PodPlan()


def test_what_follows_a_sidecar_waits_until_it_has_started() -> None:
    probed = container("side", restartPolicy="Always", startupProbe={"exec": {"command": ["x"]}})
    both = pod(init=(probed, container("i")))
    assert planned(both, sandbox(), ran("side")).start == ()
    assert starts(planned(both, sandbox(), ran("side"), results={("side", "startup"): True})) == [("i", 0)]


def test_a_sidecar_is_restarted_whatever_the_pods_policy() -> None:
    found = planned(pod(init=(SIDECAR,), restartPolicy="Never"), sandbox(), ran("side", "exited", code=0), ran())
    assert starts(found) == [("side", 1)] and found.end is None


def test_a_sidecar_does_not_keep_a_pod_alive() -> None:
    found = planned(pod(init=(SIDECAR,), restartPolicy="Never"), sandbox(), ran("side"), ran(state="exited"))
    assert found.end == plan.End()


def test_an_ephemeral_container_starts_once_and_never_again() -> None:
    debugged = pod(ephemeralContainers=[container("debug")])
    assert starts(planned(debugged, sandbox(), ran())) == [("debug", 0)]
    assert planned(debugged, sandbox(), ran(), ran("debug", "exited", code=1)) == plan.PodPlan()


def test_the_restart_count_never_falls_when_the_runtime_has_forgotten_the_container() -> None:
    known = {"name": "main", "restartCount": 4, "containerID": "containerd://gone"}
    assert starts(planned(pod(status={"containerStatuses": [known]}), sandbox())) == [("main", 5)]


def test_a_pod_over_its_deadline_fails_and_before_it_waits_for_it() -> None:
    limited = pod(activeDeadlineSeconds=30, status={"startTime": "1970-01-01T00:01:00Z"})
    assert planned(limited, sandbox(), ran(), now=80.0).wait == pytest.approx(10.0)
    found = planned(limited, sandbox(), ran(), now=90.0)
    assert found.end is not None and found.end.reason == "DeadlineExceeded"


@pytest.mark.parametrize(
    ("crashes", "delays"),
    [(1, [10]), (2, [10, 20]), (6, [10, 20, 40, 80, 160, 300]), (8, [10, 20, 40, 80, 160, 300] + [300] * 2)],
)
def test_the_delay_doubles_to_its_cap(crashes: int, delays: list[float]) -> None:
    found: list[float] = []
    delay: crashloop.Delay | None = None
    now = 0.0
    for _ in range(crashes):
        delay = crashloop.after_restart(delay, finished_at=now, now=now)
        found.append(delay.seconds)
        now += delay.seconds
    assert found == delays


def test_the_delay_is_forgotten_after_ten_minutes_without_a_restart() -> None:
    delay = crashloop.Delay(seconds=160.0, since=1000.0)
    assert crashloop.remaining(delay, finished_at=1600.0, now=1600.0) == 160.0
    assert crashloop.remaining(delay, finished_at=1601.0, now=1601.0) == 0.0
    assert crashloop.after_restart(delay, finished_at=1601.0, now=1601.0).seconds == 10.0


def test_a_configured_cap_also_bounds_the_first_delay() -> None:
    assert crashloop.after_restart(None, finished_at=0.0, now=0.0, cap=1.0).seconds == 1.0
