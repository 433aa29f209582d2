"""Single elements of nftables sets and maps, straight to the kernel: 0.05 ms each, whatever else the kernel holds.

Owns the bytes of nfnetlink (linux/netfilter/nfnetlink.h, nf_tables.h): keys are packed by the caller with the functions
here. Must not know what a set is for; structure (tables, chains, sets) is made with `nft`. `encode` is pure, `Socket`
is blocking.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

NETLINK_NETFILTER = 12
BATCH_BEGIN, BATCH_END = 0x10, 0x11
SUBSYSTEM_NFTABLES = 10
NEW_ELEMENT, DELETE_ELEMENT = (SUBSYSTEM_NFTABLES << 8) | 12, (SUBSYSTEM_NFTABLES << 8) | 14
GET_CHAIN = (SUBSYSTEM_NFTABLES << 8) | 4
REQUEST, ACK, CREATE = 0x1, 0x4, 0x400
NESTED = 0x8000
LIST_TABLE, LIST_SET, LIST_ELEMENTS, LIST_ELEMENT = 1, 2, 3, 1
ELEMENT_KEY, ELEMENT_DATA, ELEMENT_KEY_END = 1, 2, 10
DATA_VALUE, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN = 1, 2, 1, 2
CHAIN_TABLE, CHAIN_NAME = 1, 3
VERDICTS = {"jump": -3, "goto": -4}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ERROR = 2
SO_SNDBUFFORCE = 32
SEND_BUFFER_BYTES = 16 << 20
RECEIVE_BYTES = 1 << 16
TIMEOUT_SECONDS = 10.0


class ElementError(Exception):
    """The kernel refused a transaction: `errno`, and in words the first edit that it refused."""

    def __init__(self, number: int, wanted: str) -> None:
        super().__init__(f"{wanted}: {os.strerror(number)}")
        self.errno = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One element to add or delete. `version` (4, 6) picks table ip or ip6; `key` is packed; a map's element has
    `data`, or `verdict` ("goto", "jump") and `chain`; `wanted` names it in errors.
    """

    version: int
    set: str
    key: bytes
    end: bytes = b""
    data: bytes = b""
    verdict: str = ""
    chain: str = ""
    delete: bool = False
    wanted: str = ""


def address(text: str) -> bytes:
    """An address as a field of a key. The fields of a concatenated key are joined."""
    return ip_address(text).packed


def port(number: int) -> bytes:
    """A port as a field of a key, padded to four bytes."""
    return number.to_bytes(2, "big") + b"\0\0"


def protocol(name: str) -> bytes:
    """A transport protocol as a field of a key, padded to four bytes."""
    return bytes([PROTOCOLS[name], 0, 0, 0])


def encode(edits: Sequence[Edit], *, table: str, first: int) -> bytes:
    """One transaction; the message of edit n has sequence number `first` + 1 + n.

    Only the last one is acknowledged: refusals are reported in any case, and thousands of answers would be lost.
    """
    packet = [message(BATCH_BEGIN, REQUEST, first, 0, b"", resource=SUBSYSTEM_NFTABLES)]
    for number, edit in enumerate(edits):
        body = attribute(LIST_TABLE, _text(table)) + attribute(LIST_SET, _text(edit.set))
        body += attribute(LIST_ELEMENTS | NESTED, attribute(LIST_ELEMENT | NESTED, _element(edit)))
        flags = REQUEST | (ACK if number == len(edits) - 1 else 0) | (0 if edit.delete else CREATE)
        kind = DELETE_ELEMENT if edit.delete else NEW_ELEMENT
        packet.append(message(kind, flags, first + 1 + number, FAMILIES[edit.version], body))
    packet.append(message(BATCH_END, REQUEST, first + 1 + len(edits), 0, b"", resource=SUBSYSTEM_NFTABLES))
    return b"".join(packet)


def _element(edit: Edit) -> bytes:
    body = attribute(ELEMENT_KEY | NESTED, attribute(DATA_VALUE, edit.key))
    if edit.end:
        body += attribute(ELEMENT_KEY_END | NESTED, attribute(DATA_VALUE, edit.end))
    if edit.delete:
        return body
    if edit.chain:
        code = attribute(VERDICT_CODE, struct.pack(">i", VERDICTS[edit.verdict]))
        verdict = attribute(DATA_VERDICT | NESTED, code + attribute(VERDICT_CHAIN, _text(edit.chain)))
        return body + attribute(ELEMENT_DATA | NESTED, verdict)
    return body + (attribute(ELEMENT_DATA | NESTED, attribute(DATA_VALUE, edit.data)) if edit.data else b"")


def attribute(kind: int, value: bytes) -> bytes:
    """One nlattr, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The nlattrs of a block by type, without flags; the last of equal types wins."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def message(kind: int, flags: int, sequence: int, family: int, body: bytes, *, resource: int = 0) -> bytes:
    """One nfnetlink message: its header, the family's, and the body."""
    head = struct.pack("=IHHII", 20 + len(body), kind, flags, sequence, 0)
    return head + struct.pack("=BB", family, 0) + struct.pack(">H", resource) + body


class Socket:
    """A blocking nfnetlink socket of the network namespace in which the calling thread opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Releases the socket."""
        self._socket.close()

    def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        """Applies all edits or none. Raises ElementError naming the first one refused, or OSError."""
        if not edits:
            return
        first = self._sequence
        self._sequence += len(edits) + 2
        self._socket.send(encode(edits, table=table, first=first))
        failed: ElementError | None = None
        while True:
            for kind, sequence, body in self._receive():
                if kind != ERROR:
                    continue
                code, place = -struct.unpack_from("=i", body)[0], sequence - first - 1
                if not 0 <= place < len(edits):
                    raise ElementError(code, "nftables transaction")
                if code and failed is None:
                    failed = ElementError(code, f"{edits[place].set}: {edits[place].wanted}")
                if place == len(edits) - 1:
                    if failed:
                        raise failed
                    return

    def has_chain(self, version: int, *, table: str, chain: str) -> bool:
        """Whether a chain is there. Raises OSError."""
        self._sequence += 1
        body = attribute(CHAIN_TABLE, _text(table)) + attribute(CHAIN_NAME, _text(chain))
        self._socket.send(message(GET_CHAIN, REQUEST, self._sequence, FAMILIES[version], body))
        return next(self._receive())[0] != ERROR

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
            yield kind, sequence, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3
