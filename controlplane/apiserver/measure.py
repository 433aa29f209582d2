"""The API server's own figures, under upstream's metric names. Knows requests only by verb, resource and code."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controlplane.apiserver.request import Request

BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Measure:
    """Counts and times requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "apiserver_request_total",
            "Requests by verb, resource and code.",
            ["verb", "group", "resource", "subresource", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "apiserver_request_duration_seconds",
            "How long requests took, without long-running ones.",
            ["verb", "resource"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._long = Gauge(
            "apiserver_longrunning_requests",
            "Open watches and streams.",
            ["verb", "resource", "subresource"],
            registry=registry,
        )

    def done(self, request: Request | None, *, code: int, seconds: float) -> None:
        """A request has been answered."""
        if request is None:
            self._total.labels("", "", "", "", str(code)).inc()
            return
        target = request.target if request.target.resource is not None else None
        group, plural, below = (target.group, target.plural, target.subresource) if target else ("", "", "")
        verb = request.verb.upper()
        self._total.labels(verb, group, plural, below, str(code)).inc()
        if not request.long_running:
            self._seconds.labels(verb, plural).observe(seconds)

    @contextmanager
    def long_running(self, request: Request) -> Iterator[None]:
        """A watch or stream is open."""
        target = request.target
        gauge = self._long.labels(request.verb.upper(), target.plural, target.subresource)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()
