"""Who answers for an address: Leases, one for each address, and what a node does about them. PURE.

A Lease is made with the address's name, so two nodes cannot give one address to two Services; its annotation names the
Service, its holder is the node that answers. Times are monotonic seconds of this node: another clock is never trusted.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kube.types import Lease, Service
from proxy.balancer.pool import Pool
from proxy.services.model import ServiceKey

NAMESPACE = "kube-system"
PREFIX = "load-balancer-"
LABEL = "nodeagent/load-balancer"
SERVICE = "nodeagent/service"
ADDRESS = "nodeagent/address"
DURATION_SECONDS = 6
RENEW_SECONDS = 1.5
TRUSTED_SECONDS = 4.5
"""For how long after its last renewal a holder answers: less than others wait."""
MAX_OFFERS = 8
VERSIONS = {"IPv4": 4, "IPv6": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One address: whose, who answers for it, and since when nothing of it changed as we saw it."""

    address: str
    service: ServiceKey
    holder: str
    seen: float

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What this node does for one Service: take (or renew) claims, let go, remove, or ask for one of some addresses.

    `ask` has the addresses worth asking for, the best first, by IP version; empty where the pool is used up.
    """

    take: tuple[Claim, ...] = ()
    release: tuple[Claim, ...] = ()
    remove: tuple[Claim, ...] = ()
    ask: Mapping[int, tuple[str, ...]]


def lease_name(address: str) -> str:
    """The name of an address's Lease."""
    return PREFIX + address.replace(":", "-").replace(".", "-")


def claim(found: Lease, *, seen: float) -> Claim | None:
    """A Lease as a claim; None for one that is not ours."""
    namespace, _, name = found.metadata.annotations.get(SERVICE, "").partition("/")
    address = found.metadata.annotations.get(ADDRESS, "")
    if not name or lease_name(address) != found.metadata.name:
        return None
    return Claim(
        address=address, service=ServiceKey(namespace, name), holder=found.spec.holder_identity or "", seen=seen
    )


def served(service: Service | None, *, class_: str) -> bool:
    """Whether a Service is to have addresses of ours."""
    if service is None or service.metadata.deletion_timestamp is not None:
        return False
    spec = service.spec
    return spec.type == "LoadBalancer" and (spec.load_balancer_class or "") == class_


def plan(
    service: Service | None,
    claims: Sequence[Claim],
    *,
    pool: Pool,
    class_: str,
    node: str,
    eligible: bool,
    taken: Iterable[str],
    now: float,
) -> Plan:
    """What to do about a Service. `eligible`: this node may answer for it; `taken`: addresses of all claims."""
    mine = tuple(each for each in claims if each.holder == node)
    free = tuple(each for each in claims if each.holder != node and lapsed(each, now=now))
    if not served(service, class_=class_) or service is None:
        return Plan(remove=(*mine, *free), ask={})
    wanted = versions(service) & pool.versions
    usable = sorted((each for each in claims if each.address in pool), key=lambda each: each.address, reverse=True)
    kept = {each.version: each for each in usable}
    useless = tuple(each for each in (*mine, *free) if each.version not in wanted or kept.get(each.version) != each)
    if not eligible:
        return Plan(release=tuple(each for each in mine if each not in useless), remove=useless, ask={})
    missing = wanted - {each.version for each in claims if each not in useless}
    wishes = (service.spec.load_balancer_ip, *(each.ip for each in service.status.load_balancer.ingress if each.ip))
    in_use = frozenset(taken)
    return Plan(
        take=tuple(each for each in (*mine, *free) if each not in useless),
        remove=useless,
        ask={
            version: tuple(itertools.islice(pool.offers(version, wanted=wishes, taken=in_use), MAX_OFFERS))
            for version in sorted(missing)
        },
    )


def lapsed(each: Claim, *, now: float) -> bool:
    """Whether nobody answers for an address any more."""
    return not each.holder or now - each.seen > DURATION_SECONDS


def versions(service: Service) -> frozenset[int]:
    """The IP versions of a Service."""
    return frozenset(VERSIONS[family] for family in service.spec.ip_families if family in VERSIONS) or frozenset({4})


def ingress(claims: Iterable[Claim]) -> list[dict[str, str]]:
    """What the status says of these addresses."""
    ordered = sorted(claims, key=lambda each: (each.version, each.address))
    return [{"ip": each.address, "ipMode": "VIP"} for each in ordered]
