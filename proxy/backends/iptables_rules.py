"""iptables rules of Services, with upstream's chain names and meanings. PURE.

    nat PREROUTING, OUTPUT -> KUBE-SERVICES -> KUBE-SVC-x  (cluster address)     -> KUBE-SEP-y -> DNAT
                                            -> KUBE-EXT-x  (external address)    -> KUBE-SVC-x, under Local KUBE-SVL-x
                                            -> KUBE-FW-x   (with source ranges)  -> KUBE-EXT-x
                                            -> KUBE-NODEPORTS                    -> KUBE-EXT-x
    nat POSTROUTING        -> KUBE-POSTROUTING: what was marked by KUBE-MARK-MASQ is masqueraded
    filter                 -> KUBE-NODEPORTS: health checks pass;
                              KUBE-SERVICES, KUBE-EXTERNAL-SERVICES: refused or dropped; KUBE-PROXY-FIREWALL: not let

A Service port is a `Part`: chains of its own, and lines in chains that all share.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.rules.plan import BALANCER, CLUSTER, NODE_PORT, Backend, Frontend, PortRules, RuleSet

Chain = tuple[str, str]
"""Table and name."""
Rules = dict[Chain, tuple[str, ...]]

MARK = "0x4000"
COMMENT = re.compile(r' -m comment --comment "[^"]*"')
FEW_ENDPOINTS = 1000
"""Above this rules have no comments, as upstream's: they are half of the text."""
UNSPEAKABLE = re.compile(r"[^a-zA-Z0-9/:._-]")
SERVICES, NODEPORTS = ("nat", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS")
ACCEPTED = ("filter", "KUBE-NODEPORTS")
REFUSED, EXTERNAL_REFUSED = ("filter", "KUBE-SERVICES"), ("filter", "KUBE-EXTERNAL-SERVICES")
FIREWALL = ("filter", "KUBE-PROXY-FIREWALL")
SHARED = (SERVICES, NODEPORTS, ACCEPTED, REFUSED, EXTERNAL_REFUSED, FIREWALL)
CANARY = ("mangle", "KUBE-PROXY-CANARY")
OWN_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
NEW = "-m conntrack --ctstate NEW"
LOOPBACK, LOOPBACKS = "127.0.0.1", "127.0.0.0/8"
INVALID = "-m conntrack --ctstate INVALID -j DROP"
JUMPS = {
    ("nat", "PREROUTING"): ("-j KUBE-SERVICES",),
    ("nat", "OUTPUT"): ("-j KUBE-SERVICES",),
    ("nat", "POSTROUTING"): ("-j KUBE-POSTROUTING",),
    ("filter", "INPUT"): (
        f"{NEW} -j KUBE-PROXY-FIREWALL",
        "-j KUBE-NODEPORTS",
        f"{NEW} -j KUBE-EXTERNAL-SERVICES",
    ),
    ("filter", "FORWARD"): (
        f"{NEW} -j KUBE-PROXY-FIREWALL",
        "-j KUBE-FORWARD",
        f"{NEW} -j KUBE-SERVICES",
        f"{NEW} -j KUBE-EXTERNAL-SERVICES",
    ),
    ("filter", "OUTPUT"): (f"{NEW} -j KUBE-PROXY-FIREWALL", f"{NEW} -j KUBE-SERVICES"),
}
"""How packets come to our chains: rules in the built-in ones, in this order at their head."""
FIXED: Rules = {
    ("nat", "KUBE-MARK-MASQ"): (f"-j MARK --or-mark {MARK}",),
    ("nat", "KUBE-POSTROUTING"): (
        f"-m mark ! --mark {MARK}/{MARK} -j RETURN",
        f"-j MARK --xor-mark {MARK}",
        "-j MASQUERADE --random-fully",
    ),
    ("filter", "KUBE-FORWARD"): (
        INVALID,
        f"-m mark --mark {MARK}/{MARK} -j ACCEPT",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ),
    ("nat", CANARY[1]): (),
    ("filter", CANARY[1]): (),
    CANARY: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one Service port adds for one IP version."""

    chains: Rules = field(default_factory=dict)
    lines: Rules = field(default_factory=dict)
    node_addresses: frozenset[str] = frozenset()


PortKey = tuple[str, str]
"""Title and protocol of a Service port."""


def grouped(rules: RuleSet) -> dict[tuple[int, PortKey], dict[Frontend, PortRules]]:
    """The frontends of each Service port, by IP version."""
    found: dict[tuple[int, PortKey], dict[Frontend, PortRules]] = {}
    for frontend, port in rules.ports().items():
        found.setdefault(key(frontend, port), {})[frontend] = port
    return found


def key(frontend: Frontend, port: PortRules) -> tuple[int, PortKey]:
    """The IP version and the Service port that a frontend is of."""
    return frontend.version, (port.title, frontend.protocol)


def fixed(*, tcp_liberal: bool) -> Rules:
    """The chains that are always the same; where late TCP packets are taken for valid, nothing invalid is dropped."""
    without = {chain: tuple(rule for rule in rules if rule != INVALID) for chain, rules in FIXED.items()}
    return without if tcp_liberal else FIXED


def whole(rules: RuleSet, *, cidrs: Mapping[int, Iterable[str]], tcp_liberal: bool = False) -> dict[int, Rules]:
    """All chains by IP version; `cidrs` are the pod ranges of each."""
    ports = grouped(rules)
    found = {}
    for version, own in cidrs.items():
        parts = [part(*each, frontends, cidrs=own) for (v, each), frontends in ports.items() if v == version]
        found[version] = fixed(tcp_liberal=tcp_liberal) | shared(parts) | chains_of(parts)
    return found


def chains_of(parts: Iterable[Part]) -> Rules:
    """The chains that are Service ports' own."""
    return {chain: rules for each in parts for chain, rules in each.chains.items()}


def name(prefix: str, title: str, protocol: str, target: str = "") -> str:
    """The chain of a Service port, or of one of its endpoints."""
    digest = hashlib.sha256(f"{title}{protocol}{target}".encode()).digest()
    return f"KUBE-{prefix}-{base64.b32encode(digest).decode()[:16]}"


def few(rules: RuleSet) -> bool:
    """Whether there are so few endpoints that rules may have comments."""
    return sum(len(ports[next(iter(ports))].backends) for ports in grouped(rules).values()) <= FEW_ENDPOINTS


def part(
    title: str,
    protocol: str,
    ports: Mapping[Frontend, PortRules],
    *,
    cidrs: Iterable[str] = (),
    comments: bool = True,
) -> Part:
    """The rules of a Service port: all its frontends of one IP version. `cidrs` are the pod ranges of that version."""
    own = sorted(cidrs)
    chains: Rules = {}
    lines: dict[Chain, list[str]] = {chain: [] for chain in SHARED}
    external = [rules for rules in ports.values() if rules.kind != CLUSTER]
    everybody = next(iter([*external, *ports.values()]))
    service = _balanced(chains, "SVC", title, protocol, everybody.backends, everybody.affinity)
    for frontend, rules in sorted(ports.items()):
        if rules.health_port:
            lines[ACCEPTED].append(f"-p tcp -m tcp --dport {rules.health_port} -j ACCEPT")
        if rules.kind == CLUSTER:
            _cluster(chains, lines, title, frontend, rules, service=service, of=everybody, cidrs=own)
        else:
            _external(chains, lines, title, frontend, rules)
    if any(rules.backends for rules in external):
        _entry(chains, title, protocol, external[0], service=service, cidrs=own)
    return Part(
        chains=chains,
        lines={chain: _said(found, comments=comments) for chain, found in lines.items() if found},
        node_addresses=frozenset(frontend.address for frontend, rules in ports.items() if rules.kind == NODE_PORT),
    )


def _said(found: list[str], *, comments: bool) -> tuple[str, ...]:
    """Each rule once, with comments or without."""
    return tuple(dict.fromkeys(found if comments else (COMMENT.sub("", rule) for rule in found)))


def shared(parts: Iterable[Part]) -> Rules:
    """The chains that all Service ports share, whole."""
    lines: dict[Chain, list[str]] = {chain: [] for chain in SHARED}
    addresses: set[str] = set()
    for each in parts:
        addresses |= each.node_addresses
        for chain, found in each.lines.items():
            lines[chain] += found
    # A packet from elsewhere to the loopback address is somebody's trick (upstream's KUBE-FIREWALL).
    lines[FIREWALL] += [f"! -s {LOOPBACKS} -d {LOOPBACKS} -j DROP"] if LOOPBACK in addresses else []
    lines[SERVICES] += [
        f"{f'-s {LOOPBACKS} ' if address == LOOPBACK else ''}-d {address} -j KUBE-NODEPORTS"
        for address in sorted(addresses)
    ]
    return {chain: tuple(found) for chain, found in lines.items()}


def _cluster(
    chains: Rules,
    lines: dict[Chain, list[str]],
    title: str,
    frontend: Frontend,
    rules: PortRules,
    *,
    service: str,
    of: PortRules,
    cidrs: list[str],
) -> None:
    to = _to(frontend)
    if not rules.backends:
        lines[REFUSED].append(f"{to} {_comment(title)} -j {'DROP' if rules.drop else 'REJECT'}")
        return
    chain = service
    if rules.backends != of.backends:  # internalTrafficPolicy Local beside an external Cluster one
        chain = _balanced(chains, "SVL", title, frontend.protocol, rules.backends, rules.affinity)
    if cidrs:
        strangers = "".join(f"! -s {cidr} " for cidr in cidrs[:1])
        chains["nat", chain] = (f"{strangers}{to} -j KUBE-MARK-MASQ", *chains["nat", chain])
    lines[SERVICES].append(f"{to} {_comment(title)} -j {chain}")


def _external(chains: Rules, lines: dict[Chain, list[str]], title: str, frontend: Frontend, rules: PortRules) -> None:
    to, entry = _to(frontend), name("EXT", title, frontend.protocol)
    if not rules.backends:
        lines[EXTERNAL_REFUSED].append(f"{to} {_comment(title)} -j REJECT")
        return
    if rules.local_only and not rules.local:
        lines[EXTERNAL_REFUSED].append(f"{to} {_comment(title)} -j DROP")
    if rules.kind == NODE_PORT:
        lines[NODEPORTS].append(f"{_port(frontend)} {_comment(title)} -j {entry}")
    elif rules.kind == BALANCER and rules.sources is not None:
        guard = name("FW", title, frontend.protocol)
        chains["nat", guard] = tuple(f"-s {block} -j {entry}" for block in rules.sources)
        lines[SERVICES].append(f"{to} {_comment(title)} -j {guard}")
        lines[FIREWALL].append(f"{to} {_comment(title)} -j DROP")
    else:
        lines[SERVICES].append(f"{to} {_comment(title)} -j {entry}")


def _entry(chains: Rules, title: str, protocol: str, rules: PortRules, *, service: str, cidrs: list[str]) -> None:
    """KUBE-EXT: under Cluster all are masqueraded; under Local pods and the node are sent on, strangers stay here."""
    entry = ("nat", name("EXT", title, protocol))
    if not rules.local_only:
        chains[entry] = ("-j KUBE-MARK-MASQ", f"-j {service}")
        return
    own = "-m addrtype --src-type LOCAL"
    found = [f"-s {cidr} -j {service}" for cidr in cidrs]
    found += [f"{own} -j KUBE-MARK-MASQ", f"{own} -j {service}"]
    if rules.local:
        found.append(f"-j {_balanced(chains, 'SVL', title, protocol, rules.local, rules.affinity)}")
    chains[entry] = tuple(found)


def _balanced(
    chains: Rules, prefix: str, title: str, protocol: str, backends: tuple[Backend, ...], affinity: int
) -> str:
    """A chain that deals connections to the endpoints at random, with the endpoints' own chains; its name."""
    chain = name(prefix, title, protocol)
    found, again = [], []
    for place, backend in enumerate(backends):
        target = (
            f"[{backend.address}]:{backend.port}" if ":" in backend.address else f"{backend.address}:{backend.port}"
        )
        end = name("SEP", title, protocol, target)
        note = ""
        if affinity:
            again.append(f"-m recent --name {end} --rcheck --seconds {affinity} --reap --rsource -j {end}")
            note = f"-m recent --name {end} --set --rsource "
        left = len(backends) - place
        chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        found.append(f"{chance}-j {end}")
        chains["nat", end] = (
            f"-s {backend.address} -j KUBE-MARK-MASQ",
            f"-p {protocol} -m {protocol} {note}-j DNAT --to-destination {target}",
        )
    if backends:
        chains["nat", chain] = (*again, *found)
    return chain


def _to(frontend: Frontend) -> str:
    return f"-d {frontend.address} {_port(frontend)}"


def _port(frontend: Frontend) -> str:
    return f"-p {frontend.protocol} -m {frontend.protocol} --dport {frontend.port}"


def _comment(title: str) -> str:
    return f'-m comment --comment "{UNSPEAKABLE.sub("_", title)[:200]}"'
