"""The proxy's metrics, under upstream's names, in the registry that is handed in."""

import functools
from collections.abc import Callable, Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.rules import plan
from proxy.rules.plan import RuleSet

NAMESPACE = "kubeproxy"
BUCKETS = tuple(0.001 * 2**n for n in range(15))
NETWORK_BUCKETS = (
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    *(float(n) for n in range(1, 10)),
    *(10.0 * n for n in range(1, 7)),
    120.0,
)


class Metrics:
    """Counts of what the loop does."""

    def __init__(self, registry: CollectorRegistry, *, backend: str = "nftables") -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...] = BUCKETS) -> Histogram:
            return Histogram(name, text, namespace=NAMESPACE, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, namespace=NAMESPACE, registry=registry)

        prefix = "sync_proxy_rules"
        self._all = histogram(f"{prefix}_duration_seconds", "Time of one write of rules.")
        self._full = histogram("sync_full_proxy_rules_duration_seconds", "Time of one write of all rules.")
        self._partial = histogram("sync_partial_proxy_rules_duration_seconds", "Time of one write of changed rules.")
        self._network = histogram(
            "network_programming_duration_seconds",
            "Time from the change behind an EndpointSlice until its rules are in the kernel.",
            NETWORK_BUCKETS,
        )
        self._last = gauge(f"{prefix}_last_timestamp_seconds", "When rules were last written, Unix time.")
        self._queued = gauge(f"{prefix}_last_queued_timestamp_seconds", "When a write was last asked for, Unix time.")
        self._services = counter(f"{prefix}_service_changes", "Changes of Services.")
        self._endpoints = counter(f"{prefix}_endpoint_changes", "Changes of EndpointSlices.")
        self._services_pending = gauge(f"{prefix}_service_changes_pending", "Changes of Services not written yet.")
        self._endpoints_pending = gauge(f"{prefix}_endpoint_changes_pending", "The same of EndpointSlices.")
        self._no_local = gauge(
            f"{prefix}_no_local_endpoints_total",
            "Services under a Local policy that have endpoints, but none on this node.",
            "traffic_policy",
        )
        self.cleanup_failures = counter(f"{prefix}_nftables_cleanup_failures", "Removals of rules that failed.")
        self._partial_failures: Counter | None = None
        if backend == "nftables":
            self._failures = counter(f"{prefix}_nftables_sync_failures", "Writes of rules that failed.")
        else:
            self._failures = counter(f"{prefix}_iptables_restore_failures", "Writes of rules that failed.")
            self._partial_failures = counter(f"{prefix}_iptables_partial_restore_failures", "Partial ones among them.")
        self.healthz = Counter(
            "proxy_healthz", "Answers of /healthz by status.", ["code"], namespace=NAMESPACE, registry=registry
        )
        self.livez = Counter(
            "proxy_livez", "Answers of /livez by status.", ["code"], namespace=NAMESPACE, registry=registry
        )
        self.flows_duration = histogram("conntrack_reconciler_sync_duration_seconds", "Time of one look at UDP flows.")
        self.flows_deleted = counter("conntrack_reconciler_deleted_entries", "UDP flows that led to no endpoint.")

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
        self._queued.set(at.timestamp())

    def taken(self) -> None:
        """All changes so far are being written."""
        self._services_pending.set(0)
        self._endpoints_pending.set(0)

    def failed(self, *, full: bool) -> None:
        """A write that the kernel refused."""
        partial = None if full else self._partial_failures
        (partial or self._failures).inc()

    def synced(self, seconds: float, *, full: bool, at: datetime, triggers: Iterable[datetime] = ()) -> None:
        """One write that succeeded; `triggers` are when the changes in it happened."""
        self._all.observe(seconds)
        (self._full if full else self._partial).observe(seconds)
        self._last.set(at.timestamp())
        for triggered in triggers:
            self._network.observe(max(0.0, (at - triggered).total_seconds()))

    def watch(self, rules: Callable[[], RuleSet]) -> None:
        """Where to count, when asked, the Services that have endpoints but none here."""
        for policy in ("internal", "external"):
            self._no_local.labels(policy).set_function(functools.partial(_without_local, rules, policy))


def _without_local(rules: Callable[[], RuleSet], policy: str) -> float:
    return float(plan.without_local(rules(), external=policy == "external"))
