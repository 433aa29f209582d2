"""Which UDP entries lead nowhere any more."""

from kube.runtime.conntrack import Entry, Side
from proxy.backends import flows
from proxy.rules.plan import Backend, Changes, Frontend, PortRules

DNS = Frontend("10.96.0.10", "udp", 53)
OLD, NEW = Backend("10.0.0.1", 53), Backend("10.0.0.2", 53)
CLIENT = "10.244.0.9"


def entry(backend: Backend, frontend: Frontend = DNS, *, protocol: int = 17) -> Entry:
    there = Side(source=CLIENT, destination=frontend.address, source_port=4000, destination_port=frontend.port)
    back = Side(source=backend.address, destination=CLIENT, source_port=backend.port, destination_port=4000)
    return Entry(version=4, protocol=protocol, original=there, reply=back, name=b"")


def test_an_entry_to_an_endpoint_that_is_gone_is_stale() -> None:
    wanted = {DNS: PortRules(backends=(NEW,))}
    assert [flows.stale(entry(backend), wanted) for backend in (OLD, NEW)] == [True, False]


def test_an_entry_to_an_endpoint_that_still_serves_while_it_ends_stays() -> None:
    assert not flows.stale(entry(OLD), {DNS: PortRules(backends=(NEW,), lingering=frozenset({OLD}))})


def test_an_entry_made_before_the_service_had_an_endpoint_is_stale() -> None:
    assert flows.stale(entry(Backend("10.96.0.10", 53)), {DNS: PortRules(backends=(NEW,))})


def test_entries_to_other_addresses_and_of_other_protocols_are_left_alone() -> None:
    wanted = {DNS: PortRules(backends=(NEW,))}
    assert not flows.stale(entry(OLD, Frontend("10.96.0.11", "udp", 53)), wanted)
    assert not flows.stale(entry(OLD, protocol=6), wanted)


def test_only_udp_frontends_that_still_have_endpoints_or_are_gone_are_looked_at() -> None:
    tcp, empty, gone = (
        Frontend("10.96.0.10", "tcp", 53),
        Frontend("10.96.0.12", "udp", 53),
        Frontend("10.96.0.13", "udp", 53),
    )
    full, none = PortRules(backends=(OLD,)), PortRules()
    changes = Changes(ports={tcp: (full, None), empty: (full, none), gone: (full, None), DNS: (none, full)})
    assert set(flows.affected(changes)) == {gone, DNS}
