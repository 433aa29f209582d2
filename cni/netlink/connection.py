"""A blocking rtnetlink socket: whole batches in one send, because one message a time costs a system call each.

Owns sequence numbers, acknowledgements and deadlines: use it from a thread. Must not know what a message does.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from cni.netlink import interfaces
from cni.netlink.interfaces import LinkState
from cni.netlink.wire import ACK, DONE, DUMP, ERROR, REQUEST, Message, NetlinkError

TIMEOUT_SECONDS = 10.0
RECEIVE_BYTES = 1 << 16
# The acknowledgements of one send must fit the socket's receive buffer.
MESSAGES_A_SEND = 128


class Socket:
    """A blocking rtnetlink socket in the network namespace in which the calling thread is when it opens it."""

    def __init__(self, *, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def apply(self, messages: Sequence[Message]) -> None:
        """Sends all in one system call (128 at most); raises NetlinkError for the first that the kernel refused."""
        failed: NetlinkError | None = None
        for start in range(0, len(messages), MESSAGES_A_SEND):
            refused = self._batch(messages[start : start + MESSAGES_A_SEND])
            failed = failed or refused
        if failed:
            raise failed

    def _batch(self, messages: Sequence[Message]) -> NetlinkError | None:
        first = self._send(messages, flags=REQUEST | ACK)
        failed: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for kind, sequence, body in self._receive():
                if kind != ERROR:
                    continue
                waiting -= 1
                code = -struct.unpack_from("=i", body)[0]
                message = messages[sequence - first]
                if code and code not in message.forgiven and failed is None:
                    failed = NetlinkError(code, message.wanted)
        return failed

    def ask(self, message: Message) -> list[bytes]:
        """The replies to one question; [] where the asked-for thing is not there."""
        self._send([message], flags=REQUEST | (0 if message.flags & DUMP else ACK))
        replies: list[bytes] = []
        while True:
            for kind, _, body in self._receive():
                if kind == DONE:
                    return replies
                if kind == ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code in (errno.ENODEV, errno.ENOENT):
                        return []
                    if code:
                        raise NetlinkError(code, message.wanted)
                    return replies
                replies.append(body)

    def link(self, name: str) -> LinkState | None:
        """One interface, or None."""
        replies = self.ask(interfaces.get_link(name))
        return interfaces.parse_link(replies[0]) if replies else None

    def _send(self, messages: Sequence[Message], *, flags: int) -> int:
        first = self._sequence + 1
        packet = bytearray()
        for message in messages:
            self._sequence += 1
            length = 16 + len(message.body)
            packet += (
                struct.pack("=IHHII", length, message.kind, flags | message.flags, self._sequence, 0) + message.body
            )
            packet += b"\0" * (-length % 4)
        self._socket.send(packet)
        return first

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
            yield kind, sequence, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3
