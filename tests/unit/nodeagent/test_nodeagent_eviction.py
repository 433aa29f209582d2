"""Which pod goes when the node runs short, what the node says of itself, and which images are given back."""

import dataclasses
import datetime
import os
from typing import Any

import pytest
from nodeagent_given import container, pod, ran, sandbox, seen

from kube import types
from nodeagent.cri import records
from nodeagent.eviction import plan, watch
from nodeagent.images import unused
from nodeagent.pods import admit, spec
from nodeagent.pods import plan as plans
from nodeagent.stats import figures
from nodeagent.status import generate, report
from tests.fakes.runtime import BUSYBOX, FakeRuntime

GIB = 1 << 30
LOW = plan.Threshold(signal="memory.available", value="100Mi")
SOFT = plan.Threshold(signal="memory.available", value="10%", grace=60.0)
DISK = plan.Threshold(signal="nodefs.available", value="10%")


def candidate(name: str, used: int, *, request: int = 0, priority: int = 0, **fields: Any) -> plan.Candidate:
    resources = {"requests": {"memory": str(request)}} if request else {}
    it = pod(container(resources=resources), metadata={"name": name, "uid": name}, priority=priority, **fields)
    return plan.Candidate(pod=it, usage={"memory": used, "pids": used})


@pytest.mark.parametrize(
    ("sentence", "candidates", "order"),
    [
        (
            "who uses more than requested goes before who matters less",
            [candidate("modest", 50, request=100), candidate("over", 200, request=100, priority=9)],
            ["over", "modest"],
        ),
        (
            "then who matters less",
            [candidate("high", 900, priority=5), candidate("low", 100, priority=1)],
            ["low", "high"],
        ),
        (
            "then who is furthest above the request",
            [candidate("a", 300, request=250), candidate("b", 200, request=50)],
            ["b", "a"],
        ),
    ],
)
def test_the_order_of_leaving(sentence: str, candidates: list[plan.Candidate], order: list[str]) -> None:
    assert [c.pod.metadata.name for c in plan.rank(candidates, "memory")] == order, sentence


def test_of_processes_the_one_with_most_goes() -> None:
    found = plan.rank([candidate("few", 5, request=1), candidate("many", 500)], "pids")
    assert found[0].pod.metadata.name == "many"


def test_static_and_critical_pods_never_go() -> None:
    marked = {"name": "s", "uid": "s", "annotations": {spec.CONFIG_SOURCE: "file"}}
    static = plan.Candidate(pod=pod(metadata=marked), usage={"memory": 900})
    critical = candidate("c", 900, priority=2_000_001_000)
    level = plan.Level(available=1, capacity=GIB)
    assert plan.evict(LOW, level, [static, critical], soft_grace=0) is None
    found = plan.evict(LOW, level, [static, critical, candidate("x", 2048)], soft_grace=0)
    assert found is not None and (found.uid, found.grace) == ("x", 0)
    assert found.message == (
        "The node was low on resource: memory. Threshold quantity: 102400Ki, available: 1. "
        "Containers main were using 2Ki, request is 0, has larger consumption. "
    )


@pytest.mark.parametrize(("most", "own", "grace"), [(0, 30, 30), (10, 30, 10), (60, 30, 30)])
def test_a_soft_threshold_leaves_time(most: int, own: int, grace: int) -> None:
    it = candidate("x", 1, terminationGracePeriodSeconds=own)
    found = plan.evict(SOFT, plan.Level(available=1, capacity=GIB), [it], soft_grace=most)
    assert found is not None and found.grace == grace


@pytest.mark.parametrize(
    ("available", "met"), [(GIB, []), (99 << 20, [LOW, SOFT]), (101 << 20, [SOFT]), (103 << 20, [])]
)
def test_thresholds_are_amounts_or_shares(available: int, met: list[plan.Threshold]) -> None:
    levels = {"memory.available": plan.Level(available=available, capacity=GIB)}
    assert plan.below([SOFT, LOW, DISK], levels) == met


def test_a_soft_threshold_has_to_last() -> None:
    assert plan.due([SOFT], {SOFT: 100.0}, now=159.0) == []
    assert plan.due([SOFT], {SOFT: 100.0}, now=160.0) == [SOFT]
    assert plan.due([LOW], {LOW: 100.0}, now=100.0) == [LOW]


def test_a_pressure_is_told_a_while_longer_than_it_lasts() -> None:
    assert plan.pressures([LOW], {}, now=0, transition=300) == {"MemoryPressure"}
    assert plan.pressures([], {"DiskPressure": 100.0}, now=399, transition=300) == {"DiskPressure"}
    assert plan.pressures([], {"DiskPressure": 100.0}, now=400, transition=300) == set()


@pytest.mark.parametrize(
    ("under", "fields", "taken"),
    [
        ({"MemoryPressure"}, {}, False),
        ({"MemoryPressure"}, {"resources": {"requests": {"memory": "1Mi"}}}, True),
        ({"DiskPressure"}, {"resources": {"requests": {"memory": "1Mi"}}}, False),
        (set(), {}, True),
    ],
)
def test_a_node_under_pressure_takes_fewer_pods(under: set[str], fields: dict[str, Any], taken: bool) -> None:
    room = {"cpu": "2", "memory": "1Gi", "pods": "10"}
    node = admit.Node(name="n1", labels={}, allocatable=room, under=frozenset(under))
    found = admit.reject(pod(container(**fields)), others=[], node=node)
    assert (found is None) == taken
    assert found is None or (found.reason == "Evicted" and "The node had condition" in found.message)


