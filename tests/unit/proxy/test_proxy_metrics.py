"""The proxy's metrics have upstream's names and labels."""

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fakes.iptables import FakeXtables
from proxy.backends.iptables import IptablesBackend
from proxy.metrics import Metrics
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

BOTH = {
    "conntrack_reconciler_deleted_entries_total",
    "conntrack_reconciler_sync_duration_seconds",
    "network_programming_duration_seconds",
    "proxy_healthz_total",
    "proxy_livez_total",
    "sync_full_proxy_rules_duration_seconds",
    "sync_partial_proxy_rules_duration_seconds",
    "sync_proxy_rules_duration_seconds",
    "sync_proxy_rules_endpoint_changes_pending",
    "sync_proxy_rules_endpoint_changes_total",
    "sync_proxy_rules_last_queued_timestamp_seconds",
    "sync_proxy_rules_last_timestamp_seconds",
    "sync_proxy_rules_nftables_cleanup_failures_total",
    "sync_proxy_rules_no_local_endpoints_total",
    "sync_proxy_rules_service_changes_pending",
    "sync_proxy_rules_service_changes_total",
}
IPTABLES = {
    "sync_proxy_rules_iptables_last",
    "sync_proxy_rules_iptables_partial_restore_failures_total",
    "sync_proxy_rules_iptables_restore_failures_total",
    "sync_proxy_rules_iptables_total",
}


def names(registry: CollectorRegistry) -> set[str]:
    lines = generate_latest(registry).decode().splitlines()
    found = {line.split()[2].removeprefix("kubeproxy_") for line in lines if line.startswith("# TYPE")}
    return {name for name in found if not name.endswith("_created")}


@pytest.mark.parametrize(
    ("mode", "own"), [("nftables", {"sync_proxy_rules_nftables_sync_failures_total"}), ("iptables", IPTABLES)]
)
def test_there_is_what_upstream_has(mode: str, own: set[str]) -> None:
    registry = CollectorRegistry()
    Metrics(registry, backend=mode)
    assert names(registry) == BOTH | own


def test_a_write_is_told_of_each_ip_version_in_it() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    metrics.synced(0.5, full=False, at=at, versions={6})
    name = "kubeproxy_sync_proxy_rules_duration_seconds_count"
    assert registry.get_sample_value(name, {"ip_family": "IPv6"}) == 1
    assert registry.get_sample_value(name, {"ip_family": "IPv4"}) is None
    metrics.flows_forgotten({4: 3}, seconds=0.1)
    deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total"
    assert registry.get_sample_value(deleted, {"ip_family": "IPv4"}) == 3


async def test_the_rules_in_force_and_in_the_last_write_are_counted() -> None:
    registry, backend = CollectorRegistry(), IptablesBackend(FakeXtables())
    Metrics(registry, backend="iptables").watch_chains(backend.total, backend.written)
    rules, key, frontend = RuleSet(), ServiceKey("default", "a"), Frontend("10.96.0.1", "tcp", 80)
    rules.replace(key, {frontend: PortRules(backends=(Backend("10.0.0.1", 80),), title="default/a")})
    await backend.replace(rules)
    labels = {"table": "nat", "ip_family": "IPv4"}

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"kubeproxy_sync_proxy_rules_iptables_{name}", labels)

    everything = value("total")
    assert everything == value("last")
    two = PortRules(backends=(Backend("10.0.0.1", 80), Backend("10.0.0.2", 80)), title="default/a")
    await backend.change(plan.difference(rules, {key: {frontend: two}}))
    assert value("total") == (everything or 0) + 3  # one more in its chain, and the two of the new endpoint
    assert value("last") == 4
