"""The order in which addresses are tried, as properties."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cni.ipam import ranges

subnets = st.integers(24, 29).flatmap(
    lambda prefix: st.integers(0, 255).map(lambda n: ip_network(f"10.{n}.0.0/{prefix}"))
)


@given(subnets, st.integers(0, 300))
def test_every_usable_address_comes_exactly_once_wherever_one_begins(subnet, offset) -> None:  # type: ignore[no-untyped-def]
    entry = ranges.parse({"subnet": str(subnet)})
    last = subnet.network_address + 1 + offset % (subnet.num_addresses - 2)
    got = [address for address, _ in ranges.candidates([entry], last=last)]
    assert sorted(got) == [host for host in subnet.hosts() if host != entry.gateway]
    assert len(set(got)) == len(got)


@given(subnets)
def test_the_network_the_broadcast_and_the_gateway_are_never_given_out(subnet) -> None:  # type: ignore[no-untyped-def]
    entry = ranges.parse({"subnet": str(subnet), "gateway": str(subnet.broadcast_address - 1)})
    got = {address for address, _ in ranges.candidates([entry], last=None)}
    assert not got & {subnet.network_address, subnet.broadcast_address, subnet.broadcast_address - 1}


def test_after_the_last_address_comes_the_next_one() -> None:
    entry = ranges.parse({"subnet": "10.0.0.0/24"})
    first, _ = next(ranges.candidates([entry], last=ip_address("10.0.0.9")))
    assert str(first) == "10.0.0.10"


def test_a_set_of_two_spans_wraps_from_the_second_to_the_first() -> None:
    entries = [
        ranges.parse({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.5", "rangeEnd": "10.0.0.6"}),
        ranges.parse({"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.5", "rangeEnd": "10.0.1.6"}),
    ]
    got = [str(address) for address, _ in ranges.candidates(entries, last=ip_address("10.0.1.5"))]
    assert got == ["10.0.1.6", "10.0.0.5", "10.0.0.6", "10.0.1.5"]
