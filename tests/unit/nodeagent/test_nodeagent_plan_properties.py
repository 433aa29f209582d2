"""What holds of every plan and every status, whatever is there."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from nodeagent_given import container, pod, ran, sandbox, seen

from kube import types
from nodeagent.cri import records
from nodeagent.pods import crashloop, observed, plan, spec
from nodeagent.status import generate, patch, report

NAMES = ("i", "side", "a", "b")
STATES = st.sampled_from(["created", "running", "exited", "unknown"])


@st.composite
def pods(draw: st.DrawFn) -> types.Pod:
    """Pods with up to one init container, one sidecar and two main ones, some of them probed."""
    probe = {"exec": {"command": ["x"]}}
    probes = {kind: probe for kind in ("livenessProbe", "startupProbe", "readinessProbe") if draw(st.booleans())}
    init = [container("i")] if draw(st.booleans()) else []
    init += [container("side", restartPolicy="Always", **probes)] if draw(st.booleans()) else []
    mains = [container("a", **probes)] + ([container("b")] if draw(st.booleans()) else [])
    status = {"phase": draw(st.sampled_from(["", "Pending", "Running"]))}
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    return pod(*mains, init=tuple(init), restartPolicy=policy, status=status)


@st.composite
def observations(draw: st.DrawFn) -> observed.Observed:
    """Up to two sandboxes, and containers in any state in either."""
    boxes = [
        sandbox(f"box{n}", attempt=n, ready=draw(st.booleans()), ip=draw(st.sampled_from(["", "10.0.0.1"])))
        for n in range(draw(st.integers(0, 2)))
    ]
    found: list[records.Container] = []
    for name in NAMES if boxes else ():
        for restarts in range(draw(st.integers(0, 2))):
            found.append(
                ran(
                    name,
                    draw(STATES),
                    restarts=restarts,
                    code=draw(st.sampled_from([0, 1, 137])),
                    sandbox_id=draw(st.sampled_from([b.id for b in boxes])),
                    image=draw(st.sampled_from(["nodeagent.local/busybox:1", "other:1"])),
                )
            )
    return seen(*boxes, *found)


@st.composite
def situations(draw: st.DrawFn) -> plan.Situation:
    """Everything the planner looks at."""
    verdict = st.sampled_from([None, True, False])
    results = {
        (n, k): draw(verdict) for n in NAMES for k in ("liveness", "startup", "readiness") if draw(st.booleans())
    }
    delays = {n: crashloop.Delay(seconds=20.0, since=90.0) for n in NAMES if draw(st.booleans())}
    return plan.Situation(seen=draw(observations()), results=results, delays=delays, now=draw(st.floats(0, 1000)))


@given(pods(), situations())
def test_every_plan_keeps_the_rules(of: types.Pod, situation: plan.Situation) -> None:
    found = plan.plan(of, situation)
    running = {c.name: c.id for c in situation.seen.running}
    killed = {k.id for k in found.kill}
    names = [s.name for s in found.start]
    assert len(names) == len(set(names)), "nothing is started twice"
    assert all(running[name] in killed for name in names if name in running), (
        "what runs is killed before it is replaced"
    )
    assert not (found.end and found.start), "an ending pod starts nothing"
    assert not set(names) & set(found.backing_off)
    assert found.wait is None or found.wait > 0
    assert all(wait > 0 for wait in found.backing_off.values())
    for start in found.start:
        latest = situation.seen.latest(start.name)
        assert latest is None or start.restart_count >= observed.restart_count(latest), "counts never fall"
    if found.create_sandbox:
        box = situation.seen.sandbox
        assert found.attempt == (box.attempt + 1 if box else 0)
    if of.spec.restart_policy == "Never" and situation.seen.containers:
        assert not found.create_sandbox


@given(pods(), situations(), st.booleans())
def test_every_status_keeps_the_rules(of: types.Pod, situation: plan.Situation, final: bool) -> None:
    given_ = report.Report(
        seen=situation.seen,
        now="2026-11-23T15:00:00Z",
        results=situation.results,
        final=final and not situation.seen.running,
    )
    found = generate.status(of, given_)
    assert found["phase"] in ("Pending", "Running", "Succeeded", "Failed")
    assert [c["type"] for c in found["conditions"]] == sorted(
        {c["type"] for c in found["conditions"]}, key=[c["type"] for c in found["conditions"]].index
    )
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    entries: list[dict[str, Any]] = [*found.get("initContainerStatuses", []), *found["containerStatuses"]]
    assert {e["name"] for e in entries} == {c.name for c in spec.every(of)}
    assert all(len(e["state"]) == 1 for e in entries)
    if ready["status"] == "True":
        assert found["phase"] not in spec.TERMINAL
        assert all(e["ready"] for e in found["containerStatuses"])
    if found["phase"] in spec.TERMINAL:
        assert not situation.seen.running and not any("running" in e["state"] for e in entries)
    assert patch.between(found, found) == {}
    again = msgspec.structs.replace(of, status=msgspec.convert(found, types.PodStatus))
    assert generate.status(again, given_)["phase"] == found["phase"], "the same seen twice says the same"


@given(st.lists(st.floats(0, 500), min_size=1, max_size=20), st.floats(1, 300))
def test_a_crash_delay_stays_between_its_base_and_its_cap(lives: list[float], cap: float) -> None:
    delay: crashloop.Delay | None = None
    now = 0.0
    for life in lives:
        now += life
        wait = crashloop.remaining(delay, finished_at=now, now=now)
        assert 0 <= wait <= cap + 1e-6
        now += wait
        delay = crashloop.after_restart(delay, finished_at=now - wait, now=now, cap=cap)
        assert min(crashloop.BASE, cap) <= delay.seconds <= max(cap, 0)
