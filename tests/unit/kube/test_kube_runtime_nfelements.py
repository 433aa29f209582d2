"""Elements of nftables sets as bytes: what the kernel is sent for one edit."""

import struct

import pytest

from kube.runtime import netlink, nfelements
from kube.runtime.nfelements import Edit

ADD = Edit(version=4, set="peers", key=nfelements.address("10.0.0.1"), wanted="10.0.0.1")


def encoded(*edits: Edit, first: int = 0) -> bytes:
    return nfelements.encode([nfelements.step(edit, table="t") for edit in edits], first=first)


def messages(packet: bytes) -> list[tuple[int, int, int, dict[int, bytes]]]:
    """(type, flags, sequence, attributes) of each message."""
    found, offset = [], 0
    while offset < len(packet):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", packet, offset)
        body = packet[offset + 20 : offset + length]
        found.append((kind, flags, sequence, netlink.attributes(body)))
        offset += (length + 3) & ~3
    return found


def test_a_transaction_begins_and_ends_and_only_its_last_edit_is_acknowledged() -> None:
    found = messages(encoded(ADD, ADD, first=7))
    assert [kind for kind, *_ in found] == [0x10, 0x0A0C, 0x0A0C, 0x11]
    assert [sequence for _, _, sequence, _ in found] == [7, 8, 9, 10]
    assert [bool(flags & netlink.ACK) for _, flags, _, _ in found] == [False, False, True, False]


def test_an_edit_names_table_set_and_key() -> None:
    _, _, _, body = messages(encoded(ADD))[1]
    assert (body[1], body[2]) == (b"t\0", b"peers\0")
    assert nfelements.address("10.0.0.1") in body[3]


def test_a_verdict_is_sent_with_an_addition_and_not_with_a_deletion() -> None:
    verdict = Edit(version=6, set="m", key=nfelements.address("fd00::1"), verdict="goto", chain="in-1")
    gone = Edit(version=6, set="m", key=nfelements.address("fd00::1"), verdict="goto", chain="in-1", delete=True)
    (_, added, removed, _) = messages(encoded(verdict, gone))
    assert b"in-1\0" in added[3][3] and struct.pack(">i", -4) in added[3][3]
    assert b"in-1\0" not in removed[3][3]
    assert (added[0], removed[0]) == (0x0A0C, 0x0A0E)


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (nfelements.port(80), b"\0\x50\0\0"),
        (nfelements.protocol("sctp"), b"\x84\0\0\0"),
        (nfelements.address("::1"), b"\0" * 15 + b"\1"),
    ],
)
def test_fields_of_a_key_are_padded_to_four_bytes(packed: bytes, expected: bytes) -> None:
    assert packed == expected
