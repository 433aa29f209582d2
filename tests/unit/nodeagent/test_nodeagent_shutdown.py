"""The machine stops, and its pods end before it: the bus, the plan, and both at work."""

import asyncio
import os
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import container, pod
from nodeagent_node import Node, eventually, sleeping

from kube.runtime.clock import SystemClock
from nodeagent import config, errors
from nodeagent.pods import admit
from nodeagent.shutdown import dbus, logind, plan, watch
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.runtime import FakeRuntime

CRITICAL = 2_000_001_000


def signal(stopping: bool, serial: int = 9) -> bytes:
    """PrepareForShutdown, as logind sends it."""
    fields = bytearray()
    for number, kind, text in (
        (dbus.PATH, "o", logind.LOGIN_PATH),
        (dbus.INTERFACE, "s", logind.MANAGER),
        (dbus.MEMBER, "s", "PrepareForShutdown"),
    ):
        dbus._field(fields, number, kind)
        dbus._string(fields, text)
    dbus._field(fields, dbus.SIGNATURE, "g")
    dbus._signature(fields, "b")
    head = struct.pack("<cBBBIII", b"l", dbus.SIGNAL, 1, 1, 4, serial, len(fields))
    return dbus._padded(head + bytes(fields), 8) + struct.pack("<I", stopping)


def reply(to: int, *, kind: int = dbus.RETURN, signature: str = "", body: bytes = b"") -> bytes:
    fields = bytearray()
    dbus._field(fields, dbus.REPLY_SERIAL, "u")
    dbus._pad(fields, 4)
    fields += struct.pack("<I", to)
    if signature:
        dbus._field(fields, dbus.SIGNATURE, "g")
        dbus._signature(fields, signature)
    head = struct.pack("<cBBBIII", b"l", kind, 1, 1, len(body), 99, len(fields))
    return dbus._padded(head + bytes(fields), 8) + body


