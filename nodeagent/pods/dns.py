"""Hostname, hosts file and resolver of a pod, after upstream's network/dns package. PURE."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from kube import types
from nodeagent.cri.v1 import cri_pb2 as cri

MAX_SERVERS: Final = 3
MAX_SEARCHES: Final = 32
MAX_SEARCH_CHARS: Final = 2048
MAX_HOSTNAME: Final = 63
NDOTS: Final = "ndots:5"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """A resolv.conf as lists."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The cluster's own DNS: server addresses and zone."""

    servers: tuple[str, ...] = ()
    domain: str = "cluster.local"


def parse(text: str) -> Resolver:
    """The parts of a resolv.conf; later `search` and `options` lines replace earlier ones."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for line in text.splitlines():
        keyword, *words = line.split("#", 1)[0].split(";", 1)[0].split() or [""]
        if keyword == "nameserver" and words:
            servers.append(words[0])
        elif keyword == "search":
            searches = tuple(word.rstrip(".") or "." for word in words)
        elif keyword == "options":
            options = tuple(words)
    return Resolver(servers=tuple(servers), searches=searches, options=options)


def resolver(pod: types.Pod, *, host: Resolver, cluster: Cluster) -> Resolver:
    """What the pod's resolv.conf says, by its dnsPolicy and dnsConfig."""
    policy = pod.spec.dns_policy
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or (policy == "ClusterFirst" and pod.spec.host_network) or not cluster.servers:
        base = host
    else:
        namespace = pod.metadata.namespace
        own = (f"{namespace}.svc.{cluster.domain}", f"svc.{cluster.domain}", cluster.domain)
        base = Resolver(servers=cluster.servers, searches=unique((*own, *host.searches)), options=(NDOTS,))
    return bounded(with_config(base, pod.spec.dns_config))


def with_config(base: Resolver, config: types.PodDNSConfig | None) -> Resolver:
    """`base` with the pod's additions; an option of the pod replaces one of the same name."""
    if config is None:
        return base
    own = tuple(f"{o.name}:{o.value}" if o.value is not None else o.name for o in config.options)
    names = {option.split(":")[0] for option in own}
    return Resolver(
        servers=unique((*base.servers, *config.nameservers)),
        searches=unique((*base.searches, *config.searches)),
        options=(*(o for o in base.options if o.split(":")[0] not in names), *own),
    )


def bounded(found: Resolver) -> Resolver:
    """Within what the C library reads."""
    searches: list[str] = []
    for search in found.searches[:MAX_SEARCHES]:
        if len(" ".join([*searches, search])) > MAX_SEARCH_CHARS:
            break
        searches.append(search)
    return Resolver(servers=found.servers[:MAX_SERVERS], searches=tuple(searches), options=found.options)


def unique(items: Sequence[str]) -> tuple[str, ...]:
    """Without repetitions, in order."""
    return tuple(dict.fromkeys(items))


def message(found: Resolver) -> cri.DNSConfig:
    """For CRI."""
    return cri.DNSConfig(servers=found.servers, searches=found.searches, options=found.options)


def hostname(pod: types.Pod) -> str:
    """The pod's short host name."""
    if pod.spec.hostname_override:
        return pod.spec.hostname_override
    return pod.spec.hostname or pod.metadata.name[:MAX_HOSTNAME].rstrip("-.")


def domain(pod: types.Pod, *, cluster: Cluster) -> str:
    """The domain of a pod with a subdomain, "" for others."""
    if not pod.spec.subdomain or pod.spec.hostname_override:
        return ""
    return f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster.domain}"


def sandbox_hostname(pod: types.Pod, *, cluster: Cluster) -> str:
    """What CRI is told: nothing in the host's network, whose name is not ours to set."""
    if pod.spec.host_network:
        return ""
    full = domain(pod, cluster=cluster)
    if pod.spec.set_hostname_as_fqdn and full:
        return f"{hostname(pod)}.{full}"
    return hostname(pod)


def hosts_file(pod: types.Pod, *, ips: Sequence[str], cluster: Cluster, host_text: str) -> str:
    """The managed /etc/hosts; in the host's network it is the host's, and our lines after it."""
    if pod.spec.host_network:
        head = f"# Kubernetes-managed hosts file (host network).\n{host_text}"
        lines = [head.rstrip("\n")]
    else:
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::\tip6-localnet",
            "fe00::\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        full = domain(pod, cluster=cluster)
        own = hostname(pod)
        lines += [f"{ip}\t{own}.{full}\t{own}" if full else f"{ip}\t{own}" for ip in ips]
    if pod.spec.host_aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += [f"{alias.ip}\t" + "\t".join(alias.hostnames) for alias in pod.spec.host_aliases]
    return "\n".join(lines) + "\n"
