"""Pods that speak to the outside do so with the node's address. Owns one nft table per IP version; writes in no other.

Traffic between pods keeps its source, wherever they run; multicast is left alone.
"""

from collections.abc import Sequence
from ipaddress import ip_network

TABLE = "nodeagent-cni"
MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
FAMILY = {4: "ip", 6: "ip6"}
ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


def ruleset(*, own: Sequence[str], pods: Sequence[str]) -> str:
    """The whole table as text for `nft -f -`, replacing what was there in one transaction. PURE."""
    return "".join(_family(version, own=own, pods=pods) for version in (4, 6))


def _family(version: int, *, own: Sequence[str], pods: Sequence[str]) -> str:
    mine = [cidr for cidr in own if ip_network(cidr).version == version]
    if not mine:
        return ""
    everyone = sorted({str(ip_network(cidr)) for cidr in (*pods, *mine) if ip_network(cidr).version == version})
    family = FAMILY[version]
    source, outside = (
        f"{family} saddr {{ {', '.join(mine)} }}",
        f"{family} daddr != @pods {family} daddr != {MULTICAST[version]}",
    )
    return f"""\
add table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
  set pods {{ type {ADDRESS_TYPE[version]}; flags interval; auto-merge; elements = {{ {", ".join(everyone)} }}; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {source} {outside} masquerade fully-random
  }}
}}
"""


def families(rules: str) -> frozenset[str]:
    """In which families a ruleset of ours leaves a table, in nft's words. PURE."""
    return frozenset(family for family in FAMILY.values() if f"\ntable {family} {TABLE} " in rules)


def removal() -> str:
    """Text that removes the tables, whether or not they are there. PURE."""
    return "".join(f"add table {f} {TABLE}\ndelete table {f} {TABLE}\n" for f in FAMILY.values())
