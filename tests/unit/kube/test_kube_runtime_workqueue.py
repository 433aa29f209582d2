"""The work queue's promises, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kube.runtime.backoff import Backoff
from kube.runtime.workqueue import WorkQueue, work

pytestmark = pytest.mark.looptime


async def ran(
    queue: WorkQueue[str], reconcile: Callable[[str], Awaitable[None]], *, seconds: float, workers: int = 1
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await work(queue, reconcile, workers=workers, name="test")


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def test_a_key_waits_only_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "aba":
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_added_while_worked_on_is_worked_on_again_but_never_twice_at_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    spans: list[tuple[float, float]] = []

    async def reconcile(key: str) -> None:
        start = now()
        if not spans:
            queue.add("a")
        await asyncio.sleep(1)
        spans.append((start, now()))

    await ran(queue, reconcile, seconds=5, workers=4)
    assert spans == [(0, 1), (1, 2)]


async def test_different_keys_are_worked_on_side_by_side() -> None:
    queue: WorkQueue[str] = WorkQueue()
    ended: list[tuple[str, float]] = []

    async def reconcile(key: str) -> None:
        await asyncio.sleep(1)
        ended.append((key, now()))

    for key in "abc":
        queue.add(key)
    await ran(queue, reconcile, seconds=5, workers=2)
    assert ended == [("a", 1), ("b", 1), ("c", 2)]


async def test_the_earliest_of_several_delays_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    seen: list[float] = []

    async def reconcile(key: str) -> None:
        seen.append(now())

    for seconds in (5, 2, 9):
        queue.add_after("a", seconds)
    await ran(queue, reconcile, seconds=20)
    assert seen == [2]


async def test_a_failing_key_is_retried_with_growing_waits_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    queue: WorkQueue[str] = WorkQueue(backoff=Backoff(1, 4))
    queue.add("a")
    tries: list[float] = []

    async def reconcile(key: str) -> None:
        tries.append(now())
        if len(tries) < 5:
            raise OSError("no route")

    await ran(queue, reconcile, seconds=60)
    assert tries == [0, 1, 3, 7, 11]
    assert [record.message for record in caplog.records] == ["test: a failed and will be tried again: no route"]


async def test_success_resets_the_back_off() -> None:
    queue: WorkQueue[str] = WorkQueue(backoff=Backoff(1, 60))
    tries: list[float] = []

    async def reconcile(key: str) -> None:
        tries.append(now())
        if len(tries) in (1, 2, 4):
            raise OSError("no route")

    queue.add("a")
    asyncio.get_running_loop().call_later(10, queue.add, "a")
    await ran(queue, reconcile, seconds=60)
    assert tries == [0, 1, 3, 10, 11]


async def test_a_fault_in_our_code_shows_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")

    async def reconcile(key: str) -> None:
        raise KeyError("x")

    await ran(queue, reconcile, seconds=0.004)
    assert caplog.records[0].exc_info is not None


async def test_a_worker_survives_the_cancellation_of_what_it_waited_for() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    tries: list[float] = []

    async def reconcile(key: str) -> None:
        tries.append(now())
        if len(tries) == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    await ran(queue, reconcile, seconds=1)
    assert len(tries) == 2


async def test_cancelling_leaves_no_timer_behind() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 100)

    async def reconcile(key: str) -> None: ...

    await ran(queue, reconcile, seconds=1)
    await asyncio.sleep(200)
    assert len(queue) == 0


def test_back_off_grows_to_its_cap_per_key_and_jitter_stretches_it() -> None:
    backoff = Backoff(1, 5)
    assert [backoff.next("a") for _ in range(5)] == [1, 2, 4, 5, 5]
    assert backoff.next("b") == 1
    backoff.reset("a")
    assert backoff.next("a") == 1
    assert Backoff(1, 5, jitter=1.0, rand=lambda: 0.5).next() == 1.5


@pytest.mark.parametrize(("base", "cap", "factor"), [(0, 1, 2), (2, 1, 2), (1, 2, 0.5)])
def test_a_senseless_back_off_is_refused(base: float, cap: float, factor: float) -> None:
    with pytest.raises(ValueError, match="back-off needs"):
        Backoff(base, cap, factor)
