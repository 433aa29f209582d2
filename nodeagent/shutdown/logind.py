"""systemd-logind over the system bus: holding up a shutdown, and hearing of one.

Owns the connection. Must not know pods. An inhibitor is a descriptor that logind hands over: closing it is the word
that the machine may stop, and so is the end of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Protocol

from nodeagent.shutdown import dbus

SOCKET: Final = Path("/run/dbus/system_bus_socket")
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
LOGIN, LOGIN_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER: Final = "org.freedesktop.login1.Manager"
RULE: Final = f"type='signal',interface='{MANAGER}',member='PrepareForShutdown',path='{LOGIN_PATH}'"
SECONDS: Final = 10.0


class Machine(Protocol):
    """Who stops the machine. Every method raises BusError or OSError."""

    async def longest_delay(self) -> float:
        """Seconds a shutdown can be held up at most."""
        ...

    async def inhibit(self, why: str) -> int:
        """Hold up shutdowns from now on; returns the descriptor that does it, to be closed by the caller."""
        ...

    def shutdowns(self) -> AsyncIterator[bool]:
        """True when the machine is about to stop, False when that was called off."""
        ...


class Logind:
    """One connection to the system bus."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._serials = itertools.count(1)
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._signals: asyncio.Queue[bool] = asyncio.Queue()

    async def longest_delay(self) -> float:
        """See `Machine`."""
        properties = "org.freedesktop.DBus.Properties"
        (microseconds,) = await self._call(properties, "Get", MANAGER, "InhibitDelayMaxUSec")
        return int(microseconds) / 1e6

    async def inhibit(self, why: str) -> int:
        """See `Machine`."""
        self._forget_descriptors()
        await self._call(MANAGER, "Inhibit", "shutdown", "nodeagent", why, "delay")
        if not self._descriptors:
            raise dbus.BusError("logind sent no descriptor with its inhibitor")
        return self._descriptors.pop(0)

    async def shutdowns(self) -> AsyncIterator[bool]:
        """See `Machine`."""
        while True:
            while self._signals.empty():
                self._note(await self._message())
            yield self._signals.get_nowait()

    async def close(self) -> None:
        """End the connection."""
        self._forget_descriptors()
        self._socket.close()

    async def open(self) -> None:
        """Say who we are and what we listen to. Raises BusError, OSError."""
        async with asyncio.timeout(SECONDS):
            uid = str(os.geteuid()).encode().hex()
            for line, answer in ((f"\0AUTH EXTERNAL {uid}", b"OK "), ("NEGOTIATE_UNIX_FD", b"AGREE_UNIX_FD")):
                await self._send(f"{line}\r\n".encode())
                if not (said := await self._line()).startswith(answer):
                    raise dbus.BusError(f"the bus answered {said!r}")
            await self._send(b"BEGIN\r\n")
        await self._call(BUS, "Hello", destination=BUS, path=BUS_PATH)
        await self._call(BUS, "AddMatch", RULE, destination=BUS, path=BUS_PATH)

    async def _call(
        self, interface: str, member: str, *strings: str, destination: str = LOGIN, path: str = LOGIN_PATH
    ) -> tuple[Any, ...]:
        serial = next(self._serials)
        call = dbus.call(
            serial, destination=destination, path=path, interface=interface, member=member, strings=strings
        )
        try:
            async with asyncio.timeout(SECONDS):
                await self._send(call)
                while (answer := await self._message()).fields.get(dbus.REPLY_SERIAL) != serial:
                    self._note(answer)
        except TimeoutError as e:
            raise dbus.BusError(f"{member}: no answer within {SECONDS:g} s") from e
        if answer.kind == dbus.ERROR:
            said = answer.body[0] if answer.body else answer.fields.get(dbus.ERROR_NAME)
            raise dbus.BusError(f"{member}: {said}")
        return answer.body

    def _note(self, message: dbus.Message) -> None:
        if message.kind == dbus.SIGNAL and message.fields.get(dbus.MEMBER) == "PrepareForShutdown" and message.body:
            self._signals.put_nowait(bool(message.body[0]))

    async def _message(self) -> dbus.Message:
        await self._fill(dbus.HEAD_BYTES)
        whole = dbus.size(bytes(self._received[: dbus.HEAD_BYTES]))
        await self._fill(whole)
        data = bytes(self._received[:whole])
        del self._received[:whole]
        return dbus.read(data)

    async def _line(self) -> bytes:
        while b"\r\n" not in self._received:
            await self._fill(len(self._received) + 1)
        line, _, rest = bytes(self._received).partition(b"\r\n")
        self._received[:] = rest
        return line

    async def _fill(self, count: int) -> None:
        while len(self._received) < count:
            await self._readable()
            with contextlib.suppress(BlockingIOError):
                data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 4)
                if not data:
                    raise dbus.BusError("the bus ended the connection")
                self._received += data
                self._descriptors += descriptors

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._socket)

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def _forget_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


async def connect(path: Path = SOCKET) -> Logind:
    """A connection to the system bus. Raises BusError, OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    made = Logind(sock)
    try:
        await asyncio.get_running_loop().sock_connect(sock, str(path))
        await made.open()
    except BaseException:
        await made.close()
        raise
    return made
