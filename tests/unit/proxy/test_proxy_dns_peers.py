"""Servers that look after each other, and the one slice each of them keeps."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dns import peers
from proxy.dns.views import EndpointSlice


def slice_of(name: str, *, ready: bool | None = True, manager: str = "dns.nodeagent") -> EndpointSlice:
    labels = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": manager}
    endpoint = {"addresses": ["192.0.2.1"], "conditions": {"ready": ready}}
    ports = [{"name": "dns", "port": 10053}]
    body = {"metadata": {"name": name, "labels": labels}, "endpoints": [endpoint], "ports": ports}
    return msgspec.convert(body, EndpointSlice)


def planned(own: str, slices: Iterable[EndpointSlice], **silences: int) -> tuple[list[str], list[str]]:
    found = peers.plan(slices, own=own, service="kube-dns", silences=silences)
    return [each.slice for each in found.ask], list(found.mark)


def test_each_asks_the_next_two_in_a_circle() -> None:
    slices = [slice_of(name) for name in "dbac"]
    assert planned("a", slices) == (["b", "c"], [])
    assert planned("c", slices) == (["d", "a"], [])


def test_alone_there_is_nobody_to_ask() -> None:
    assert planned("a", [slice_of("a")]) == ([], [])


def test_who_was_silent_three_times_is_marked_and_the_next_takes_its_place() -> None:
    slices = [slice_of(name) for name in "abcd"]
    assert planned("a", slices, b=2) == (["b", "c"], [])
    assert planned("a", slices, b=3) == (["c", "d"], ["b"])


@pytest.mark.parametrize("other", [slice_of("b", ready=False), slice_of("b", manager="endpointslice-controller")])
def test_the_slices_of_others_and_those_marked_already_are_left_alone(other: EndpointSlice) -> None:
    assert planned("a", [slice_of("a"), other], b=9) == ([], [])


@given(st.sets(st.sampled_from("abcdefgh"), min_size=2), st.data())
def test_as_long_as_one_lives_every_dead_one_is_found(names: set[str], data: st.DataObject) -> None:
    alive = data.draw(st.sets(st.sampled_from(sorted(names)), min_size=1))
    ready = set(names)
    for _ in range(len(names)):
        for own in alive:
            asked, _ = planned(own, [slice_of(name) for name in ready])
            ready -= {name for name in asked if name not in alive}
    assert ready == alive
