"""Which addresses a range set holds, and in which order they are tried. PURE.

Follows host-local: round-robin from the address after the last one given out; the network address, the broadcast
address and the gateway are never given out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cni import errors
from cni.spec import Network

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An inclusive span of one subnet."""

    subnet: Network
    start: IPAddress
    end: IPAddress
    gateway: IPAddress

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.subnet.version and int(self.start) <= int(address) <= int(self.end)


def parse(fields: Mapping[str, str]) -> Range:
    """A Range from host-local's keys `subnet rangeStart rangeEnd gateway`. Raises CniError 7."""
    try:
        subnet = ip_network(fields["subnet"])
        first, last = subnet.network_address + 1, subnet.broadcast_address - (1 if subnet.version == 4 else 0)
        found = Range(
            subnet=subnet,
            start=ip_address(fields["rangeStart"]) if fields.get("rangeStart") else first,
            end=ip_address(fields["rangeEnd"]) if fields.get("rangeEnd") else last,
            gateway=ip_address(fields["gateway"]) if fields.get("gateway") else first,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise errors.CniError(
            errors.INVALID_CONFIG, "invalid network config: ipam.ranges", details=str(error)
        ) from error
    if subnet.num_addresses < 4:
        raise errors.CniError(
            errors.INVALID_CONFIG, "invalid network config: ipam.ranges", details=f"{subnet} is too small"
        )
    if found.start not in subnet or found.end not in subnet or int(found.start) > int(found.end):
        raise errors.CniError(
            errors.INVALID_CONFIG,
            "invalid network config: ipam.ranges",
            details=f"{found.start}-{found.end} is not a span of {subnet}",
        )
    return found


def parse_sets(sets: Sequence[Sequence[Mapping[str, str]]]) -> tuple[tuple[Range, ...], ...]:
    """Every range set of a configuration. Raises CniError 7 when there is none or two of them overlap."""
    parsed = tuple(tuple(parse(fields) for fields in ranges) for ranges in sets)
    if not parsed:
        raise errors.CniError(errors.INVALID_CONFIG, "invalid network config: ipam.ranges", details="no range is given")
    flat = [entry for ranges in parsed for entry in ranges]
    for i, one in enumerate(flat):
        for other in flat[i + 1 :]:
            if one.subnet.version == other.subnet.version and (one.start in other or other.start in one):
                raise errors.CniError(
                    errors.INVALID_CONFIG,
                    "invalid network config: ipam.ranges",
                    details=f"{one.start}-{one.end} overlaps {other.start}-{other.end}",
                )
    return parsed


def choose(sets: Sequence[Sequence[Range]], wanted: Sequence[IPAddress]) -> Mapping[int, IPAddress]:
    """The wanted address of each range set by the set's number. Raises CniError 7 for one that fits nowhere."""
    chosen: dict[int, IPAddress] = {}
    for address in wanted:
        fitting = [
            number
            for number, entries in enumerate(sets)
            if number not in chosen and any(address in entry and _usable(address, entry) for entry in entries)
        ]
        if not fitting:
            raise errors.CniError(
                errors.INVALID_CONFIG,
                "invalid network config: runtimeConfig.ips",
                details=f"{address} is not an address that any free range set can give",
            )
        chosen[fitting[0]] = address
    return chosen


def _usable(address: IPAddress, entry: Range) -> bool:
    return next(_span(entry, int(address), int(address)), None) is not None


def candidates(ranges: Sequence[Range], *, last: IPAddress | None) -> Iterator[tuple[IPAddress, Range]]:
    """Every address of the set once, beginning after `last` and wrapping round; gateways are left out."""
    begin = next((i for i, entry in enumerate(ranges) if last is not None and last in entry), None)
    if begin is None or last is None:
        yield from (pair for entry in ranges for pair in _span(entry, int(entry.start), int(entry.end)))
        return
    first = ranges[begin]
    yield from _span(first, int(last) + 1, int(first.end))
    for step in range(1, len(ranges)):
        entry = ranges[(begin + step) % len(ranges)]
        yield from _span(entry, int(entry.start), int(entry.end))
    yield from _span(first, int(first.start), int(last))


def _span(entry: Range, start: int, end: int) -> Iterator[tuple[IPAddress, Range]]:
    kind = type(entry.start)
    edges = {int(entry.gateway), int(entry.subnet.network_address)}
    if entry.subnet.version == 4:
        edges.add(int(entry.subnet.broadcast_address))
    for number in range(start, end + 1):
        if number not in edges:
            yield kind(number), entry
