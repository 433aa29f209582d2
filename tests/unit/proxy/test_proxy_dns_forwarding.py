"""Several upstream servers, stub domains, old replies, refreshes, loops: with an exchange that does as told."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.dns import cache, pool, wire
from proxy.dns.cache import Cache, Limits, Reply
from proxy.dns.pool import Pool
from proxy.dns.upstream import PROBE_LABEL, Upstream
from proxy.dns.wire import Query

ONE, TWO, THREE = ("192.0.2.1", 53), ("192.0.2.2", 53), ("192.0.2.3", 53)
GOOD = Reply(rcode=wire.NOERROR, counts=(1, 0, 0), body=b"\xc0\x0c" + bytes(8) + b"\0\4abcd", ttls=((6, 60),))
FAILED = Reply(rcode=wire.SERVFAIL, counts=(0, 0, 0), body=b"", ttls=())


class Told:
    """Answers per server; who is missing is silent."""

    def __init__(self, **_: object) -> None:
        self.replies: dict[tuple[str, int], Reply] = {}
        self.asked: list[tuple[str, int]] = []
        self.names: list[bytes] = []
        self._more = asyncio.Event()

    async def next(self) -> None:
        """Waits for the next question."""
        self._more.clear()
        await self._more.wait()

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        self.asked.append(server)
        self.names.append(query.name)
        self._more.set()
        await asyncio.sleep(0)
        if server not in self.replies:
            raise OSError("nobody there")
        return self.replies[server]


def query(name: str = "example.com") -> Query:
    wired = wire.encode_name(name)
    return Query(7, wire.RD, wired + b"\0\1\0\1", wired, wire.A, wire.IN)


@pytest.fixture
def told() -> Told:
    return Told()


async def test_a_server_that_fails_twice_is_asked_last_until_it_answers_a_check(told: Told) -> None:
    told.replies[TWO] = GOOD
    servers = Pool([ONE, TWO], exchange=told, policy=pool.SEQUENTIAL)
    for _ in range(2):
        assert await servers.ask(query()) == GOOD
    assert servers.down == [ONE]
    told.asked.clear()
    assert await servers.ask(query()) == GOOD
    assert told.asked == [TWO]
    told.replies[ONE] = GOOD
    await servers.check()
    assert servers.down == []
    told.asked.clear()
    await servers.ask(query())
    assert told.asked == [ONE]


async def test_when_all_are_down_they_are_asked_all_the_same(told: Told) -> None:
    servers = Pool([ONE, TWO], exchange=told)
    for _ in range(2):
        assert await servers.ask(query()) is None
    assert servers.all_down
    told.replies[ONE] = GOOD
    assert await servers.ask(query()) == GOOD


async def test_round_robin_takes_turns_and_random_uses_all(told: Told) -> None:
    told.replies = {ONE: GOOD, TWO: GOOD, THREE: GOOD}
    servers = Pool([ONE, TWO, THREE], exchange=told, policy=pool.ROUND_ROBIN)
    for _ in range(6):
        await servers.ask(query())
    assert told.asked[:3] == told.asked[3:]
    assert set(told.asked) == {ONE, TWO, THREE}
    told.asked.clear()
    servers = Pool([ONE, TWO, THREE], exchange=told)
    for _ in range(60):
        await servers.ask(query())
    assert set(told.asked) == {ONE, TWO, THREE}


async def test_a_server_failure_is_passed_on_only_when_nobody_knows_better(told: Told) -> None:
    told.replies = {ONE: FAILED, TWO: GOOD}
    servers = Pool([ONE, TWO], exchange=told, policy=pool.SEQUENTIAL)
    assert await servers.ask(query()) == GOOD
    told.replies[TWO] = FAILED
    assert await servers.ask(query()) == FAILED


async def test_a_stub_domain_has_servers_of_its_own_and_ends_at_a_label(told: Told) -> None:
    told.replies = {ONE: GOOD, TWO: GOOD, ("192.0.2.3", 5353): GOOD}
    stubs = {"corp": ["192.0.2.2"], "deep.corp.": ["192.0.2.3:5353"]}
    upstream = Upstream(["192.0.2.1"], now=lambda: 0.0, stubs=stubs, exchange=told)
    for name in ("a.corp", "b.deep.corp", "notcorp", "corp"):
        await upstream.ask(query(name))
    assert told.asked == [TWO, ("192.0.2.3", 5353), ONE, TWO]


class Clock:
    """Seconds set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def upstream_of(told: Told, now: Callable[[], float], **limits: int) -> Upstream:
    return Upstream(["192.0.2.1"], now=now, exchange=told, cache=Cache(limits=Limits(**limits)))


async def test_an_old_reply_serves_when_nobody_answers_but_not_for_ever(told: Told) -> None:
    clock = Clock()
    upstream = upstream_of(told, clock, stale=100)
    told.replies[ONE] = GOOD
    await upstream.ask(query())
    del told.replies[ONE]
    clock.now = 61.0
    assert upstream.cached(query()) is None
    old = await upstream.ask(query())
    assert old is not None
    assert (old.rcode, old.ttls) == (wire.NOERROR, ((6, cache.STALE_TTL),))
    told.replies[ONE] = FAILED
    assert (await upstream.ask(query())) == old
    del told.replies[ONE]
    clock.now = 200.0
    assert await upstream.ask(query()) is None


async def test_old_replies_can_be_switched_off(told: Told) -> None:
    clock = Clock()
    upstream = upstream_of(told, clock, stale=0)
    told.replies[ONE] = GOOD
    await upstream.ask(query())
    del told.replies[ONE]
    clock.now = 61.0
    assert await upstream.ask(query()) is None


async def test_a_popular_reply_is_refreshed_before_its_end(told: Told) -> None:
    clock = Clock()
    upstream = upstream_of(told, clock)
    told.replies[ONE] = GOOD
    await upstream.ask(query())
    clock.now = 56.0
    for _ in range(3):
        assert upstream.cached(query()) is not None
    async with asyncio.TaskGroup() as group:
        running = group.create_task(upstream.run())
        async with asyncio.timeout(5):
            while told.names.count(query().name) < 2:
                await told.next()
        running.cancel()
    clock.now = 70.0
    assert upstream.cached(query()) is not None
    assert upstream.cache.prefetches == 1


async def test_who_asks_for_many_and_leaves_does_not_fail_the_others(told: Told) -> None:
    upstream = upstream_of(told, lambda: 0.0)
    told.replies[ONE] = GOOD
    async with asyncio.TaskGroup() as group:
        first = group.create_task(upstream.ask(query()))
        others = [group.create_task(upstream.ask(query())) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
    assert [await each for each in others] == [GOOD, GOOD, GOOD]


async def test_a_server_that_leads_back_to_us_is_asked_no_more(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.replies[ONE] = GOOD
    upstream = upstream_of(told, lambda: 0.0)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(upstream.run())
        async with asyncio.timeout(5):
            while not (probes := [name for name in told.names if name.startswith(PROBE_LABEL)]):
                await told.next()
        running.cancel()
    assert not upstream.is_probe(PROBE_LABEL + wire.encode_name("somebody.elses"))
    assert upstream.available(b"\0")
    assert upstream.is_probe(probes[0])
    assert not upstream.available(b"\0")
    assert "leads back" in caplog.text