def test_an_evicted_pod_says_so_in_its_status() -> None:
    end = plans.End(reason="Evicted", message="low", grace=0)
    given = report.Report(seen=seen(sandbox(), ran(state="exited")), now="2026-11-23T15:00:00Z", end=end, final=True)
    told = generate.status(pod(), given)
    assert (told["phase"], told["reason"]) == ("Failed", "Evicted")
    (condition,) = [c for c in told["conditions"] if c["type"] == "DisruptionTarget"]
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")


class Clock:
    """Time that a test moves."""

    at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclasses.dataclass
class Worker:
    """A pod of the pool, as far as evicting it goes."""

    pod: types.Pod
    seen: Any
    end: plans.End | None = None
    active: bool = True

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid

    def finish(self, end: plans.End) -> None:
        self.end = end


class Scene:
    """A node whose memory and disk a test sets."""

    def __init__(self) -> None:
        self.memory, self.disk, self.images = GIB, 90, 0
        self.workers = [Worker(candidate(n, 0).pod, seen(sandbox(), ran())) for n in ("small", "large")]
        self.used = {"small": 10, "large": 1000}
        self.told: list[frozenset[str]] = []
        self.events: list[str] = []
        self.clock = Clock()
        self.watch = watch.PressureWatch(
            figures=self,  # type: ignore[arg-type]
            pool=self,  # type: ignore[arg-type]
            thresholds=[LOW, DISK],
            transition=30.0,
            soft_grace=0,
            free_images=self.free,
            tell=self.told.append,
            events=self,  # type: ignore[arg-type]
            clock=self.clock,
        )

    def node(self) -> figures.Node:
        return figures.Node(
            name="n1",
            cpus=1,
            memory_capacity=GIB,
            memory_available=self.memory,
            usage=figures.Usage(),
            filesystem=figures.Filesystem(capacity=100, available=self.disk, used=100 - self.disk),
        )

    def __call__(self, *, disk: bool = False) -> figures.Figures:
        pods = [
            figures.Pod(
                name=name, namespace="d", uid=name, start_time="", cgroup="", usage=figures.Usage(working_set=used)
            )
            for name, used in self.used.items()
        ]
        return figures.Figures(time=self.clock.now(), node=self.node(), pods=tuple(pods))

    def worker(self, uid: str) -> Worker | None:
        return next((w for w in self.workers if w.uid == uid), None)

    def event(self, _: Any, __: str, reason: str, ___: str) -> None:
        self.events.append(reason)

    async def free(self) -> int:
        return self.images


async def test_pods_go_one_by_one_until_there_is_room_again() -> None:
    scene = Scene()
    assert not await scene.watch.look()
    assert scene.told[-1] == set()
    scene.memory = 1
    assert await scene.watch.look()
    assert [w.uid for w in scene.workers if w.end] == ["large"] and scene.events == ["Evicted"]
    assert not await scene.watch.look(), "the first one still runs"
    scene.workers[1].seen = seen(sandbox())
    assert await scene.watch.look()
    assert all(w.end and w.end.grace == 0 for w in scene.workers)
    assert scene.told[-1] == {"MemoryPressure"}
    scene.memory = GIB
    scene.clock.at += 31
    assert not await scene.watch.look()
    assert scene.told[-1] == set()


async def test_images_go_before_pods_when_the_disk_is_full() -> None:
    scene = Scene()
    scene.disk, scene.images = 5, 1000
    assert not await scene.watch.look()
    assert not any(w.end for w in scene.workers) and scene.told[-1] == {"DiskPressure"}
    scene.images = 0
    assert await scene.watch.look()
    assert sum(w.end is not None for w in scene.workers) == 1


def image(name: str, size: int = 10, *, pinned: bool = False) -> records.Image:
    return records.Image(id=name, tags=(f"{name}:1",), size=size, pinned=pinned)


def test_the_longest_unused_images_go_first_and_only_as_many_as_needed() -> None:
    images = [image("new"), image("old"), image("busy"), image("pinned", pinned=True), image("fresh")]
    found = unused.choose(
        images,
        used=["busy:1"],
        last_used={"new": 500.0, "old": 100.0},
        first_seen={"new": 0.0, "old": 0.0, "busy": 0.0, "pinned": 0.0, "fresh": 990.0},
        now=1000.0,
        least_age=120.0,
        amount=15,
    )
    assert [i.id for i in found] == ["old", "new"]


def full(percent: int) -> Any:
    return lambda _: os.statvfs_result((1, 1, 100, 100 - percent, 100 - percent, 0, 0, 0, 0, 255))


@pytest.mark.parametrize(("percent", "high", "left"), [(90, 85, 1), (80, 85, 2), (99, 100, 2)])
async def test_unused_images_are_removed_above_the_high_mark(tmp_path: Any, percent: int, high: int, left: int) -> None:
    runtime, clock = FakeRuntime(), Clock()
    runtime.store["other"] = image("other", 50)
    runtime.made["c"] = dataclasses.replace(ran(), image=BUSYBOX)
    keeper = unused.UnusedImages(
        runtime, clock=clock, disk=tmp_path, percent=(high, 80), least_age=120.0, usage=full(percent)
    )
    assert await keeper.look() == 0, "nothing is old enough yet"
    clock.at += 200
    await keeper.look()
    assert len(runtime.store) == left and BUSYBOX in runtime.store
