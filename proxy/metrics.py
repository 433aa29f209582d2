"""The proxy's metrics, under upstream's names, in the registry that is handed in."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = tuple(0.001 * 2**n for n in range(15))


class Metrics:
    """Counts of what the loop does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, namespace="kubeproxy", buckets=BUCKETS, registry=registry)

        self._all = histogram("sync_proxy_rules_duration_seconds", "Time of one write of rules.")
        self._full = histogram("sync_full_proxy_rules_duration_seconds", "Time of one write of all rules.")
        self._partial = histogram("sync_partial_proxy_rules_duration_seconds", "Time of one write of changed rules.")
        self._last = Gauge(
            "sync_proxy_rules_last_timestamp_seconds",
            "When rules were last written, Unix time.",
            namespace="kubeproxy",
            registry=registry,
        )
        self.failures = Counter(
            "sync_proxy_rules_nftables_sync_failures",
            "Writes of rules that failed.",
            namespace="kubeproxy",
            registry=registry,
        )

    def synced(self, seconds: float, *, full: bool, at: datetime) -> None:
        """One write that succeeded."""
        self._all.observe(seconds)
        (self._full if full else self._partial).observe(seconds)
        self._last.set(at.timestamp())
