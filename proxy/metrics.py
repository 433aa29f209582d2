"""The proxy's metrics, under upstream's names and labels, in the registry that is handed in.

One transaction writes both IP versions here; upstream has a loop for each. So what is said of a write is said of every
version that was in it.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.rules import plan
from proxy.rules.plan import RuleSet

NAMESPACE = "kubeproxy"
FAMILIES = {4: "IPv4", 6: "IPv6"}
FAMILY = "ip_family"
BUCKETS = tuple(0.001 * 2**n for n in range(15))
# Upstream's, and finer ones below its first.
NETWORK_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(float(n) for n in range(1, 60)),
    *(60.0 + 5 * n for n in range(12)),
    *(120.0 + 30 * n for n in range(7)),
)
TABLES = ("filter", "nat")


class Metrics:
    """Counts of what the loop does."""

    def __init__(self, registry: CollectorRegistry, *, backend: str = "nftables") -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...] = BUCKETS) -> Histogram:
            return Histogram(name, text, [FAMILY], namespace=NAMESPACE, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        prefix = "sync_proxy_rules"
        self._all = histogram(f"{prefix}_duration_seconds", "Time of one write of rules.")
        self._full = histogram("sync_full_proxy_rules_duration_seconds", "Time of one write of all rules.")
        self._partial = histogram("sync_partial_proxy_rules_duration_seconds", "Time of one write of changed rules.")
        self._network = histogram(
            "network_programming_duration_seconds",
            "Time from the change behind an EndpointSlice until its rules are in the kernel.",
            NETWORK_BUCKETS,
        )
        self._last = gauge(f"{prefix}_last_timestamp_seconds", "When rules were last written, Unix time.", FAMILY)
        self._queued = gauge(
            f"{prefix}_last_queued_timestamp_seconds", "When a write was last asked for, Unix time.", FAMILY
        )
        self._services = counter(f"{prefix}_service_changes", "Changes of Services.")
        self._endpoints = counter(f"{prefix}_endpoint_changes", "Changes of EndpointSlices.")
        self._services_pending = gauge(f"{prefix}_service_changes_pending", "Changes of Services not written yet.")
        self._endpoints_pending = gauge(f"{prefix}_endpoint_changes_pending", "The same of EndpointSlices.")
        self._no_local = gauge(
            f"{prefix}_no_local_endpoints_total",
            "Services under a Local policy that have endpoints, but none on this node.",
            "traffic_policy",
            FAMILY,
        )
        self._cleanup_failures = counter(
            f"{prefix}_nftables_cleanup_failures", "Removals of rules that failed.", FAMILY
        )
        self._partial_failures: Counter | None = None
        self._rules: Gauge | None = None
        if backend == "nftables":
            self._failures = counter(f"{prefix}_nftables_sync_failures", "Writes of rules that failed.", FAMILY)
        else:
            self._failures = counter(f"{prefix}_iptables_restore_failures", "Writes of rules that failed.", FAMILY)
            self._partial_failures = counter(
                f"{prefix}_iptables_partial_restore_failures", "Partial ones among them.", FAMILY
            )
            self._rules = gauge(f"{prefix}_iptables_total", "Rules in force.", "table", FAMILY)
            self._written = gauge(f"{prefix}_iptables_last", "Rules in the last write.", "table", FAMILY)
        self.healthz = counter("proxy_healthz", "Answers of /healthz by status.", "code")
        self.livez = counter("proxy_livez", "Answers of /livez by status.", "code")
        self._flows_duration = histogram("conntrack_reconciler_sync_duration_seconds", "Time of one look at UDP flows.")
        self._flows_deleted = counter(
            "conntrack_reconciler_deleted_entries", "UDP flows that led to no endpoint.", FAMILY
        )

    def service_changed(self) -> None:
        """A Service came, changed or went."""
        self._services.inc()
        self._services_pending.inc()

    def endpoints_changed(self) -> None:
        """An EndpointSlice came, changed or went."""
        self._endpoints.inc()
        self._endpoints_pending.inc()

    def queued(self, at: datetime) -> None:
        """A write was asked for."""
        for family in FAMILIES.values():
            self._queued.labels(family).set(at.timestamp())

    def taken(self) -> None:
        """All changes so far are being written."""
        self._services_pending.set(0)
        self._endpoints_pending.set(0)

    def failed(self, *, full: bool) -> None:
        """A write that the kernel refused."""
        for family in FAMILIES.values():
            self._failures.labels(family).inc()
            if self._partial_failures is not None and not full:
                self._partial_failures.labels(family).inc()

    def cleanup_failed(self) -> None:
        """Rules of another mode could not be removed."""
        for family in FAMILIES.values():
            self._cleanup_failures.labels(family).inc()

    def synced(
        self,
        seconds: float,
        *,
        full: bool,
        at: datetime,
        versions: Collection[int] = tuple(FAMILIES),
        triggers: Iterable[datetime] = (),
    ) -> None:
        """One write of these IP versions that succeeded; `triggers` are when the changes in it happened."""
        delays = [max(0.0, (at - triggered).total_seconds()) for triggered in triggers]
        for version in versions:
            family = FAMILIES[version]
            self._all.labels(family).observe(seconds)
            (self._full if full else self._partial).labels(family).observe(seconds)
            self._last.labels(family).set(at.timestamp())
            for delay in delays:
                self._network.labels(family).observe(delay)

    def flows_forgotten(self, deleted: Mapping[int, int], *, seconds: float) -> None:
        """UDP flows of these IP versions were looked at, and so many were deleted."""
        for version, count in deleted.items():
            self._flows_deleted.labels(FAMILIES[version]).inc(count)
            self._flows_duration.labels(FAMILIES[version]).observe(seconds)

    def watch(self, rules: Callable[[], RuleSet]) -> None:
        """Where to count, when asked, the Services that have endpoints but none here."""
        for version, family in FAMILIES.items():
            for policy in ("internal", "external"):
                count = functools.partial(_without_local, rules, policy, version)
                self._no_local.labels(policy, family).set_function(count)

    def watch_chains(self, total: Callable[[int, str], int], written: Callable[[int, str], int]) -> None:
        """Where to ask for the number of iptables rules, by IP version and table; nothing in another mode."""
        if self._rules is None:
            return
        for version, family in FAMILIES.items():
            for table in TABLES:
                self._rules.labels(table, family).set_function(functools.partial(_float, total, version, table))
                self._written.labels(table, family).set_function(functools.partial(_float, written, version, table))


def _without_local(rules: Callable[[], RuleSet], policy: str, version: int) -> float:
    return float(plan.without_local(rules(), external=policy == "external", version=version))


def _float(count: Callable[[int, str], int], version: int, table: str) -> float:
    return float(count(version, table))
