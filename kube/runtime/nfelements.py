"""Single elements of nftables sets and maps, straight to the kernel: 0.05 ms each, whatever else the kernel holds.

Owns the bytes of set elements (linux/netfilter/nf_tables.h) and their transactions: keys are packed by the caller with
the functions here. Must not know what a set is for; structure (tables, chains, sets) is made with `nft`. `encode` is
pure, `Socket` is blocking.
"""

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from kube.runtime import netlink
from kube.runtime.netlink import ACK, CREATE, DONE, DUMP, ERROR, FAMILIES, NESTED, REQUEST, attribute, attributes, text

BATCH_BEGIN, BATCH_END = 0x10, 0x11
SUBSYSTEM_NFTABLES = 10
GET_CHAIN = (SUBSYSTEM_NFTABLES << 8) | 4
NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = (SUBSYSTEM_NFTABLES << 8 | number for number in (12, 13, 14))
LIST_TABLE, LIST_SET, LIST_ELEMENTS, LIST_ELEMENT = 1, 2, 3, 1
ELEMENT_KEY, ELEMENT_DATA, ELEMENT_TIMEOUT, ELEMENT_EXPIRATION, ELEMENT_EXPRESSION, ELEMENT_KEY_END = 1, 2, 4, 5, 7, 10
DATA_VALUE, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN = 1, 2, 1, 2
EXPRESSION_DATA, COUNTER_PACKETS = 2, 2
CHAIN_TABLE, CHAIN_NAME = 1, 3
VERDICTS = {"jump": -3, "goto": -4}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
SO_SNDBUFFORCE = 32
SEND_BUFFER_BYTES = 16 << 20


