"""Changes in the kernel's network state, as they happen: the multicast groups of rtnetlink and of nftables.

Owns the socket of events. Must not know which of them matter. Non-blocking: an event loop watches `fileno`.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cni.netlink.wire import HEADER_BYTES

LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, IPV4_NETCONF, IPV6_NETCONF = 1, 3, 5, 7, 9, 11, 24, 25
GROUPS = (LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, IPV4_NETCONF, IPV6_NETCONF)
RECEIVE_BYTES = 1 << 16
READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the kernel; `kind` is its type (RTM_NEWLINK and so on), 0 means that some were lost."""

    kind: int
    body: bytes


LOST = Event(0, b"")


class Monitor:
    """A socket that hears of changes in the network namespace in which it was opened."""

    def __init__(self, *, protocol: int = socket.NETLINK_ROUTE, groups: Sequence[int] = GROUPS) -> None:
        kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kinds, protocol)
        self._socket.bind((0, sum(1 << (group - 1) for group in groups)))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()

    def read(self) -> Iterator[Event]:
        """What has come since the last call; LOST when the kernel could not keep all of it."""
        for _ in range(READS_AT_ONCE):
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield LOST
                continue
            yield from _split(data)


def _split(data: bytes) -> Iterator[Event]:
    offset = 0
    while offset + HEADER_BYTES <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < HEADER_BYTES:
            return
        yield Event(kind, data[offset + HEADER_BYTES : offset + length])
        offset += (length + 3) & ~3
