"""Questions for addresses and our answers, as frames; addresses of a pool."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balancer import neighbours
from proxy.balancer.link import locate
from proxy.balancer.pool import Pool

OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ASKED_ARP = bytes.fromhex("ffffffffffff 020000000002 0806 0001080006040001 020000000002 c0000205 000000000000 c0000201")


def solicitation(target: str, asker: str = "fd00::5") -> bytes:
    from ipaddress import IPv6Address

    to = IPv6Address("ff02::1:ff00:1").packed
    message = struct.pack("!BBHI", 135, 0, 0, 0) + IPv6Address(target).packed + bytes((1, 1)) + THEIRS
    found = neighbours.checksum(IPv6Address(asker).packed, to, message)
    message = message[:2] + struct.pack("!H", found) + message[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + IPv6Address(asker).packed + to
    return neighbours.solicited_group(target) + THEIRS + b"\x86\xdd" + head + message


def test_arp_asks_for_an_address_and_is_told_our_link_address() -> None:
    asked = neighbours.question(ASKED_ARP)
    assert asked is not None
    assert asked.address == "192.0.2.1"
    answer = neighbours.answer(asked, OURS)
    assert answer[:14] == THEIRS + OURS + b"\x08\x06"
    assert answer[14:] == bytes.fromhex("0001080006040002020000000001c0000201020000000002c0000205")


def test_neighbour_discovery_asks_and_is_answered_with_a_right_checksum() -> None:
    asked = neighbours.question(solicitation("fd00::1"))
    assert asked is not None
    assert (asked.address, str(asked.asker), asked.mac) == ("fd00::1", "fd00::5", THEIRS)
    answer = neighbours.answer(asked, OURS)
    assert answer[:14] == THEIRS + OURS + b"\x86\xdd"
    assert neighbours.checksum(answer[22:38], answer[38:54], answer[54:]) == 0
    assert answer[54] == 136
    assert answer[58] == 0x60  # solicited, override
    assert answer.endswith(bytes((2, 1)) + OURS)


def test_who_tries_an_address_before_using_it_is_told_by_an_answer_to_all() -> None:
    asked = neighbours.question(solicitation("fd00::1", asker="::"))
    assert asked is not None
    assert neighbours.answer(asked, OURS)[:6] == bytes.fromhex("333300000001")


@pytest.mark.parametrize("address", ["192.0.2.1", "fd00::1"])
def test_an_announcement_is_no_question(address: str) -> None:
    assert neighbours.question(neighbours.announcement(address, OURS)) is None


def test_a_forged_or_damaged_question_is_none() -> None:
    good = solicitation("fd00::1")
    assert neighbours.question(good[:21] + b"\xfe" + good[22:]) is None  # it came from afar
    assert neighbours.question(good[:-1] + b"\0") is None


@given(st.binary(max_size=120), st.sampled_from([ASKED_ARP[:14], solicitation("fd00::1")[:14]]))
@settings(max_examples=60)
def test_no_frame_breaks_the_reader(tail: bytes, head: bytes) -> None:
    neighbours.question(tail)
    neighbours.question(head + tail)


def test_an_address_is_answered_for_on_the_interface_whose_network_it_is_in() -> None:
    present = [("lo", "127.0.0.1/8"), ("eth0", "192.0.2.9/24"), ("eth0", "fd00::9/64"), ("wg0", "198.51.100.7/32")]
    assert locate(["192.0.2.1", "fd00::1", "198.51.100.7"], present, chosen="") == {
        "192.0.2.1": "eth0",
        "fd00::1": "eth0",
    }
    assert locate(["198.51.100.7"], present, chosen="eth1") == {"198.51.100.7": "eth1"}


def test_the_pool_gives_what_is_asked_for_then_what_one_had_then_the_lowest() -> None:
    pool = Pool(["192.0.2.8/30", "192.0.2.20-192.0.2.21", "fd00::8/126"])
    assert pool.versions == {4, 6}
    assert next(pool.offers(4, wanted=("", "192.0.2.21"), taken=())) == "192.0.2.21"
    assert next(pool.offers(4, wanted=("192.0.2.9",), taken=())) == "192.0.2.9"
    assert list(pool.offers(4, wanted=("192.0.2.99",), taken=())) == []
    assert list(pool.offers(4, wanted=("192.0.2.9",), taken=("192.0.2.9",))) == []
    assert list(pool.offers(4, wanted=("",), taken=("192.0.2.8", "192.0.2.10"))) == [
        "192.0.2.9",
        "192.0.2.11",
        "192.0.2.20",
        "192.0.2.21",
    ]
    assert next(pool.offers(6, wanted=("192.0.2.9",), taken=("fd00::8",))) == "fd00::9"
    assert list(pool.offers(4, wanted=("nonsense",), taken=())) == []
    assert next(pool.offers(4, wanted=("", "nonsense"), taken=())) == "192.0.2.8"


@pytest.mark.parametrize("text", ["192.0.2.9-192.0.2.1", "192.0.2.1-fd00::1", "192.0.2", "a-b", ""])
def test_a_range_that_is_none_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="addresses"):
        Pool([text])
