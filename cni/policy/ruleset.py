"""The text of our nftables tables, one per IP version, in one forward hook. PURE.

    forward    reply or part of a known connection         -> passes
               self:     a pod to itself                   -> passes
               egress:   source address -> jump out-...    (returns when a rule allows it, else drops)
               ingress:  destination address -> goto in-... (accepts when a rule allows it, else drops)

Packets are seen after the proxy chose an endpoint and before sources are masqueraded, so both ends are the real ones.
Packets between ports of the bridge come by too (br_netfilter). What the node itself sends or receives does not pass
here: that always may.
"""

from collections.abc import Iterable

from cni.policy.plan import SELF, Chain, Change, Element, Match, PolicySet, Structure
from cni.policy.rules import EGRESS, INGRESS

TABLE = "nodeagent-policy"
ENTRY = "forward"
FAMILIES = {4: "ip", 6: "ip6"}
TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
# Neighbours must find each other whatever the policies say; and who sends too much at once must be told.
ICMP6 = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, packet-too-big }"


def whole(wanted: PolicySet) -> str:
    """The tables with all they hold, replacing what was there in one transaction; the removal when it is empty."""
    if wanted.empty:
        return removal()
    by_set: dict[tuple[int, str], list[Element]] = {}
    for element in wanted.elements:
        by_set.setdefault((element.version, element.set), []).append(element)
    text = []
    for version, family in FAMILIES.items():
        found = {name: held for (of, name), held in by_set.items() if of == version}
        text.append(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\nadd table {family} {TABLE}\n")
        text.append(_base(version))
        text += _sets(version, wanted.structure, wanted.structure.sets)
        text += [_chain(version, chain) for chain in wanted.structure.chains.values()]
        text += [_elements("add", version, name, held) for name, held in sorted(found.items())]
    return "".join(text)


def change(wanted: Change) -> str:
    """A change of structure with its elements, in one transaction."""
    before, after = wanted.before, wanted.after
    text = []
    for version, family in FAMILIES.items():
        text += _sets(version, after, after.sets - before.sets)
        text += [_chain(version, each) for name, each in after.chains.items() if name not in before.chains]
        text += _grouped("delete", version, wanted.remove)
        text += _grouped("add", version, wanted.add)
        gone = [name for name in before.chains if name not in after.chains]
        text += [f"flush chain {family} {TABLE} {name}\n" for name in gone]
        text += [f"delete chain {family} {TABLE} {name}\n" for name in gone]
        text += [f"delete set {family} {TABLE} {name}\n" for name in sorted(before.sets - after.sets)]
    return "".join(text)


def removal() -> str:
    """Text that removes the tables, whether or not they are there."""
    return "".join(f"add table {f} {TABLE}\ndelete table {f} {TABLE}\n" for f in FAMILIES.values())


def _base(version: int) -> str:
    family, type_ = FAMILIES[version], TYPES[version]
    rules = [
        "ct state established,related accept",
        *([f"{ICMP6} accept"] if version == 6 else []),
        f"{family} saddr . {family} daddr @{SELF} accept",
        f"{family} saddr vmap @{EGRESS}",
        f"{family} daddr vmap @{INGRESS}",
    ]
    where = f"{family} {TABLE}"
    return (
        f"add set {where} {SELF} {{ type {type_} . {type_}; }}\n"
        f"add map {where} {EGRESS} {{ type {type_} : verdict; }}\n"
        f"add map {where} {INGRESS} {{ type {type_} : verdict; }}\n"
        f"add chain {where} {ENTRY} {{ type filter hook forward priority filter; policy accept; }}\n"
        + "".join(f"add rule {where} {ENTRY} {rule}\n" for rule in rules)
    )


def _sets(version: int, structure: Structure, names: Iterable[str]) -> list[str]:
    where, type_ = f"{FAMILIES[version]} {TABLE}", TYPES[version]
    text = []
    for name in sorted(names):
        if name in structure.blocks:
            ranges = [f"{a}-{b}" for a, b in structure.blocks[name].ranges if a.version == version]
            held = f" elements = {{ {', '.join(ranges)} }};" if ranges else ""
            text.append(f"add set {where} {name} {{ type {type_}; flags interval;{held} }}\n")
        else:
            shape = f"{type_} . inet_service" if name in structure.named else type_
            text.append(f"add set {where} {name} {{ type {shape}; }}\n")
    return text


def _chain(version: int, chain: Chain) -> str:
    where = f"{FAMILIES[version]} {TABLE} {chain.name}"
    # From `egress` a packet comes back, to be judged at the other end when that is a pod of this node too.
    passes = "return" if chain.direction == EGRESS else "accept"
    rules = [f"{_condition(version, chain.direction, match)}{passes}" for match in chain.matches]
    return f"add chain {where}\n" + "".join(f"add rule {where} {rule}\n" for rule in (*rules, "drop"))


def _condition(version: int, direction: str, match: Match) -> str:
    family = FAMILIES[version]
    text = f"{family} {'saddr' if direction == INGRESS else 'daddr'} @{match.side} " if match.side else ""
    if match.protocol:
        text += f"meta l4proto {match.protocol} "
    if match.ports:
        text += f"th dport {{ {', '.join(f'{a}-{b}' if a < b else str(a) for a, b in match.ports)} }} "
    if match.named:
        text += f"{family} daddr . th dport @{match.named} "
    return text


def _grouped(verb: str, version: int, elements: Iterable[Element]) -> list[str]:
    by_set: dict[str, list[Element]] = {}
    for element in elements:
        if element.version == version:
            by_set.setdefault(element.set, []).append(element)
    return [_elements(verb, version, name, held) for name, held in sorted(by_set.items())]


def _elements(verb: str, version: int, name: str, held: Iterable[Element]) -> str:
    rows = ", ".join(sorted(element.text() for element in held))
    return f"{verb} element {FAMILIES[version]} {TABLE} {name} {{ {rows} }}\n"
