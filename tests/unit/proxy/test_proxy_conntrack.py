"""Which UDP entries lead nowhere any more."""

from proxy.backends import conntrack
from proxy.backends.conntrack import Flow
from proxy.rules.plan import Backend, Changes, Frontend, PortRules

DNS = Frontend("10.96.0.10", "udp", 53)
OLD, NEW = Backend("10.0.0.1", 53), Backend("10.0.0.2", 53)


def flow(backend: Backend, frontend: Frontend = DNS) -> Flow:
    return Flow(version=4, frontend=frontend, backend=backend, original=b"")


def test_an_entry_to_an_endpoint_that_is_gone_is_stale() -> None:
    wanted = {DNS: PortRules(backends=(NEW,))}
    assert list(conntrack.stale([flow(OLD), flow(NEW)], wanted)) == [flow(OLD)]


def test_an_entry_made_before_the_service_had_an_endpoint_is_stale() -> None:
    untranslated = flow(Backend("10.96.0.10", 53))
    assert list(conntrack.stale([untranslated], {DNS: PortRules(backends=(NEW,))})) == [untranslated]


def test_entries_to_other_addresses_are_left_alone() -> None:
    other = flow(OLD, Frontend("10.96.0.11", "udp", 53))
    assert not list(conntrack.stale([other], {DNS: PortRules(backends=(NEW,))}))


def test_only_udp_frontends_that_still_have_endpoints_or_are_gone_are_looked_at() -> None:
    tcp, empty, gone = (
        Frontend("10.96.0.10", "tcp", 53),
        Frontend("10.96.0.12", "udp", 53),
        Frontend("10.96.0.13", "udp", 53),
    )
    full, none = PortRules(backends=(OLD,)), PortRules()
    changes = Changes(ports={tcp: (full, None), empty: (full, none), gone: (full, None), DNS: (none, full)})
    assert set(conntrack.affected(changes)) == {gone, DNS}
