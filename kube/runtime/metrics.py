"""Metrics in Prometheus' text form: one registry per component, upstream's names. Knows no component."""

from collections.abc import Iterable

import prometheus_client
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Registry(prometheus_client.CollectorRegistry):
    """A registry in which a name registered again replaces the old metric: a restarted component starts anew."""

    def register(self, collector: Collector) -> None:
        for name in self._get_names(collector):  # type: ignore[no-untyped-call]
            if (old := self._names_to_collectors.get(name)) is not None:
                self.unregister(old)
        super().register(collector)


def registry(*, process: bool = False) -> prometheus_client.CollectorRegistry:
    """A fresh registry; with `process` also the memory, CPU and descriptors of this process."""
    fresh = Registry(auto_describe=True)
    if process:
        prometheus_client.ProcessCollector(registry=fresh)
    return fresh


def exposition(*registries: prometheus_client.CollectorRegistry) -> bytes:
    """What a scrape of these registries answers."""
    return b"".join(prometheus_client.generate_latest(each) for each in registries)


def exponential_buckets(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Histogram bounds start, start * factor, ... as upstream's metrics declare them."""
    return tuple(start * factor**step for step in range(count))


def build_info(registry: prometheus_client.CollectorRegistry, *, version: str, labels: Iterable[str] = ()) -> None:
    """`kubernetes_build_info{git_version=...} 1`."""
    gauge = prometheus_client.Gauge(
        "kubernetes_build_info", "The version of this component.", ["git_version", *labels], registry=registry
    )
    gauge.labels(version, *("" for _ in labels)).set(1)
