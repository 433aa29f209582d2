"""Container logs that have grown too long."""

from __future__ import annotations

import datetime
import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeagent import errors
from nodeagent.cri import labels, records
from nodeagent.logs import rotate

NOW = datetime.datetime(2026, 11, 23, 12, 0, 5, tzinfo=datetime.UTC)


class FixedClock:
    def now(self) -> datetime.datetime:
        return NOW


class FakeContainers:
    """One running container that writes one log."""

    def __init__(self, log: Path) -> None:
        self.log, self.reopened, self.fault, self.state = log, 0, False, "running"

    async def list(self, *, labels: Mapping[str, str]) -> list[records.Container]:
        self.asked = dict(labels)
        return [records.Container(id="1", name="c", state=self.state)]  # type: ignore[arg-type]

    async def status(self, container_id: str) -> records.Container:
        return records.Container(id="1", name="c", log_path=str(self.log))

    async def reopen_log(self, container_id: str) -> None:
        if self.fault:
            raise errors.RuntimeUnavailable("ReopenContainerLog", "away")
        self.reopened += 1
        self.log.touch()


@pytest.fixture
def containers(tmp_path: Path) -> FakeContainers:
    log = tmp_path / "ns_p_uid-1" / "c" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * 101)
    return FakeContainers(log)


def a_rotator(containers: FakeContainers, *, max_files: int = 4) -> rotate.Rotator:
    root = containers.log.parents[2]
    return rotate.Rotator(
        pod_logs=root,
        containers=containers,  # type: ignore[arg-type]
        clock=FixedClock(),  # type: ignore[arg-type]
        max_bytes=100,
        max_files=max_files,
    )


def names(containers: FakeContainers) -> list[str]:
    return sorted(path.name for path in containers.log.parent.iterdir())


@pytest.mark.parametrize(
    ("rotated", "remove", "compress"),
    [
        ([], (), ()),
        (["l.1"], (), ()),
        (["l.1", "l.2"], (), ("l.1",)),
        (["l.1.gz", "l.2", "l.3"], ("l.1.gz",), ("l.2",)),
        (["l.1.gz", "l.2.gz", "l.3", "l.4", "l.2.tmp"], ("l.2.tmp", "l.1.gz", "l.2.gz"), ("l.3",)),
    ],
)
def test_the_oldest_parts_go_and_all_but_the_latest_are_compressed(
    rotated: list[str], remove: tuple[str, ...], compress: tuple[str, ...]
) -> None:
    assert rotate.plan(rotated, files=4) == rotate.Plan(remove, compress)


async def test_a_long_log_is_set_aside_and_the_runtime_told(containers: FakeContainers) -> None:
    await a_rotator(containers).look()
    assert names(containers) == ["0.log", "0.log.20261123-120005"]
    assert (containers.reopened, containers.log.stat().st_size) == (1, 0)
    assert containers.asked == {labels.POD_UID: "uid-1", labels.CONTAINER_NAME: "c"}
    await a_rotator(containers).look()
    assert containers.reopened == 1


async def test_no_more_parts_are_kept_than_allowed(containers: FakeContainers) -> None:
    for hour in (8, 9, 10):
        containers.log.with_name(f"0.log.20261123-{hour:02}0000").write_bytes(b"part %d" % hour)
    await a_rotator(containers).look()
    assert names(containers) == ["0.log", "0.log.20261123-090000.gz", "0.log.20261123-100000", "0.log.20261123-120005"]
    with gzip.open(containers.log.with_name("0.log.20261123-090000.gz")) as packed:
        assert packed.read() == b"part 9"


async def test_a_log_keeps_its_name_when_the_runtime_cannot_be_told(containers: FakeContainers) -> None:
    containers.fault = True
    with pytest.raises(errors.RuntimeUnavailable):
        await a_rotator(containers).look()
    assert names(containers) == ["0.log"]
    assert containers.log.stat().st_size == 101


async def test_the_log_of_a_dead_container_is_left_alone(containers: FakeContainers) -> None:
    containers.state = "exited"
    await a_rotator(containers).look()
    assert names(containers) == ["0.log"]


async def test_a_node_without_logs_has_nothing_to_do(tmp_path: Path) -> None:
    containers = FakeContainers(tmp_path / "none" / "a" / "b" / "0.log")
    await a_rotator(containers).look()
    assert containers.reopened == 0
