"""The SPDY session: a client's and a server's half, joined back to back and cut at any byte."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.streams import spdy, spdy_headers
from kube.streams.errors import SpdyError

chunks = st.lists(st.integers(1, 40), min_size=1, max_size=30)
names = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz-"), min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def deliver(sender: spdy.Session, receiver: spdy.Session, cuts: list[int] | None = None) -> list[spdy.Event]:
    """Carry what is pending to the other side, cut into pieces of the given sizes, over and over."""
    data, events, turn = sender.pending(), [], 0
    while data:
        size = cuts[turn % len(cuts)] if cuts else len(data)
        turn += 1
        events += receiver.receive(data[:size])
        data = data[size:]
    return events


def pair() -> tuple[spdy.Session, spdy.Session]:
    return spdy.Session(client=True), spdy.Session(client=False)


def test_the_dictionary_is_the_one_every_peer_uses() -> None:
    digest = hashlib.sha256(spdy_headers.DICTIONARY).hexdigest()
    assert digest == "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02"
    assert len(spdy_headers.DICTIONARY) == 1423
    assert zlib.adler32(spdy_headers.DICTIONARY) == 0xE3C6A7C2


def test_a_syn_stream_has_the_layout_of_the_draft() -> None:
    client, _ = pair()
    client.open({"StreamType": "error"})
    frame = client.pending()
    assert struct.unpack_from(">HHI", frame) == (0x8003, 1, len(frame) - 8)
    assert struct.unpack_from(">II", frame, 8) == (1, 0)
    plain = zlib.decompressobj(zdict=spdy_headers.DICTIONARY).decompress(frame[18:])
    assert plain == b"\0\0\0\1\0\0\0\x0astreamtype\0\0\0\5error"


def test_data_frames_have_the_layout_of_the_draft() -> None:
    client, _ = pair()
    client.open({})
    client.pending()
    client.send(1, b"abc", fin=True)
    assert client.pending() == b"\0\0\0\1\1\0\0\3abc"


@given(st.dictionaries(names, values, max_size=6), chunks)
def test_headers_arrive_however_the_bytes_are_cut(headers: dict[str, str], cuts: list[int]) -> None:
    client, server = pair()
    for _ in range(3):
        client.open(headers)
    opened = deliver(client, server, cuts)
    assert opened == [spdy.StreamOpened(n, headers, False) for n in (1, 3, 5)]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=200)), max_size=20), chunks)
def test_every_stream_gets_its_own_bytes_in_order(writes: list[tuple[int, bytes]], cuts: list[int]) -> None:
    client, server = pair()
    streams = [client.open({"n": str(n)}) for n in range(3)]
    for which, data in writes:
        client.send(streams[which], data)
    for stream in streams:
        client.send(stream, b"", fin=True)
    events = deliver(client, server, cuts)
    for which, stream in enumerate(streams):
        got = [e for e in events if isinstance(e, spdy.DataReceived) and e.stream == stream]
        assert b"".join(e.data for e in got) == b"".join(data for n, data in writes if n == which)
        assert [e.fin for e in got] == [False] * (len(got) - 1) + [True]


@given(st.binary(min_size=1, max_size=300))
def test_noise_is_refused_or_waited_on_but_never_crashes(noise: bytes) -> None:
    _, server = pair()
    try:
        server.receive(noise)
    except SpdyError:
        pass
    assert isinstance(server.pending(), bytes)


def test_a_half_closed_stream_still_receives() -> None:
    client, server = pair()
    stream = client.open({})
    client.send(stream, b"question", fin=True)
    deliver(client, server)
    assert not client.can_send(stream)
    server.accept(stream)
    server.send(stream, b"answer", fin=True)
    assert deliver(server, client) == [
        spdy.StreamAccepted(stream, {}, False),
        spdy.DataReceived(stream, b"answer", True),
    ]
    with pytest.raises(SpdyError, match="not open for sending"):
        client.send(stream, b"late")


def test_a_ping_is_answered_with_its_number() -> None:
    client, server = pair()
    assert client.ping() == 1
    assert deliver(client, server) == []
    assert deliver(server, client) == [spdy.Pong(1)]
    assert server.ping() == 2


def test_a_reset_closes_both_directions_and_late_data_is_dropped() -> None:
    client, server = pair()
    stream = client.open({})
    deliver(client, server)
    server.reset(stream)
    client.send(stream, b"crossing on the wire")
    assert deliver(client, server) == []
    assert deliver(server, client) == [spdy.StreamReset(stream, spdy.ResetStatus.CANCEL)]
    assert not client.can_send(stream)


def test_after_going_away_streams_are_refused_and_the_header_context_survives() -> None:
    client, server = pair()
    first = client.open({"a": "b"})
    deliver(client, server)
    server.go_away()
    crossing = client.open({"streamtype": "stdin"})
    client.send(first, b"goes on")
    assert deliver(client, server) == [spdy.DataReceived(first, b"goes on", False)]
    assert deliver(server, client) == [
        spdy.GoneAway(first, 0),
        spdy.StreamReset(crossing, spdy.ResetStatus.REFUSED_STREAM),
    ]
    with pytest.raises(SpdyError, match="going away"):
        client.open({})


def test_windows_and_settings_are_accepted_and_ignored() -> None:
    _, server = pair()
    window = struct.pack(">HHIII", 0x8003, 9, 8, 1, 65536)
    settings = struct.pack(">HHIIII", 0x8003, 4, 12, 1, 0x01000004, 100)
    assert server.receive(window + settings) == []
    assert server.pending() == b""


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (struct.pack(">II", 1, 0), "never opened"),
        (struct.pack(">HHI", 0x8002, 6, 4) + b"\0\0\0\1", "version 2"),
        (struct.pack(">HHI", 0x8003, 6, 2) + b"\0\0", "too short"),
        (struct.pack(">HHI", 0x8003, 1, 0x200000), "too large"),
        (struct.pack(">HHIIIH", 0x8003, 1, 10, 2, 0, 0), "may not open stream 2"),
        (struct.pack(">HHIII", 0x8003, 2, 8, 1, 0), "does not decompress"),
    ],
)
def test_a_broken_frame_is_named(frame: bytes, message: str) -> None:
    _, server = pair()
    with pytest.raises(SpdyError, match=message):
        server.receive(frame)


def test_a_block_that_inflates_without_end_is_refused() -> None:
    bomb = spdy_headers.Encoder().encode({"a": "x" * (2 << 20)})
    with pytest.raises(SpdyError, match="larger than"):
        spdy_headers.Decoder().decode(bomb)
