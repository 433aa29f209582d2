"""The text of our nftables table. PURE.

One table per IP version, a few fixed chains, flat maps. The way of a packet to a Service:

    prerouting / output (dstnat)   services: address . protocol . port -> goto pick-N
                                   pick-N:   dnat to endpoints[address . protocol . port . random mod N]
    forward / output (filter)      what still has a cluster address has no endpoint or no such port: refused
    postrouting (srcnat)           a pod that was sent to itself is masqueraded, or the answer would not come back
"""

from collections.abc import Iterable

from proxy.backends import elements
from proxy.backends.elements import Element
from proxy.rules.plan import RuleSet

TABLE = "nodeagent-proxy"
FAMILIES = {4: "ip", 6: "ip6"}
MAX_ENDPOINTS = 65536
# Pick chains are made with the table, so that a change is elements only: nft 1.0.6 cannot add a rule that uses a map
# whose type it reads back from the kernel ("conflicting protocols"). Beyond this the caller writes all anew.
MIN_PICK_CHAINS = 64


def whole(rules: RuleSet, *, cluster_cidrs: Iterable[str] = ()) -> str:
    """The tables with all their elements, replacing what was there in one transaction."""
    found = list(elements.of_rules(rules))
    chains = pick_chains(rules)
    own = list(cluster_cidrs)
    return "".join(
        _table(
            version,
            [element for element in found if element.table_version == version],
            chains=chains,
            cidrs=[cidr for cidr in own if (6 if ":" in cidr else 4) == version],
        )
        for version in FAMILIES
    )


def pick_chains(rules: RuleSet) -> int:
    """For how many endpoints a Service may have without a full write: a power of two with room to grow."""
    most = max((len(port.backends) for port in rules.ports().values()), default=0)
    return max(MIN_PICK_CHAINS, 1 << most.bit_length())


def removal() -> str:
    """Text that removes the tables, whether or not they are there."""
    return "".join(f"add table {f} {TABLE}\ndelete table {f} {TABLE}\n" for f in FAMILIES.values())


def _pick(version: int, count: int) -> str:
    family = FAMILIES[version]
    key = f"{_frontend(version)} . numgen random mod {count}"
    return f"meta l4proto {{ tcp, udp, sctp }} dnat {family} to {key} map @{elements.ENDPOINTS}"


def _frontend(version: int) -> str:
    return f"{FAMILIES[version]} daddr . meta l4proto . th dport"


def _table(version: int, found: list[Element], *, chains: int, cidrs: list[str]) -> str:
    family, frontend = FAMILIES[version], _frontend(version)
    picks = "".join(
        f"  chain {elements.pick_chain(n)} {{\n    {_pick(version, n)}\n  }}\n" for n in range(1, chains + 1)
    )
    outside = _outside(version, cidrs)
    return f"""\
add table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
  map {elements.SERVICES} {{
    typeof {frontend} : verdict
{_elements(found, elements.SERVICES)}  }}
  map {elements.ENDPOINTS} {{
    typeof {frontend} . numgen random mod {MAX_ENDPOINTS} : {family} daddr . th dport
{_elements(found, elements.ENDPOINTS)}  }}
  set {elements.CLUSTER_ADDRESSES} {{
    typeof {family} daddr
{_elements(found, elements.CLUSTER_ADDRESSES)}  }}
  set {elements.HAIRPINS} {{
    typeof {family} saddr . {family} daddr
{_elements(found, elements.HAIRPINS)}  }}
  chain {elements.DROP_CHAIN} {{
    drop
  }}
{picks}  chain refuse {{
    {family} daddr @{elements.CLUSTER_ADDRESSES} reject
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {frontend} vmap @{elements.SERVICES}
  }}
  chain nat-output {{
    type nat hook output priority -100; policy accept;
    {frontend} vmap @{elements.SERVICES}
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat {family} saddr . {family} daddr @{elements.HAIRPINS} masquerade fully-random
{outside}  }}
  chain filter-forward {{
    type filter hook forward priority filter; policy accept;
    ct state invalid drop
    ct state new jump refuse
  }}
  chain filter-output {{
    type filter hook output priority filter; policy accept;
    ct state new jump refuse
  }}
}}
"""


def _elements(found: list[Element], name: str) -> str:
    rows = [element.text() for element in found if element.set == name]
    return f"    elements = {{ {', '.join(rows)} }}\n" if rows else ""


def _outside(version: int, cidrs: list[str]) -> str:
    """Who is not a pod reaches a cluster address with the node's address, where the pod ranges are configured."""
    if not cidrs:
        return ""
    family = FAMILIES[version]
    client = f"{family} saddr != {{ {', '.join(cidrs)} }}"
    target = f"ct original {family} daddr @{elements.CLUSTER_ADDRESSES}"
    return f"    ct status dnat {client} {target} masquerade fully-random\n"
