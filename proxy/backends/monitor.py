"""Hears of what others do to nf_tables in this network namespace, through the kernel's own notices.

Knows tables and chains by name only. Who wrote is told by the port of the netlink socket, so our own changes are not
taken for damage; for a write by another program (`nft`) the monitor leaves the group.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kube.runtime.netlink import NETLINK_NETFILTER, attributes, messages
from kube.runtime.nfelements import SUBSYSTEM_NFTABLES

SOL_NETLINK, ADD_MEMBERSHIP, DROP_MEMBERSHIP = 270, 1, 2
GROUP_NFTABLES = 7
NEW_GENERATION = 15
RECEIVE_BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE = 33
NAME, CHAIN_NAME, RULE_CHAIN = 1, 3, 2
DELETIONS = {2: "table", 5: "chain", 8: "rule", 11: "set", 14: "element"}
NEW_CHAIN, DELETE_CHAIN, NEW_RULE, DELETE_RULE = 3, 5, 6, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One change: of which table, of which chain ("" for other things), whether something went, and who did it."""

    table: str
    chain: str
    removed: str
    sender: int


def parse(data: bytes) -> Iterator[Notice]:
    """The changes in a datagram of the group. PURE."""
    for kind, sender, body in messages(data, sender=True):
        number = kind & 0xFF
        if kind >> 8 != SUBSYSTEM_NFTABLES or number == NEW_GENERATION:
            continue
        found = attributes(body[4:])
        place = {NEW_CHAIN: CHAIN_NAME, DELETE_CHAIN: CHAIN_NAME, NEW_RULE: RULE_CHAIN, DELETE_RULE: RULE_CHAIN}
        yield Notice(
            table=_text(found.get(NAME, b"")),
            chain=_text(found.get(place[number], b"")) if number in place else "",
            removed=DELETIONS.get(number, ""),
            sender=sender,
        )


class Monitor:
    """A subscription to the group; opened when first waited on, in the network namespace of the calling thread."""

    def __init__(self, concerns: Callable[[Notice], bool]) -> None:
        self._concerns = concerns
        self._socket: socket.socket | None = None
        self._deaf = 0

    async def wait(self) -> str:
        """Returns what was done once somebody did something that concerns us. Raises OSError."""
        opened = self._open()
        loop = asyncio.get_running_loop()
        while True:
            readable = asyncio.Event()
            loop.add_reader(opened, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(opened)
            found = self._read(opened)
            if found:
                return found

    def close(self) -> None:
        """Ends the subscription."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """While another program writes for us: nothing is heard, and the kernel tells nothing."""
        self._deaf += 1
        self._member(DROP_MEMBERSHIP)
        try:
            yield
        finally:
            self._deaf -= 1
            if self._socket is not None:
                self._read(self._socket)
            if not self._deaf:
                self._member(ADD_MEMBERSHIP)

    def _open(self) -> socket.socket:
        if self._socket is None:
            opened = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
            )
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            opened.bind((0, 0))
            self._socket = opened
            if not self._deaf:
                self._member(ADD_MEMBERSHIP)
        return self._socket

    def _member(self, step: int) -> None:
        if self._socket is not None:
            self._socket.setsockopt(SOL_NETLINK, step, struct.pack("=I", GROUP_NFTABLES))

    def _read(self, opened: socket.socket) -> str:
        found = ""
        while True:
            try:
                data = opened.recv(1 << 17)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = os.strerror(errno.ENOBUFS)  # notices were lost: it may have been anything
                continue
            for notice in parse(data):
                if not found and self._concerns(notice):
                    found = f"{notice.removed} removed" if notice.removed else "something added"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
