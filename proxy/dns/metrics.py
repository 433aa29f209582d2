"""The DNS server's metrics, under CoreDNS's names."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.dns.cache import Cache
from proxy.dns.wire import Query

RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}
TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 255: "ANY"}


class CacheCollector(Collector):
    """Reads the cache's own counts when somebody scrapes."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        return [
            CounterMetricFamily("coredns_cache_hits", "Questions answered from the cache.", self._cache.hits),
            CounterMetricFamily("coredns_cache_misses", "Questions that had to be asked upstream.", self._cache.misses),
            GaugeMetricFamily("coredns_cache_entries", "Replies kept.", len(self._cache)),
        ]


def counter(registry: CollectorRegistry) -> Callable[[Query, int, str], None]:
    """A function that counts one reply; label children are looked up once, since it runs for every query."""
    requests = Counter("coredns_dns_requests", "Queries by type.", ["proto", "type"], registry=registry)
    responses = Counter("coredns_dns_responses", "Replies by code.", ["rcode"], registry=registry)
    by_kind: dict[tuple[str, int], Callable[[], None]] = {}
    by_code = {code: responses.labels(name).inc for code, name in RCODES.items()}
    other = responses.labels("OTHER").inc

    def count(query: Query, rcode: int, proto: str) -> None:
        key = (proto, query.type if query.type in TYPES else 0)
        increase = by_kind.get(key)
        if increase is None:
            increase = by_kind[key] = requests.labels(proto, TYPES.get(query.type, "other")).inc
        increase()
        by_code.get(rcode, other)()

    return count
