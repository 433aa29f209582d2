"""Reading container logs in the runtime's format."""

from __future__ import annotations

import asyncio
import datetime
import os
from pathlib import Path

import pytest

from nodeagent.logs import line, read

NOW = datetime.datetime(2026, 11, 23, 12, 0, 10, tzinfo=datetime.UTC)
LOG = b"".join(
    b"2026-11-23T12:00:0%d.00000000%dZ %s F line %d\n" % (n, n, b"stderr" if n % 3 == 2 else b"stdout", n)
    for n in range(10)
)


async def alive() -> bool:
    return True


async def ended() -> bool:
    return False


async def collect(path: Path, running=ended, **query: object) -> bytes:
    return b"".join([piece async for piece in read.read(path, line.Query(**query), running=running)])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "0.log", LOG)


def text(*numbers: int) -> bytes:
    return b"".join(b"line %d\n" % n for n in numbers)


async def test_the_whole_log(log: Path) -> None:
    assert await collect(log) == text(*range(10))


@pytest.mark.parametrize(("tail", "numbers"), [(0, []), (1, [9]), (3, [7, 8, 9]), (10, range(10)), (99, range(10))])
async def test_the_last_lines(log: Path, tail: int, numbers: list[int]) -> None:
    assert await collect(log, tail=tail) == text(*numbers)


@pytest.mark.parametrize("tail", [1, 2, 40, 99999, 100000, 100001])
def test_the_end_of_a_large_file_is_found_without_reading_it_all(tmp_path: Path, tail: int) -> None:
    lines = [b"%d %s\n" % (n, b"x" * (n % 50)) for n in range(100_000)]
    path = write(tmp_path / "big", b"".join(lines))
    handle = os.open(path, os.O_RDONLY)
    try:
        assert path.stat().st_size - read.tail_offset(handle, tail) == sum(map(len, lines[-tail:]))
    finally:
        os.close(handle)


async def test_pieces_of_a_line_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", b"T stdout P one \nT stdout P:x two \nT stdout F three\nT stdout F \nnonsense\n")
    assert await collect(path) == b"one two three\n\n"


async def test_one_stream_only(log: Path) -> None:
    assert await collect(log, stream=b"stderr") == text(2, 5, 8)


async def test_timestamps(log: Path) -> None:
    assert await collect(log, timestamps=True, tail=1) == b"2026-11-23T12:00:09.000000009Z line 9\n"


async def test_a_limit_in_bytes(log: Path) -> None:
    assert await collect(log, limit=10) == b"line 0\nlin"


async def test_since_a_time(log: Path) -> None:
    query = line.query({"sinceSeconds": "3"}, now=NOW)
    assert await collect(log, since=query.since) == text(7, 8, 9)
    query = line.query({"sinceTime": "2026-11-23T13:00:08.000000008+01:00"}, now=NOW)
    assert await collect(log, since=query.since) == text(8, 9)


def test_times_of_any_zone_and_precision_are_ordered() -> None:
    times = [
        b"2026-11-23T12:00:00Z",
        b"2026-11-23T13:00:00.000000001+01:00",
        b"2026-11-23T12:00:00.1Z",
        b"2026-11-23T07:00:01-05:00",
    ]
    assert sorted(map(line.sortable, times)) == list(map(line.sortable, times))
    assert line.sortable(b"yesterday+01:00") == b""


async def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(read.LogError, match=r"failed to open log file .*0\.log: No such file"):
        await collect(tmp_path / "0.log")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tailLines": "-1"}, "tailLines: must be greater than or equal to 0"),
        ({"tailLines": "x"}, "tailLines: 'x' is not a number"),
        ({"limitBytes": "0"}, "limitBytes: must be greater than or equal to 1"),
        ({"follow": "maybe"}, "follow: 'maybe' is not a boolean"),
        ({"sinceTime": "now"}, "sinceTime: 'now' is not an RFC 3339 time"),
        ({"sinceTime": "2026-11-23T12:00:00Z", "sinceSeconds": "1"}, "at most one of"),
        ({"stream": "Both"}, 'stream: Unsupported value: "Both"'),
    ],
)
def test_a_bad_parameter_is_named(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(line.QueryError) as caught:
        line.query(parameters, now=NOW)
    assert message in str(caught.value)


def test_a_query_is_read() -> None:
    found = line.query(
        {"follow": "true", "tailLines": "5", "timestamps": "1", "stream": "Stderr", "limitBytes": "9"}, now=NOW
    )
    assert found == line.Query(follow=True, timestamps=True, tail=5, limit=9, stream=b"stderr")


class Follower:
    """Someone who follows a log, and what they have seen."""

    def __init__(self, path: Path, group: asyncio.TaskGroup, **query: object) -> None:
        self.alive, self.asked, self.seen = True, 0, b""
        self.news = asyncio.Event()
        self.task = group.create_task(self.run(path, line.Query(follow=True, **query)))

    async def running(self) -> bool:
        self.asked += 1
        return self.alive

    async def run(self, path: Path, query: line.Query) -> None:
        async for piece in read.read(path, query, running=self.running):
            self.seen += piece
            self.news.set()

    async def sees(self, wanted: bytes) -> None:
        async with asyncio.timeout(5):
            while wanted not in self.seen:
                self.news.clear()
                await self.news.wait()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_a_follower_sees_what_is_written_when_its_line_is_whole(log: Path) -> None:
    async with asyncio.TaskGroup() as group:
        follower = Follower(log, group, tail=1)
        await follower.sees(b"line 9\n")
        append(log, b"T stdout F ha")
        await asyncio.sleep(0.05)
        append(log, b"lf\nT stdout F next\n")
        await follower.sees(b"next\n")
        assert follower.seen == b"line 9\nhalf\nnext\n"
        follower.task.cancel()


async def test_a_follower_goes_on_in_the_new_file_after_a_rotation(log: Path) -> None:
    async with asyncio.TaskGroup() as group:
        follower = Follower(log, group, tail=0)
        await asyncio.sleep(0.05)
        append(log, b"T stdout F before\n")
        os.rename(log, log.with_suffix(".log.1"))
        write(log, b"T stdout F after\n")
        await follower.sees(b"before\nafter\n")
        append(log, b"T stdout F more\n")
        await follower.sees(b"more\n")
        follower.task.cancel()


async def test_following_ends_soon_after_the_container(log: Path) -> None:
    async with asyncio.timeout(2), asyncio.TaskGroup() as group:
        follower = Follower(log, group, tail=0)
        with log.open("ab") as file:
            await asyncio.sleep(0.05)
            file.write(b"T stdout F last words\n")
        await asyncio.sleep(0.05)
        follower.alive = False  # the runtime knows a moment later
    assert follower.seen == b"last words\n"


async def test_following_the_log_of_a_dead_container_ends_at_once(log: Path) -> None:
    async with asyncio.timeout(2):
        assert await collect(log, follow=True) == text(*range(10))


async def test_a_follower_stops_at_its_limit(log: Path) -> None:
    async with asyncio.timeout(2):
        assert await collect(log, running=alive, follow=True, limit=7) == text(0)
