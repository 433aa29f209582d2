"""The DNS server's metrics, under CoreDNS's names; read from plain counts when somebody scrapes."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from proxy.dns.exchange import Network
from proxy.dns.resolver import Tally
from proxy.dns.upstream import Upstream

RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}
TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
    43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY",
}  # fmt: skip


class DnsCollector(Collector):
    """Counts of the resolver, the cache and the upstream servers. `server`: as in CoreDNS, `dns://:53`."""

    def __init__(self, tally: Tally, upstream: Upstream, network: Network, *, server: str, family: str) -> None:
        self._tally, self._upstream, self._network = tally, upstream, network
        self._server, self._family = server, family

    def collect(self) -> Iterable[Metric]:
        """Everything there is to tell."""
        yield from self._questions()
        yield from self._cache()
        failures = CounterMetricFamily(
            "coredns_proxy_healthcheck_failures", "Questions an upstream did not answer.", labels=["proxy_name", "to"]
        )
        for (address, port), times in self._upstream.failures.items():
            failures.add_metric(["forward", f"{address}:{port}"], times)
        yield failures
        yield CounterMetricFamily(
            "nodeagent_dns_malformed_replies", "Upstream replies that could not be read.", self._network.malformed
        )

    def _questions(self) -> Iterable[Metric]:
        asked = ["server", "zone", "view", "proto", "family", "type"]
        requests = CounterMetricFamily("coredns_dns_requests", "Queries by protocol and type.", labels=asked)
        told = ["server", "zone", "view", "rcode", "plugin"]
        responses = CounterMetricFamily("coredns_dns_responses", "Replies by code.", labels=told)
        by_type: dict[tuple[str, str], int] = {}
        by_code: dict[str, int] = {}
        for (proto, kind, rcode), times in self._tally.replies.items():
            key = (proto, TYPES.get(kind, "other"))
            by_type[key] = by_type.get(key, 0) + times
            code = RCODES.get(rcode, str(rcode))
            by_code[code] = by_code.get(code, 0) + times
        for (proto, kind_name), times in by_type.items():
            requests.add_metric([self._server, ".", "", proto, self._family, kind_name], times)
        for code, times in by_code.items():
            responses.add_metric([self._server, ".", "", code, ""], times)
        yield requests
        yield responses
        seconds = SummaryMetricFamily(
            "coredns_dns_request_duration_seconds", "Time spent on queries over UDP.", labels=["server"]
        )
        count = sum(times for (proto, _, _), times in self._tally.replies.items() if proto == "udp")
        seconds.add_metric([self._server], count, self._tally.seconds)
        yield seconds
        yield CounterMetricFamily("coredns_forward_max_concurrent_rejects", "Queries dropped.", self._tally.dropped)

    def _cache(self) -> Iterable[Metric]:
        cache = self._upstream.cache
        yield CounterMetricFamily("coredns_cache_hits", "Questions answered from the cache.", cache.hits)
        yield CounterMetricFamily("coredns_cache_misses", "Questions that had to be asked upstream.", cache.misses)
        yield CounterMetricFamily("coredns_cache_served_stale", "Old replies given out.", cache.served_stale)
        yield CounterMetricFamily("coredns_cache_prefetch", "Replies refreshed before their end.", cache.prefetches)
        yield GaugeMetricFamily("coredns_cache_entries", "Replies kept.", len(cache))
