"""The scheduler's metrics, under upstream's names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kube.runtime import metrics

_SECONDS = metrics.exponential_buckets(0.001, 2, 15)


class Metrics:
    """Counts what the scheduler does. unregister() makes room for a successor in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.attempts = Counter(
            "scheduler_schedule_attempts_total", "Attempts to schedule pods.", ["result"], registry=registry
        )
        self.preemptions = Counter(
            "scheduler_preemption_attempts_total", "Times room was made for a pod.", registry=registry
        )
        self.pending = Gauge("scheduler_pending_pods", "Pods that wait, by queue.", ["queue"], registry=registry)
        self.algorithm = Histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Time to decide on one pod.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.sli = Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Time from first seeing a pod to its binding.",
            buckets=_SECONDS,
            registry=registry,
        )

    def unregister(self) -> None:
        """Leave the registry."""
        for each in (self.attempts, self.preemptions, self.pending, self.algorithm, self.sli):
            self._registry.unregister(each)
