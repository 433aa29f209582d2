"""The zone as text for other servers: a hosts file, a zone file, and the records CoreDNS's etcd plugin reads. PURE.

Names below a cluster's zone only in the first two; reverse names also in the last, whose tree has no zones.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from types import MappingProxyType

from proxy.dns import wire
from proxy.dns.zone import Zone

ETCD_PREFIX = "/skydns"
TYPES = {
    wire.A: "A",
    wire.AAAA: "AAAA",
    wire.NS: "NS",
    wire.CNAME: "CNAME",
    wire.PTR: "PTR",
    wire.SRV: "SRV",
    wire.TXT: "TXT",
}
SRV_FIXED = 6


def hosts(zone: Zone) -> str:
    """Lines `address name`, sorted by name."""
    found = ((name, address) for name, kind, address in _shown(zone) if kind in ("A", "AAAA"))
    return "".join(f"{address} {name.rstrip('.')}\n" for name, address in sorted(found))


def zone_file(zone: Zone) -> str:
    """A master file (RFC 1035, section 5) of the zone with absolute names."""
    own = zone.zone + "."
    head = [
        f"$ORIGIN {own}",
        f"$TTL {zone.ttl}",
        f"@ IN SOA ns.dns.{own} hostmaster.{own} {zone.serial & 0xFFFFFFFF} 7200 1800 86400 {zone.ttl}",
    ]
    rows = [
        f"{name} IN {kind} {value}" for name, kind, value in _shown(zone) if name == own or name.endswith("." + own)
    ]
    return "\n".join([*head, *sorted(rows)]) + "\n"


def etcd(zone: Zone) -> str:
    """Lines `key TAB value` as CoreDNS's etcd plugin wants them: the labels backwards, several records numbered."""
    rows = []
    numbers: dict[str, int] = {}
    for name, value in sorted(_services(zone), key=lambda row: (row[0], json.dumps(row[1]))):
        path = "/".join([ETCD_PREFIX, *reversed(name.rstrip(".").split("."))])
        numbers[path] = numbers.get(path, 0) + 1
        rows.append(f"{path}/x{numbers[path]}\t{json.dumps(value | {'ttl': zone.ttl}, separators=(',', ':'))}\n")
    return "".join(rows)


FORMATS: Mapping[str, Callable[[Zone], str]] = MappingProxyType({"hosts": hosts, "zone": zone_file, "etcd": etcd})


def _shown(zone: Zone) -> Iterator[tuple[str, str, str]]:
    for name, kind, data in zone.everything():
        if kind in TYPES:
            yield wire.decode_name(name), TYPES[kind], _text(kind, data)


def _text(kind: int, data: bytes) -> str:
    if kind in (wire.A, wire.AAAA):
        return str(ip_address(data))
    if kind == wire.TXT:
        return '"' + data[1:].decode("ascii", "replace") + '"'
    if kind == wire.SRV:
        numbers = (int.from_bytes(data[place : place + 2], "big") for place in range(0, SRV_FIXED, 2))
        return " ".join([*map(str, numbers), wire.decode_name(data[SRV_FIXED:])])
    return wire.decode_name(data)


def _services(zone: Zone) -> Iterator[tuple[str, dict[str, object]]]:
    for raw, kind, data in zone.everything():
        name = wire.decode_name(raw)
        if kind in (wire.A, wire.AAAA):
            yield name, {"host": str(ip_address(data))}
        elif kind in (wire.CNAME, wire.PTR):
            yield name, {"host": wire.decode_name(data).rstrip(".")}
        elif kind == wire.TXT:
            yield name, {"text": data[1:].decode("ascii", "replace")}
        elif kind == wire.SRV:
            # An address with a port: it answers SRV, and questions for the name above it stay right.
            for address in _addresses(zone, data[SRV_FIXED:]):
                yield name, {"host": address, "port": int.from_bytes(data[4:6], "big"), "weight": 100}


def _addresses(zone: Zone, target: bytes) -> Iterator[str]:
    for kind in (wire.A, wire.AAAA):
        for record in zone.records(target, kind):
            yield str(ip_address(record[12:]))
