"""Connection tracking of UDP: entries that still lead to an endpoint which is gone are deleted.

A UDP client keeps its port, so its packets would follow a stale entry for as long as it sends. One dump of the kernel's
UDP entries a change, never one delete command per endpoint. Which entries are stale is decided purely.
Numbers are from linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from kube.runtime.nfelements import attribute, attributes
from proxy.backends.nfnetlink import ERROR, FAMILIES, NESTED, NETLINK_NETFILTER, TIMEOUT_SECONDS
from proxy.rules.plan import Backend, Changes, Frontend, PortRules

SUBSYSTEM = 1
GET, DELETE = (SUBSYSTEM << 8) | 1, (SUBSYSTEM << 8) | 2
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
DONE = 3
TUPLE_ORIGINAL, TUPLE_REPLY = 1, 2
TUPLE_IP, TUPLE_PROTOCOL = 1, 2
IP_V4_SOURCE, IP_V4_DESTINATION, IP_V6_SOURCE, IP_V6_DESTINATION = 1, 2, 3, 4
PROTOCOL_NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
UDP = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One UDP entry: where the client sends, who answers, and the raw original tuple that names the entry."""

    version: int
    frontend: Frontend
    backend: Backend
    original: bytes


def affected(changes: Changes) -> dict[Frontend, PortRules]:
    """The UDP frontends of a change whose old entries may be wrong, with what is right now.

    A frontend that has no endpoint any more is left alone, as upstream does; a gone frontend is not.
    """
    return {
        frontend: new or PortRules()
        for frontend, (old, new) in changes.ports.items()
        if frontend.protocol == "udp" and (new is None or new.backends or new.local)
    }


def stale(flows: Iterable[Flow], wanted: Mapping[Frontend, PortRules]) -> Iterator[Flow]:
    """The flows to a frontend that lead to none of its serving endpoints. PURE."""
    for flow in flows:
        rules = wanted.get(flow.frontend)
        if rules is None:
            continue
        if flow.backend not in {*rules.backends, *rules.local, *rules.lingering}:
            yield flow


def parse(version: int, body: bytes) -> Flow | None:
    """A flow out of a conntrack message; None when it is not UDP. PURE."""
    found = attributes(body)
    original, reply = attributes(found.get(TUPLE_ORIGINAL, b"")), attributes(found.get(TUPLE_REPLY, b""))
    forward, backward = attributes(original.get(TUPLE_PROTOCOL, b"")), attributes(reply.get(TUPLE_PROTOCOL, b""))
    if forward.get(PROTOCOL_NUMBER) != bytes([UDP]) or SOURCE_PORT not in backward:
        return None
    address = IPv4Address if version == 4 else IPv6Address
    destination, source = (IP_V4_DESTINATION, IP_V4_SOURCE) if version == 4 else (IP_V6_DESTINATION, IP_V6_SOURCE)
    to, answering = attributes(original.get(TUPLE_IP, b"")), attributes(reply.get(TUPLE_IP, b""))
    return Flow(
        version=version,
        frontend=Frontend(str(address(to[destination])), "udp", int.from_bytes(forward[DESTINATION_PORT], "big")),
        backend=Backend(str(address(answering[source])), int.from_bytes(backward[SOURCE_PORT], "big")),
        original=found[TUPLE_ORIGINAL],
    )


def reconcile(wanted: Mapping[Frontend, PortRules]) -> int:
    """Deletes the stale entries of these frontends in this network namespace; how many. Blocking; raises OSError."""
    deleted = 0
    for version in {frontend.version for frontend in wanted}:
        deleted += _delete(stale(list(_dump(version)), wanted))
    return deleted


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    opened.settimeout(TIMEOUT_SECONDS)
    opened.bind((0, 0))
    return opened


def _message(kind: int, flags: int, sequence: int, version: int, body: bytes) -> bytes:
    head = struct.pack("=IHHII", 20 + len(body), kind, flags, sequence, 0)
    return head + struct.pack("=BBH", FAMILIES[version], 0, 0) + body


def _dump(version: int) -> Iterator[Flow]:
    with _open() as opened:
        opened.send(_message(GET, REQUEST | DUMP, 1, version, b""))
        for kind, _, body in _replies(opened):
            if kind == DONE:
                return
            flow = parse(version, body[4:])
            if flow is not None:
                yield flow


def _delete(flows: Collection[Flow] | Iterator[Flow]) -> int:
    deleted = 0
    with _open() as opened:
        for sequence, flow in enumerate(flows, 1):
            body = attribute(TUPLE_ORIGINAL | NESTED, flow.original)
            opened.send(_message(DELETE, REQUEST | ACK, sequence, flow.version, body))
            _, code, _ = next(_replies(opened))
            if code not in (0, errno.ENOENT):  # it may have timed out meanwhile
                raise OSError(code, f"cannot delete a conntrack entry: {os.strerror(code)}")
            deleted += 1
    return deleted


def _replies(opened: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """(type, error number, body) of each message until the caller stops."""
    while True:
        data = opened.recv(1 << 17)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, _, _, _ = struct.unpack_from("=IHHII", data, offset)
            body = data[offset + 16 : offset + length]
            code = -struct.unpack_from("=i", body)[0] if kind == ERROR else 0
            if kind == ERROR and code and code != errno.ENOENT:
                raise OSError(code, f"conntrack: {os.strerror(code)}")
            yield kind, code, body
            offset += (length + 3) & ~3