class ElementError(Exception):
    """The kernel refused a transaction: `errno`, and in words the first step that it refused."""

    def __init__(self, number: int, wanted: str) -> None:
        super().__init__(f"{wanted}: {os.strerror(number)}")
        self.errno = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One element to add or delete. `version` (4, 6) picks table ip or ip6; `key` is packed, and `end` the last key of
    an interval; a map's element has `data`, or `verdict` ("goto", "jump") and `chain`. `timeout` and what is left of it
    are in milliseconds, 0 without. `wanted` names it in errors: it is made into text only then.
    """

    version: int
    set: str
    key: bytes
    end: bytes = b""
    data: bytes = b""
    verdict: str = ""
    chain: str = ""
    timeout: int = 0
    expires: int = 0
    delete: bool = False
    wanted: object = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An element as the kernel holds it; `packets` is what a counter at it has counted."""

    key: bytes
    end: bytes = b""
    data: bytes = b""
    chain: str = ""
    timeout: int = 0
    expires: int = 0
    packets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One message of a transaction; `wanted` says what it is about when it is refused."""

    kind: int
    flags: int
    version: int
    body: bytes
    wanted: object


def address(given: str) -> bytes:
    """An address as a field of a key. The fields of a concatenated key are joined."""
    return ip_address(given).packed


def port(number: int) -> bytes:
    """A port as a field of a key, padded to four bytes."""
    return number.to_bytes(2, "big") + b"\0\0"


def protocol(name: str) -> bytes:
    """A transport protocol as a field of a key, padded to four bytes."""
    return bytes([PROTOCOLS[name], 0, 0, 0])


def step(edit: Edit, *, table: str) -> Step:
    """The message of an edit."""
    body = attribute(LIST_TABLE, text(table)) + attribute(LIST_SET, text(edit.set))
    return Step(
        kind=DELETE_ELEMENT if edit.delete else NEW_ELEMENT,
        flags=0 if edit.delete else CREATE,
        version=edit.version,
        body=body + attribute(LIST_ELEMENTS | NESTED, attribute(LIST_ELEMENT | NESTED, _element(edit))),
        wanted=edit.wanted,
    )


def encode(steps: Sequence[Step], *, first: int) -> bytes:
    """One transaction; the message of step n has sequence number `first` + 1 + n.

    Only the last one is acknowledged: refusals are reported in any case, and thousands of answers would be lost.
    """
    packet = [_edge(BATCH_BEGIN, first)]
    for number, each in enumerate(steps):
        flags = REQUEST | each.flags | (ACK if number == len(steps) - 1 else 0)
        packet.append(netlink.message(each.kind, flags, first + 1 + number, FAMILIES[each.version], each.body))
    packet.append(_edge(BATCH_END, first + 1 + len(steps)))
    return b"".join(packet)


def read(body: bytes) -> Held:
    """An element as a dump has it. PURE."""
    found = attributes(body)
    data = attributes(found.get(ELEMENT_DATA, b""))
    counted = attributes(attributes(found.get(ELEMENT_EXPRESSION, b"")).get(EXPRESSION_DATA, b""))
    return Held(
        key=attributes(found[ELEMENT_KEY]).get(DATA_VALUE, b""),
        end=attributes(found.get(ELEMENT_KEY_END, b"")).get(DATA_VALUE, b""),
        data=data.get(DATA_VALUE, b""),
        chain=attributes(data.get(DATA_VERDICT, b"")).get(VERDICT_CHAIN, b"").rstrip(b"\0").decode(),
        timeout=int.from_bytes(found.get(ELEMENT_TIMEOUT, b""), "big"),
        expires=int.from_bytes(found.get(ELEMENT_EXPIRATION, b""), "big"),
        packets=int.from_bytes(counted.get(COUNTER_PACKETS, b""), "big"),
    )


def _edge(kind: int, sequence: int) -> bytes:
    return netlink.message(kind, REQUEST, sequence, 0, b"", resource=SUBSYSTEM_NFTABLES)


def _element(edit: Edit) -> bytes:
    body = attribute(ELEMENT_KEY | NESTED, attribute(DATA_VALUE, edit.key))
    if edit.end:
        body += attribute(ELEMENT_KEY_END | NESTED, attribute(DATA_VALUE, edit.end))
    if edit.delete:
        return body
    if edit.chain:
        code = attribute(VERDICT_CODE, struct.pack(">i", VERDICTS[edit.verdict]))
        verdict = attribute(DATA_VERDICT | NESTED, code + attribute(VERDICT_CHAIN, text(edit.chain)))
        body += attribute(ELEMENT_DATA | NESTED, verdict)
    elif edit.data:
        body += attribute(ELEMENT_DATA | NESTED, attribute(DATA_VALUE, edit.data))
    if edit.timeout:
        body += attribute(ELEMENT_TIMEOUT, struct.pack(">Q", edit.timeout))
        body += attribute(ELEMENT_EXPIRATION, struct.pack(">Q", edit.expires))
    return body


class Socket:
    """A blocking nfnetlink socket of the network namespace in which the calling thread opens it."""

    def __init__(self) -> None:
        self._socket = netlink.opened()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        self._sequence = 0

    def close(self) -> None:
        """Releases the socket."""
        self._socket.close()

    @property
    def port(self) -> int:
        """What the kernel calls this socket."""
        return int(self._socket.getsockname()[0])

    def commit(self, edits: Sequence[Edit], *, table: str) -> None:
        """Applies all edits or none. Raises ElementError naming the first one refused, or OSError."""
        self.transact([step(edit, table=table) for edit in edits])

    def transact(self, steps: Sequence[Step]) -> None:
        """Applies all steps or none. Raises ElementError naming the first one refused, or OSError."""
        if not steps:
            return
        first = self._sequence
        self._sequence += len(steps) + 2
        self._socket.send(encode(steps, first=first))
        failed: ElementError | None = None
        while True:
            for kind, sequence, body in netlink.messages(self._socket.recv(netlink.RECEIVE_BYTES)):
                if kind != ERROR:
                    continue
                number, place = netlink.error_number(body), sequence - first - 1
                if not 0 <= place < len(steps):
                    raise ElementError(number, "nftables transaction")
                if number and failed is None:
                    failed = ElementError(number, str(steps[place].wanted))
                if place == len(steps) - 1:
                    if failed:
                        raise failed
                    return

    def has_chain(self, version: int, *, table: str, chain: str) -> bool:
        """Whether a chain is there. Raises OSError."""
        self._ask(GET_CHAIN, version, attribute(CHAIN_TABLE, text(table)) + attribute(CHAIN_NAME, text(chain)))
        return next(netlink.messages(self._socket.recv(netlink.RECEIVE_BYTES)))[0] != ERROR

    def dump(self, version: int, *, table: str, name: str) -> list[Held]:
        """All elements of a set or map. Raises ElementError (ENOENT without such a map) or OSError."""
        body = attribute(LIST_TABLE, text(table)) + attribute(LIST_SET, text(name))
        self._ask(GET_ELEMENT, version, body, dump=DUMP)
        found: list[Held] = []
        while True:
            for kind, _, body in netlink.messages(self._socket.recv(netlink.RECEIVE_BYTES)):
                if kind == DONE:
                    return found
                if kind == ERROR:
                    raise ElementError(netlink.error_number(body), f"cannot read {name}")
                listed = attributes(body[netlink.FAMILY_HEADER_BYTES :]).get(LIST_ELEMENTS, b"")
                found += [read(each) for _, each in netlink.items(listed)]

    def _ask(self, kind: int, version: int, body: bytes, *, dump: int = 0) -> None:
        self._sequence += 1
        self._socket.send(netlink.message(kind, REQUEST | dump, self._sequence, FAMILIES[version], body))
