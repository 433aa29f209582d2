"""`DNSConfiguration` (nodeagent/v1): where the DNS server listens, what it serves, whom it asks for other names."""

from pathlib import Path
from typing import Any

import msgspec

from kube.runtime import config as documents
from kube.runtime.config import Section
from proxy.dns import corefile, export, pool, resolvconf, rewrite, zone
from proxy.dns import hosts as by_hand

KIND = "DNSConfiguration"
MAX_TTL = 3600
MODES = (zone.INSECURE, zone.DISABLED, zone.VERIFIED)


class DNSConfiguration(Section, frozen=True, kw_only=True):
    """`forward`: upstream servers or paths of resolv.conf files, else this machine's own; times in seconds.

    `address` defaults to the node's. `files`: format (hosts, zone or etcd) -> path of a file that follows the zone.
    `corefile`: a path; what it says counts where the other keys say nothing. `reloadSeconds`: how often the files of
    the configuration are looked at for changes, 0 never.
    """

    node_name: str
    node_ip: str = msgspec.field(name="nodeIP", default="")
    kubeconfig: str
    corefile: str = ""
    cluster_domain: str = "cluster.local"
    address: str = ""
    port: int = 10053
    service: str = "kube-dns"
    namespace: str = "kube-system"
    node_local: bool = False
    ttl: int = 5
    pods: str = zone.INSECURE
    autopath: bool = False
    forward: tuple[str, ...] = ()
    forward_policy: str = pool.RANDOM
    max_concurrent: int = 1000
    stub_domains: dict[str, tuple[str, ...]] = {}
    hosts: tuple[str, ...] = ()
    hosts_file: str = ""
    hosts_ttl: int = msgspec.field(name="hostsTTL", default=by_hand.DEFAULT_TTL)
    rewrites: tuple[str, ...] = ()
    cache_seconds: int = 3600
    negative_cache_seconds: int = 1800
    serve_stale_seconds: int = 3600
    prefetch: int = 2
    log_queries: bool = False
    files: dict[str, str] = {}
    lameduck_seconds: float = 5.0
    reload_seconds: float = 0.0
    health_address: str = "127.0.0.1:8080"
    ready_address: str = "127.0.0.1:8181"
    metrics_address: str = "127.0.0.1:9153"

    def __post_init__(self) -> None:
        bounds = {"ttl": MAX_TTL, "hostsTTL": 86400, "cacheSeconds": 86400, "negativeCacheSeconds": 86400}
        given = (self.ttl, self.hosts_ttl, self.cache_seconds, self.negative_cache_seconds)
        for (name, most), value in zip(bounds.items(), given, strict=True):
            if not 0 <= value <= most:
                raise ValueError(f"{name}: {value} is not between 0 and {most}")
        if self.pods not in MODES:
            raise ValueError(f"pods: {self.pods!r} is none of {', '.join(MODES)}")
        if self.forward_policy not in pool.POLICIES:
            raise ValueError(f"forwardPolicy: {self.forward_policy!r} is none of {', '.join(pool.POLICIES)}")
        if not 0 < self.port < 65536:
            raise ValueError(f"port: {self.port} is not a port")
        if self.reload_seconds and not 1 <= self.reload_seconds <= 86400:
            raise ValueError(f"reloadSeconds: {self.reload_seconds} is neither 0 nor between 1 and 86400")
        if not 0 <= self.lameduck_seconds <= 60:
            raise ValueError(f"lameduckSeconds: {self.lameduck_seconds} is not between 0 and 60")
        for kind in self.files:
            if kind not in export.FORMATS:
                raise ValueError(f"files: {kind!r} is none of {', '.join(export.FORMATS)}")
        _check_names(self)


def read(path: Path) -> DNSConfiguration:
    """The configuration of a file or folder, and of the Corefile it names. Raises ConfigError."""
    found = _merged(path)
    if found.hosts_file:
        try:
            list(by_hand.parse(Path(found.hosts_file).read_text().splitlines()))
        except (OSError, ValueError) as error:
            raise documents.ConfigError(f"hostsFile: {found.hosts_file}: {error}") from error
    return found


def _merged(path: Path) -> DNSConfiguration:
    found = documents.load(path).get(KIND, [])
    merged = documents.merged(found) if found else documents.Document({"kind": KIND}, source="defaults")
    name = merged.get("corefile")
    if not isinstance(name, str) or not name:
        return documents.decode(merged, DNSConfiguration)
    try:
        below: dict[str, Any] = corefile.parse(Path(name).read_text(), source=name)
    except OSError as error:
        raise documents.ConfigError(f"{merged.source}: corefile: {name}: {error.strerror}") from error
    except corefile.CorefileError as error:
        raise documents.ConfigError(str(error)) from error
    return documents.decode(documents.Document({**below, **merged}, source=merged.source), DNSConfiguration)


def _check_names(config: DNSConfiguration) -> None:
    """Servers, hosts and rewrites; ValueError names the field."""
    servers = {"forward": config.forward} | {f"stubDomains.{name}": each for name, each in config.stub_domains.items()}
    for field, each in servers.items():
        if field != "forward" and not each:
            raise ValueError(f"{field}: no server")
        for server in each:
            if not server.startswith("/"):
                _named(field, resolvconf.split, server)
            elif field != "forward":
                raise ValueError(f"{field}: {server!r} is not an IP address, nor one with a port")
    _named("hosts", lambda lines: list(by_hand.parse(lines)), config.hosts)
    for text in config.rewrites:
        _named("rewrites", rewrite.rule, text)


def _named(field: str, check: Any, value: Any) -> None:
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
