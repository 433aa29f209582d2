"""Supervision: restarts alone, readiness, signals' effects; in virtual time."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from kube.runtime import supervise, systemd
from kube.runtime.supervise import Supervisor
from tests.fakes.clock import LoopClock

pytestmark = pytest.mark.looptime


class Part:
    """A component that does as told; `log` is shared by its incarnations."""

    def __init__(self, name: str, log: list[str], *, fails: bool = False, waits: str | None = None) -> None:
        self.name, self.log, self.fails, self.waits = name, log, fails, waits

    def say(self, what: str) -> None:
        self.log.append(f"{self.name} {what} at {asyncio.get_running_loop().time():g}")

    async def run(self) -> None:
        self.say("runs")
        await asyncio.sleep(0.5)
        if self.fails:
            raise OSError("no netlink")
        await asyncio.Event().wait()

    def ready(self) -> str | None:
        return self.waits

    async def reload(self) -> None:
        self.say("reloads")

    async def close(self) -> None:
        self.say("closes")


async def supervised(supervisor: Supervisor, *, seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await asyncio.sleep(seconds)
        supervisor.stop()


async def test_a_failing_component_is_restarted_alone_with_growing_waits() -> None:
    log: list[str] = []
    factories = {"good": lambda: Part("good", log), "bad": lambda: Part("bad", log, fails=True)}
    await supervised(Supervisor(factories, clock=LoopClock(), notify=lambda state: None), seconds=10)
    assert [line for line in log if line.startswith("good")] == ["good runs at 0", "good closes at 10"]
    assert [line for line in log if line.startswith("bad runs")] == [
        "bad runs at 0",
        "bad runs at 1.5",
        "bad runs at 4",
        "bad runs at 8.5",
    ]


async def test_a_factory_that_fails_is_called_again() -> None:
    log: list[str] = []
    calls = 0

    def build() -> Part:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("address in use")
        return Part("late", log)

    supervisor = Supervisor({"late": build}, clock=LoopClock(), notify=lambda state: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await asyncio.sleep(0.5)
        assert supervisor.ready() == {"late": "failed: address in use"}
        await asyncio.sleep(1)
        assert supervisor.ready() == {"late": None}
        supervisor.stop()


async def test_a_component_that_ends_by_itself_is_started_again() -> None:
    log: list[str] = []

    class Short(Part):
        async def run(self) -> None:
            self.say("runs")

    await supervised(
        Supervisor({"s": lambda: Short("s", log)}, clock=LoopClock(), notify=lambda state: None), seconds=2
    )
    assert log == ["s runs at 0", "s closes at 0", "s runs at 1", "s closes at 1"]


async def test_ready_is_told_once_when_all_are() -> None:
    log: list[str] = []
    told: list[str] = []
    slow = Part("slow", log, waits="no lease yet")
    factories = {"fast": lambda: Part("fast", log), "slow": lambda: slow}
    supervisor = Supervisor(factories, clock=LoopClock(), notify=told.append)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await asyncio.sleep(3)
        assert not any("READY=1" in each for each in told)
        assert told[-1] == "STATUS=waiting for slow: no lease yet"
        slow.waits = None
        await asyncio.sleep(3)
        assert told[-1] == "READY=1\nSTATUS=ready"
        supervisor.stop()
    assert sum("READY=1" in each for each in told) == 1
    assert told[-1] == "STOPPING=1"


async def test_the_watchdog_is_fed_from_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    told: list[str] = []
    await supervised(Supervisor({}, clock=LoopClock(), notify=told.append), seconds=9)
    assert told.count("WATCHDOG=1") == 5


async def test_a_close_that_hangs_is_cut() -> None:
    log: list[str] = []

    class Sticky(Part):
        async def close(self) -> None:
            await asyncio.Event().wait()

    start = asyncio.get_running_loop().time()
    await supervised(
        Supervisor({"s": lambda: Sticky("s", log)}, clock=LoopClock(), notify=lambda state: None), seconds=1
    )
    assert asyncio.get_running_loop().time() - start == 1 + supervise.CLOSE_SECONDS


async def test_a_component_that_does_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    class Deaf(Part):
        async def run(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(60)

    await supervised(Supervisor({"d": lambda: Deaf("d", log)}, clock=LoopClock(), notify=lambda state: None), seconds=1)
    assert "still waiting for the end of d" in caplog.text


async def test_a_cancellation_that_was_not_asked_for_is_a_failure_like_others() -> None:
    log: list[str] = []

    class Confused(Part):
        async def run(self) -> None:
            self.say("runs")
            raise asyncio.CancelledError

    await supervised(
        Supervisor({"c": lambda: Confused("c", log)}, clock=LoopClock(), notify=lambda state: None), seconds=2
    )
    assert [line for line in log if "runs" in line] == ["c runs at 0", "c runs at 1"]


async def test_a_readiness_check_that_fails_is_a_reason_and_ends_nobody() -> None:
    log: list[str] = []

    class Unsure(Part):
        def ready(self) -> str | None:
            raise KeyError("x")

    factories = {"u": lambda: Unsure("u", log), "good": lambda: Part("good", log)}
    supervisor = Supervisor(factories, clock=LoopClock(), notify=lambda state: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await asyncio.sleep(3)
        assert supervisor.ready() == {"u": "cannot say whether it is ready: KeyError: 'x'", "good": None}
        supervisor.stop()
    assert "good closes at 3" in log


async def test_a_reload_that_fails_does_not_keep_it_from_the_others() -> None:
    log: list[str] = []

    class Stubborn(Part):
        async def reload(self) -> None:
            raise OSError("bad file")

    factories = {"a": lambda: Stubborn("a", log), "b": lambda: Part("b", log)}
    supervisor = Supervisor(factories, clock=LoopClock(), notify=lambda state: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await asyncio.sleep(1)
        await supervisor.reload()
        supervisor.stop()
    assert "b reloads at 1" in log


async def test_cancelling_supervision_closes_every_component() -> None:
    log: list[str] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await Supervisor({"a": lambda: Part("a", log)}, clock=LoopClock(), notify=lambda state: None).run()
    assert log == ["a runs at 0", "a closes at 2"]


async def test_hangup_reloads_and_terminate_closes() -> None:
    log: list[str] = []
    loop = asyncio.get_running_loop()
    loop.call_later(1, os.kill, os.getpid(), signal.SIGHUP)
    loop.call_later(2, os.kill, os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(60):
        await supervise.supervise({"a": lambda: Part("a", log)}, clock=LoopClock(), notify=lambda state: None)
    assert [line.split(" at ")[0] for line in log] == ["a runs", "a reloads", "a closes"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_service_manager_is_told_over_its_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0nodeagent-test-{os.getpid()}")
        listener.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@nodeagent-test-{os.getpid()}")
        systemd.notify("READY=1")
        assert listener.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.notify("READY=1")  # nobody listens: not our failure


def test_a_watchdog_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_seconds() is None
