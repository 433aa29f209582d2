"""Names given by hand, as in /etc/hosts: they are answered before anything else. PURE.

Must not know the zone: a name here wins over the same name anywhere.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from proxy.dns import wire
from proxy.dns.wire import Answer, Query

DEFAULT_TTL = 3600


class Hosts:
    """An index over lines `address name...`. `ttl` in seconds."""

    def __init__(self, lines: Iterable[str] = (), *, ttl: int = DEFAULT_TTL, reverse: bool = True) -> None:
        self._found: dict[bytes, list[bytes]] = {}
        for address, names in parse(lines):
            kind, data = wire.address_data(address)
            for name in names:
                self._add(wire.encode_name(name), wire.record(kind, ttl, data))
            if reverse:
                pointer = wire.encode_name(ip_address(address).reverse_pointer)
                self._add(pointer, wire.record(wire.PTR, ttl, wire.encode_name(names[0])))

    def __bool__(self) -> bool:
        return bool(self._found)

    def answer(self, query: Query) -> Answer | None:
        """The answer for a name that is listed: without records of the wanted type it is empty. None: not listed."""
        held = self._found.get(query.name)
        if held is None:
            return None
        wanted = query.type.to_bytes(2, "big")
        found = tuple(each for each in held if query.type == wire.ANY or each[2:4] == wanted)
        if not found and query.type not in (wire.A, wire.AAAA, wire.PTR):
            return None
        return Answer(answers=found)

    def _add(self, name: bytes, record: bytes) -> None:
        held = self._found.setdefault(name, [])
        if record not in held:
            held.append(record)


def parse(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """(address, names) of each line. ValueError says which line is wrong, and why."""
    for line in lines:
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            ip_address(words[0])
        except ValueError:
            raise ValueError(f"{line!r}: {words[0]!r} is not an IP address") from None
        if len(words) == 1:
            raise ValueError(f"{line!r}: an address without a name")
        for name in words[1:]:
            try:
                wire.encode_name(name)
            except ValueError:
                raise ValueError(f"{line!r}: {name!r} is not a name") from None
        yield words[0], words[1:]
