"""The text of our nftables table. PURE.

One table per IP version, a few fixed chains, flat maps. The way of a packet to a Service:

    prerouting / output (dstnat)   restricted, allowed: who may not use a load balancer's address is dropped
                                   affinity:  client . address . protocol . port -> the endpoint it had before
                                   outside:   not from a pod: address . protocol . port under a Local policy -> N
                                   services:  address . protocol . port -> N, how many endpoints
                                   picks:     N -> goto pick-N, 0 -> silence
                                   pick-N:    dnat to endpoints[address . protocol . port . random mod N]
    input / forward / output       what still has a cluster address is refused, external ones when in `refused`;
                                   an address of the service range that is nobody's is dropped
    postrouting (srcnat)           sticky:    the endpoint is noted for the client, by what it asked for at first
                                   hairpins:  a pod that was sent to itself is masqueraded, or no answer would come back
                                   external:  so is who came by an external address, unless the policy is Local
"""

import hashlib
from collections.abc import Callable, Collection, Iterable

from kube.runtime.nfelements import PROTOCOLS
from proxy.backends import affinity, elements
from proxy.backends.elements import Element
from proxy.rules.plan import PortRules, RuleSet
from proxy.services.tracker import DEFAULT_AFFINITY_SECONDS

TABLE = "nodeagent-proxy"
ENTRY = "nat-prerouting"
BALANCE, BALANCE_LOCAL = "balance", "balance-local"
FAMILIES = {4: "ip", 6: "ip6"}
# Of the rule in `expressions`, which no text shows.
REVISION = 1
MAX_ENDPOINTS = 65536
MAX_CLIENTS = 1 << 20
# Pick chains are made with the table, so that a change is elements only: nft 1.0.6 cannot add a rule that uses a map
# whose type it reads back from the kernel ("conflicting protocols"). For other counts the caller writes all anew.
PREPARED_COUNTS = 64


def whole(rules: RuleSet, *, cluster_cidrs: Iterable[str] = (), tcp_liberal: bool = False, filled: bool = True) -> str:
    """The tables with all their elements, replacing what was there in one transaction.

    Not `filled`, they are made for these rules and empty. `tcp_liberal`: the kernel takes late TCP packets for valid.
    """
    by_table: dict[int, dict[str, list[Element]]] = {version: {} for version in FAMILIES}
    for element in elements.of_rules(rules) if filled else ():
        by_table[element.table_version].setdefault(element.set, []).append(element)
    own, ports = list(cluster_cidrs), rules.ports().values()
    return "".join(
        _table(
            version,
            by_table[version],
            counts=counts(ports),
            seconds=timeouts(ports),
            cidrs=_of_version(own, version),
            ranges=_of_version(rules.ranges, version),
            tcp_liberal=tcp_liberal,
        )
        for version in FAMILIES
    )


