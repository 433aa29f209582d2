"""Who is next, who waits, and what brings them back."""

import msgspec
import pytest

from controlplane.projection import Condition, Pod
from controlplane.scheduler import filter
from controlplane.scheduler.queue import Event, SchedulingQueue, Waiting


def pod(name: str, *, priority: int = 0, **spec: object) -> Pod:
    meta = {"name": name, "namespace": "default", "uid": name}
    return msgspec.convert({"metadata": meta, "spec": {"priority": priority, **spec}}, Pod)


def popped(queue: SchedulingQueue, *, now: float) -> Waiting:
    found = queue.pop(now=now)
    assert found is not None
    return found


def test_priority_comes_before_time() -> None:
    queue = SchedulingQueue()
    for second, name in enumerate(["first", "second"]):
        queue.add(pod(name), now=float(second))
    queue.add(pod("urgent", priority=5), now=9.0)
    assert [popped(queue, now=10).pod.metadata.name for _ in range(3)] == ["urgent", "first", "second"]
    assert queue.pop(now=10) is None


def test_a_removed_pod_is_never_handed_out() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), now=0)
    queue.remove("a")
    assert queue.pop(now=0) is None


def test_back_off_doubles_up_to_ten_seconds() -> None:
    queue, now, waits = SchedulingQueue(), 0.0, []
    queue.add(pod("a"), now=now)
    for _ in range(6):
        queue.failed(popped(queue, now=now), now=now)
        assert queue.pop(now=now) is None
        release = queue.next_release()
        assert release is not None
        waits.append(release - now)
        now = release
    assert waits == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(
    ("plugin", "event", "helps"),
    [
        (filter.FIT, Event.POD_GONE, True),
        (filter.FIT, Event.NODE_ALLOCATABLE, True),
        (filter.FIT, Event.NODE_LABELS, False),
        (filter.TAINT_TOLERATION, Event.NODE_TAINTS, True),
        (filter.TAINT_TOLERATION, Event.POD_GONE, False),
        (filter.NODE_AFFINITY, Event.NODE_LABELS, True),
        (filter.NODE_PORTS, Event.POD_GONE, True),
        (filter.NODE_UNSCHEDULABLE, Event.NODE_ADDED, True),
    ],
)
def test_only_what_could_help_brings_a_pod_back(plugin: str, event: Event, helps: bool) -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), now=0)
    queue.unschedulable(popped(queue, now=0), plugins=frozenset((plugin,)), now=0)
    assert queue.pop(now=100) is None
    assert queue.happened(event, now=100) is helps
    assert (queue.pop(now=100) is not None) is helps


def test_help_during_back_off_waits_for_its_end() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), now=0)
    queue.unschedulable(popped(queue, now=0), plugins=frozenset((filter.FIT,)), now=0)
    queue.happened(Event.POD_GONE, now=0.5)
    assert queue.counts() == {"active": 0, "backoff": 1, "unschedulable": 0}
    assert queue.pop(now=0.9) is None
    assert queue.pop(now=1.0) is not None


def test_after_five_minutes_a_pod_is_tried_again_anyway() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), now=0)
    queue.unschedulable(popped(queue, now=0), plugins=frozenset((filter.FIT,)), now=0)
    queue.flush(now=299)
    assert queue.pop(now=299) is None
    queue.flush(now=300)
    assert queue.pop(now=300) is not None


def test_a_status_update_is_no_reason_to_try_again_but_a_changed_spec_is() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), now=0)
    queue.unschedulable(popped(queue, now=0), plugins=frozenset((filter.FIT,)), now=0)
    told = pod("a")
    told.status.conditions = (Condition(type="PodScheduled", status="False"),)
    queue.add(told, now=5)
    assert queue.pop(now=5) is None
    queue.add(pod("a", nodeSelector={"a": "b"}), now=6)
    assert queue.pop(now=6) is not None