class Bus:
    """The system bus with logind on it: answers what an inhibitor asks, in pieces of odd sizes."""

    def __init__(self, path: Path) -> None:
        self.listening = socket.create_server(str(path), family=socket.AF_UNIX)
        self.listening.setblocking(False)
        self.members: list[str] = []
        self.peer: socket.socket | None = None
        self.held, self.given = os.pipe()
        self.delay = 30.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.peer, _ = await loop.sock_accept(self.listening)
        data = b""
        while b"BEGIN\r\n" not in data:
            piece = await loop.sock_recv(self.peer, 4096)
            data += piece
            for said, answer in ((b"AUTH", b"OK 1234\r\n"), (b"NEGOTIATE", b"AGREE_UNIX_FD\r\n")):
                if said in piece:
                    await loop.sock_sendall(self.peer, answer)
        data = data.partition(b"BEGIN\r\n")[2]
        while True:
            while len(data) < 16 or len(data) < dbus.size(data[:16]):
                piece = await loop.sock_recv(self.peer, 7)
                if not piece:
                    return
                data += piece
            length = dbus.size(data[:16])
            await self.answer(dbus.read(data[:length]))
            data = data[length:]

    async def answer(self, message: dbus.Message) -> None:
        assert self.peer is not None
        member = message.fields[dbus.MEMBER]
        self.members.append(member)
        if member == "Inhibit":
            assert message.body == ("shutdown", "nodeagent", watch.WHY, "delay")
            data = reply(message.serial, signature="h", body=struct.pack("<I", 0))
            socket.send_fds(self.peer, [data], [self.given])
            return
        data = reply(message.serial)
        if member == "Get":
            microseconds = struct.pack("<Q", int(self.delay * 1e6))
            data = reply(message.serial, signature="v", body=b"\x01t\0" + bytes(5) + microseconds)
        await asyncio.get_running_loop().sock_sendall(self.peer, data)

    async def say(self, stopping: bool) -> None:
        assert self.peer is not None
        await asyncio.get_running_loop().sock_sendall(self.peer, signal(stopping))

    def is_held(self) -> bool:
        """Whether somebody but us still has the descriptor that holds up the shutdown."""
        if self.given >= 0:
            os.close(self.given)
            self.given = -1
        os.set_blocking(self.held, False)
        try:
            return os.read(self.held, 1) != b""
        except BlockingIOError:
            return True


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: those of sockets hold 107 characters."""
    with tempfile.TemporaryDirectory(prefix="na-") as folder:
        yield Path(folder)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    made = Bus(tmp_path / "bus")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.run())
        yield made
        task.cancel()
    made.listening.close()
    os.close(made.held)
    if made.peer is not None:
        made.peer.close()


def test_messages_are_read_as_they_were_written() -> None:
    data = dbus.call(7, destination="a.b", path="/c", interface="d.e", member="F", strings=("x", "yy"))
    assert dbus.size(data[:16]) == len(data)
    message = dbus.read(data)
    assert (message.kind, message.serial, message.body) == (dbus.CALL, 7, ("x", "yy"))
    assert message.fields[dbus.DESTINATION] == "a.b" and message.fields[dbus.SIGNATURE] == "ss"


@pytest.mark.parametrize("data", [b"B" + bytes(15), b"l" + b"\xff" * 15])
def test_a_message_that_cannot_be_is_refused(data: bytes) -> None:
    with pytest.raises(dbus.BusError):
        dbus.size(data)


async def test_logind_is_asked_for_its_limit_and_an_inhibitor_and_tells_of_the_shutdown(bus: Bus) -> None:
    async with asyncio.timeout(10):
        machine = await logind.connect(Path(bus.listening.getsockname()))
        assert await machine.longest_delay() == 30.0
        held = await machine.inhibit(watch.WHY)
        heard = machine.shutdowns()
        await bus.say(True)
        assert await anext(heard) is True
        await bus.say(False)
        assert await anext(heard) is False
        os.close(held)
        assert not bus.is_held()
        await machine.close()
    assert bus.members == ["Hello", "AddMatch", "Get", "Inhibit"]


async def test_no_bus_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await logind.connect(tmp_path / "none")


def test_ordinary_pods_end_before_critical_ones_each_within_its_share() -> None:
    ordinary = pod(container(), metadata={"uid": "a"}, terminationGracePeriodSeconds=60)
    quick = pod(container(), metadata={"uid": "b"}, terminationGracePeriodSeconds=5)
    critical = pod(container(), metadata={"uid": "c"}, priority=CRITICAL)
    first, last = plan.rounds([critical, ordinary, quick], plan.shares(whole=30, critical=10))
    assert {uid: end.grace for uid, end in first.ends.items()} == {"a": 20, "b": 5} and first.seconds == 20
    assert {uid: end.grace for uid, end in last.ends.items()} == {"c": 10}
    assert first.ends["a"].reason == "Terminated"


def test_shares_by_priority_take_each_pod_to_the_highest_it_reaches() -> None:
    shares = [plan.Share(priority=p, seconds=s) for p, s in ((1000, 20.0), (0, 10.0))]
    pods = [pod(container(), metadata={"uid": str(p)}, priority=p) for p in (-5, 0, 999, 1000)]
    found = plan.rounds(pods, plan.shares(whole=0, critical=0, by_priority=shares))
    assert [sorted(each.ends) for each in found] == [["-5", "0", "999"], ["1000"]]
    assert plan.shares(whole=0, critical=0) == ()


def test_a_node_that_goes_down_takes_nobody() -> None:
    node = admit.Node(name="n", labels={}, allocatable={"pods": "9"}, going_down=True)
    end = admit.reject(pod(), others=[], node=node)
    assert end is not None and end.reason == "NodeShutdown"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shutdownGracePeriod": "soon"}, "shutdownGracePeriod"),
        ({"shutdownGracePeriodCriticalPods": "10s"}, "is more than shutdownGracePeriod has"),
        (
            {
                "shutdownGracePeriod": "9s",
                "shutdownGracePeriodByPodPriority": [{"priority": 1, "shutdownGracePeriodSeconds": 1}],
            },
            "may not be set beside",
        ),
    ],
)
def test_times_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.ConfigError, match=said):
        config.build({"KubeletConfiguration": [{"kind": "KubeletConfiguration", **fields}]}, source="test")


async def test_pods_end_and_then_the_machine_may(tmp_path: Path, bus: Bus) -> None:
    told: list[bool] = []
    async with Node(tmp_path, FakeApiServer(), FakeRuntime(now=time.time_ns)).alive() as node:
        node.put(sleeping())
        await eventually(node.ready)
        watching = watch.ShutdownWatch(
            shares=plan.shares(whole=20, critical=5),
            pool=node.pool,
            tell=told.append,
            clock=SystemClock(),
            connect=lambda: logind.connect(Path(bus.listening.getsockname())),
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watching.run())
            await eventually(lambda: "Inhibit" in bus.members)
            await bus.say(True)
            await eventually(lambda: node.status().get("phase") == "Failed")
            await eventually(lambda: not node.pool.workers[0].active and not bus.is_held())
            task.cancel()
        assert told == [True]
        status = node.status()
        assert (status["reason"], status["message"]) == (plan.REASON, plan.MESSAGE)
        [condition] = [c for c in status["conditions"] if c["type"] == "DisruptionTarget"]
        assert condition["reason"] == "TerminationByKubelet"