def counts(ports: Iterable[PortRules]) -> frozenset[int]:
    """How many endpoints a Service may have without a full write: a few dozen, or an eighth around what it has."""
    prepared = set(range(1, PREPARED_COUNTS + 1))
    for count in {max(len(port.backends), len(port.local)) for port in ports}:
        if count > PREPARED_COUNTS * 3 // 4:
            prepared |= set(range(count - count // 8, count + count // 8 + 1))
    return frozenset(prepared)


def timeouts(ports: Iterable[PortRules]) -> frozenset[int]:
    """For which session affinity timeouts there is a chain."""
    return affinity.timeouts(ports) | {DEFAULT_AFFINITY_SECONDS}


def completed(ranges: Iterable[str] = (), *, cluster_cidrs: Iterable[str] = (), tcp_liberal: bool = False) -> str:
    """The name of the chain that says a table is complete; it differs whenever the structure does."""
    text = whole(RuleSet(ranges=tuple(ranges)), cluster_cidrs=cluster_cidrs, tcp_liberal=tcp_liberal)
    return f"complete-{hashlib.sha256(f'{REVISION}{text}'.encode()).hexdigest()[:12]}"


def removal(table: str = TABLE) -> str:
    """Text that removes the tables of a name, whether or not they are there."""
    return "".join(f"add table {f} {table}\ndelete table {f} {table}\n" for f in FAMILIES.values())


def _table(
    version: int,
    found: dict[str, list[Element]],
    *,
    counts: Collection[int],
    seconds: Collection[int],
    cidrs: list[str],
    ranges: list[str],
    tcp_liberal: bool,
) -> str:
    family = FAMILIES[version]
    return f"""\
add table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
{_sets(version, found)}{_picks(version, counts)}{_pick_map(elements.PICKS, counts, elements.pick_chain)}\
{_pick_map(elements.PICKS_LOCAL, counts, elements.pick_local_chain)}{_remember(seconds)}\
{_chains(version, cidrs, ranges, tcp_liberal=tcp_liberal)}}}
"""


def _frontend(version: int) -> str:
    return f"{FAMILIES[version]} daddr . meta l4proto . th dport"


def _asked(version: int, protocol: str) -> str:
    """What the client asked for, seen after translation. nft knows the type of the port for one protocol at a time."""
    return f"meta l4proto {protocol} ct original {FAMILIES[version]} daddr . meta l4proto . ct original proto-dst"


def _sets(version: int, found: dict[str, list[Element]]) -> str:
    family, frontend = FAMILIES[version], _frontend(version)
    indexed = f"{frontend} . numgen random mod {MAX_ENDPOINTS} : {family} daddr . th dport"
    client = f"{family} saddr . {frontend}"
    shapes = (
        ("map", elements.SERVICES, f"{frontend} : meta priority", ""),
        ("map", elements.OUTSIDE, f"{frontend} : meta priority", ""),
        ("map", elements.EXTERNAL, f"{frontend} : verdict", ""),
        ("map", elements.STICKY, f"{frontend} : verdict", ""),
        ("map", elements.ENDPOINTS, indexed, "counter"),
        ("map", elements.LOCAL_ENDPOINTS, indexed, ""),
        (
            "map",
            elements.AFFINITY,
            f"{client} : {family} daddr . th dport",
            f"flags dynamic,timeout; size {MAX_CLIENTS}",
        ),
        ("set", elements.RESTRICTED, frontend, ""),
        ("set", elements.ALLOWED, f"{frontend} . {family} saddr", "flags interval"),
        ("set", elements.REFUSED, frontend, ""),
        ("set", elements.CLUSTER_ADDRESSES, f"{family} daddr", ""),
        ("set", elements.HAIRPINS, f"{family} saddr . {family} daddr", ""),
    )
    return "".join(_set(kind, name, type_, flags, found.get(name, ())) for kind, name, type_, flags in shapes)


def _set(kind: str, name: str, type_: str, flags: str, found: Collection[Element]) -> str:
    rows = ", ".join(element.text() for element in found)
    extra = f"    {flags}\n" if flags else ""
    held = f"    elements = {{ {rows} }}\n" if rows else ""
    return f"  {kind} {name} {{\n    typeof {type_}\n{extra}{held}  }}\n"


def _chain(name: str, *rules: str) -> str:
    return f"  chain {name} {{\n" + "".join(f"    {rule}\n" for rule in rules if rule) + "  }\n"


def _pick_map(name: str, counts: Collection[int], chain: Callable[[int], str]) -> str:
    named = {0: elements.DROP_CHAIN} | {n: chain(n) for n in sorted(counts)}
    rows = ", ".join(f"{elements.count_text(n)} : goto {target}" for n, target in named.items())
    return f"  map {name} {{\n    typeof meta priority : verdict\n    elements = {{ {rows} }}\n  }}\n"


def _picks(version: int, counts: Collection[int]) -> str:
    family, frontend = FAMILIES[version], _frontend(version)
    start = f"meta priority set none meta l4proto {{ tcp, udp, sctp }} dnat {family} to {frontend} . numgen random mod"
    return "".join(
        _chain(elements.pick_chain(n), f"{start} {n} map @{elements.ENDPOINTS}")
        + _chain(elements.pick_local_chain(n), f"{start} {n} map @{elements.LOCAL_ENDPOINTS}")
        for n in sorted(counts)
    )


def _deal(frontend: str, counts: str, picks: str) -> tuple[str, str]:
    return f"meta priority set {frontend} map @{counts}", f"meta priority vmap @{picks}"


def _remember(seconds: Collection[int]) -> str:
    """Chains without rules: those are `expressions.remember`."""
    return "".join(_chain(elements.remember_chain(timeout)) for timeout in sorted(seconds))


def _of_version(blocks: Iterable[str], version: int) -> list[str]:
    return [block for block in blocks if (6 if ":" in block else 4) == version]


def _chains(version: int, cidrs: list[str], ranges: list[str], *, tcp_liberal: bool) -> str:
    family, frontend = FAMILIES[version], _frontend(version)
    stranger = f"{family} saddr != {{ {', '.join(cidrs)} }} " if cidrs else ""
    client = f"{family} saddr . {frontend}"
    again = f"meta l4proto {{ tcp, udp, sctp }} dnat {family} to {client} map @{elements.AFFINITY}"
    asked = [_asked(version, protocol) for protocol in PROTOCOLS]
    to_cluster = f"{stranger}ct original {family} daddr @{elements.CLUSTER_ADDRESSES} masquerade fully-random"
    return "".join(
        (
            _chain(elements.DROP_CHAIN, "drop"),
            _chain(elements.MASQUERADE_ALL, "masquerade fully-random"),
            _chain(elements.MASQUERADE_OWN, "fib saddr type local masquerade fully-random"),
            _chain(
                "guard",
                f"{frontend} @{elements.RESTRICTED} {frontend} . {family} saddr != @{elements.ALLOWED} drop",
            ),
            # In one map from frontend to verdict, the kernel would walk all of it whenever a count changes.
            _chain(BALANCE, *_deal(frontend, elements.SERVICES, elements.PICKS)),
            _chain(BALANCE_LOCAL, *_deal(frontend, elements.OUTSIDE, elements.PICKS_LOCAL)),
            _chain(
                "refuse",
                f"{family} daddr @{elements.CLUSTER_ADDRESSES} reject",
                f"{frontend} @{elements.REFUSED} reject",
                f"{family} daddr {{ {', '.join(ranges)} }} drop" if ranges else "",
            ),
            _chain(
                "translated",
                *(f"{each} vmap @{elements.STICKY}" for each in asked),
                f"{family} saddr . {family} daddr @{elements.HAIRPINS} masquerade fully-random",
                to_cluster if cidrs else "",
                *(f"{each} vmap @{elements.EXTERNAL}" for each in asked),
            ),
            _chain(
                ENTRY,
                "type nat hook prerouting priority dstnat; policy accept;",
                "jump guard",
                again,
                f"{stranger}jump {BALANCE_LOCAL}",
                f"jump {BALANCE}",
            ),
            _chain(
                "nat-output",
                "type nat hook output priority -100; policy accept;",
                "jump guard",
                again,
                f"jump {BALANCE}",
            ),
            _chain(
                "nat-postrouting",
                "type nat hook postrouting priority srcnat; policy accept;",
                "ct status dnat jump translated",
            ),
            _chain(
                "filter-input", "type filter hook input priority filter; policy accept;", "ct state new jump refuse"
            ),
            _chain(
                "filter-forward",
                "type filter hook forward priority filter; policy accept;",
                "" if tcp_liberal else "ct state invalid drop",
                "ct state new jump refuse",
            ),
            _chain(
                "filter-output", "type filter hook output priority filter; policy accept;", "ct state new jump refuse"
            ),
        )
    )
