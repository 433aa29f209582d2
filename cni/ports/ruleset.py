"""Published ports as nft text: one table per IP version with flat maps: a packet costs the same for any number.

PURE. A packet for the node is looked up first with its address, then without. A pod that reaches itself, and what
comes from 127.0.0.0/8, gets the node's address as its source, or the answer would not come back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cni import errors
from cni.capabilities import PortMapping
from cni.netlink.wire import IPAddress

TABLE = "nodeagent-ports"
FAMILY = {4: "ip", 6: "ip6"}
ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}
# Before kube-proxy's own chains: a published port wins over a node port of the same number.
PRIORITY = "-105"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one interface of one sandbox has published."""

    container_id: str
    ifname: str
    addresses: tuple[IPAddress, ...]
    ports: tuple[PortMapping, ...]


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """One entry of the maps; `host` "" is every address of the node."""

    version: int
    host: str
    protocol: str
    port: int


def elements(records: Iterable[Record]) -> Mapping[Element, tuple[str, int]]:
    """Where each published port leads. Raises CniError for one that two records hold, naming both."""
    found: dict[Element, tuple[str, int]] = {}
    holders: dict[Element, str] = {}
    for record in records:
        by_version: dict[int, str] = {address.version: str(address) for address in reversed(record.addresses)}
        for mapping in record.ports:
            for element in _keys(mapping, by_version):
                if holders.get(element, record.container_id) != record.container_id:
                    raise _taken(element, holders[element])
                holders[element] = record.container_id
                found[element] = (by_version[element.version], mapping.container_port)
    return found


def _keys(mapping: PortMapping, versions: Iterable[int]) -> Iterable[Element]:
    address = mapping.host_ip
    for version in versions:
        if address is None or address.version == version:
            host = "" if address is None or address.is_unspecified else str(address)
            yield Element(version, host, mapping.protocol, mapping.host_port)


def _taken(element: Element, holder: str) -> errors.CniError:
    where = f"{element.host or 'every address'} port {element.port}/{element.protocol}"
    return errors.CniError(errors.PORT_TAKEN, "host port is already in use", details=f"{where} by sandbox {holder}")


def text(records: Sequence[Record]) -> str:
    """Both tables for `nft -f -`, replacing what was there in one go. Raises CniError for a port held twice."""
    found = elements(records)
    return "".join(_table(version, found, records) for version in FAMILY)


def families(records: Iterable[Record]) -> frozenset[str]:
    """In which families there is something to publish, in nft's words."""
    return frozenset(FAMILY[element.version] for element in elements(records))


def removal() -> str:
    """Text that removes the tables, whether or not they are there."""
    return text(())


def _table(version: int, found: Mapping[Element, tuple[str, int]], records: Sequence[Record]) -> str:
    family, kind = FAMILY[version], ADDRESS_TYPE[version]
    empty = f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n"
    mine = {element: target for element, target in sorted(found.items()) if element.version == version}
    if not mine:
        return empty
    anywhere = [f"{e.protocol} . {e.port} : {address} . {port}" for e, (address, port) in mine.items() if not e.host]
    somewhere = [
        f"{e.host} . {e.protocol} . {e.port} : {address} . {port}" for e, (address, port) in mine.items() if e.host
    ]
    pods = sorted({address for address, _ in mine.values()})
    protocols = "meta l4proto { tcp, udp, sctp }"
    return (
        empty
        + f"""\
table {family} {TABLE} {{
  map anywhere {{ type inet_proto . inet_service : {kind} . inet_service; {_listed(anywhere)} }}
  map somewhere {{ type {kind} . inet_proto . inet_service : {kind} . inet_service; {_listed(somewhere)} }}
  set self {{ type {kind} . {kind}; {_listed([f"{pod} . {pod}" for pod in pods])} }}
  chain ports {{
    {protocols} dnat {family} to {family} daddr . meta l4proto . th dport map @somewhere
    {protocols} dnat {family} to meta l4proto . th dport map @anywhere
  }}
  chain prerouting {{ type nat hook prerouting priority {PRIORITY}; fib daddr type local jump ports; }}
  chain output {{ type nat hook output priority {PRIORITY}; fib daddr type local jump ports; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ct status dnat {family} saddr . {family} daddr @self masquerade fully-random
{_loopback_source(version)}  }}
{_martians(version)}}}
"""
    )


def _listed(items: Sequence[str]) -> str:
    return f"elements = {{ {', '.join(items)} }};" if items else ""


def _loopback_source(version: int) -> str:
    return "    ct status dnat ip saddr 127.0.0.0/8 masquerade fully-random\n" if version == 4 else ""


def _martians(version: int) -> str:
    """With route_localnet on the bridge, pods could reach what listens on 127.0.0.1: not through here."""
    if version == 6:
        return ""
    return """\
  chain martians {
    type filter hook prerouting priority raw;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
  }
"""
