"""The cluster's zone as an index of ready-made records: a question is one look-up.

Updated by owner (a Service, a namespace): what an owner no longer says is taken out, so that cost follows the change.
NXDOMAIN or NODATA is decided here and nowhere else: a name exists when it has a record, or when a longer name does.
PURE in that it does no I/O; it is the one mutable value of the server. Kept small: a record is its bytes as they are
sent, and an owner remembers the same bytes, not copies.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from ipaddress import ip_address

from proxy.dns import names, wire
from proxy.dns.names import Record
from proxy.dns.wire import Answer, Query

SPECIFICATION_VERSION = "1.1.0"
MAX_CHAIN = 8
INSECURE, DISABLED, VERIFIED = "insecure", "disabled", "verified"
DATA = 12
"""Where the data begins in a record under the name of the question."""

Held = bytes | tuple[bytes, ...]
Expand = Callable[[bytes], Iterable[bytes]]


class Zone:
    """Answers for `<zone>` and the reverse names of its Services. `ttl` in seconds."""

    def __init__(self, zone: str, *, ttl: int, pods: str = INSECURE, serial: int = 1) -> None:
        self.zone = zone.strip(".").lower()
        self.suffix = wire.encode_name(self.zone)
        self.ttl = ttl
        self.synced = False
        self.serial = serial
        self.all_ports: Expand | None = None
        self._pods = pods
        self._data: dict[bytes, Held] = {}
        self._above: dict[bytes, int] = {}
        self._owned: dict[Hashable, tuple[bytes, ...]] = {}
        self._turn = 0
        self._base()

    def __len__(self) -> int:
        return len(self._data)

    def put(self, owner: Hashable, records: Iterable[Record]) -> None:
        """Makes `records` all that the owner says; none removes it."""
        new = {(record.name, self._made_ready(record)) for record in records}
        kept = self._owned.pop(owner, ())
        old = set(zip(kept[::2], kept[1::2], strict=True))
        for name, ready in old - new:
            self._remove(name, ready)
        for name, ready in new - old:
            self._add(name, ready)
        if new:
            self._owned[owner] = (
                kept if new == old else tuple(part for pair in (old & new) | (new - old) for part in pair)
            )
        if old != new:
            self.serial += 1

    def put_namespace(self, name: str, *, present: bool) -> None:
        """Makes `<ns>.svc.<zone>` and `<ns>.pod.<zone>` exist, also without any Service."""
        markers = (names.marker(f"{name}.{kind}.{self.zone}") for kind in ("svc", "pod"))
        self.put(("namespace", name), [each for each in markers if each] if present else ())

    def covers(self, name: bytes) -> bool:
        """Whether a name in wire format lies in the zone."""
        return name.endswith(self.suffix) and self._inside(name)

    def has(self, name: bytes) -> bool:
        """Whether a name exists here, also one of the reverse zones."""
        return name in self._data or name in self._above or name == self.suffix

    def records(self, name: bytes, kind: int) -> tuple[bytes, ...]:
        """The records of a name, written under the name of the question."""
        held = self._data.get(name)
        if held is None:
            return ()
        wanted = kind.to_bytes(2, "big")
        if isinstance(held, bytes):
            return (held,) if held[2:4] == wanted else ()
        # Two slices may say the same while an endpoint moves from one to the other.
        return tuple(dict.fromkeys(record for record in held if record[2:4] == wanted))

    def everything(self) -> Iterator[tuple[bytes, int, bytes]]:
        """(name, type, data) of every record, for those who publish the zone elsewhere."""
        for name, held in self._data.items():
            for record in (held,) if isinstance(held, bytes) else dict.fromkeys(held):
                yield name, int.from_bytes(record[2:4], "big"), record[DATA:]

    def answer(self, query: Query) -> Answer:
        """The authoritative answer; the caller has checked that the name is ours."""
        if query.type == wire.ANY:
            return self._any(query)
        found = self.records(query.name, query.type) or self._made(query)
        if not found:
            return self._nothing(query)
        if len(found) > 1:
            self._turn += 1
            found = wire.rotate(found, self._turn)
        return Answer(answers=found, additional=self._additional(query.type, found))

    def external_target(self, query: Query) -> bytes | None:
        """The name outside the zone that an address question ends at through aliases, if it does."""
        if query.type not in (wire.A, wire.AAAA):
            return None
        target = self._chain(query.name)[-1]
        return None if target == query.name or self.covers(target) else target

    def soa(self) -> bytes:
        """The SOA record, for negative answers too: it says how long they are to be kept."""
        data = wire.soa_data(self.suffix, serial=self.serial & 0xFFFFFFFF, minimum=self.ttl)
        return wire.record(wire.SOA, self.ttl, data, name=self.suffix)

    def _made(self, query: Query) -> tuple[bytes, ...]:
        """Records that are not kept but made for the question."""
        if query.type == wire.SOA and query.name == self.suffix:
            return (self.soa(),)
        if query.type == wire.SRV and self.all_ports is not None:
            return tuple(wire.record(wire.SRV, self.ttl, data) for data in self.all_ports(query.name))
        pod = self._pod_address(query.name)
        return (pod,) if pod is not None and int.from_bytes(pod[2:4], "big") == query.type else ()

    def _nothing(self, query: Query) -> Answer:
        if self.records(query.name, wire.CNAME):
            return self._alias(query)
        exists = self.has(query.name) or self._pod_address(query.name) is not None
        return Answer(rcode=wire.NOERROR if exists else wire.NXDOMAIN, authority=(self.soa(),))

    def _any(self, query: Query) -> Answer:
        held = self._data.get(query.name, ())
        found = (held,) if isinstance(held, bytes) else tuple(dict.fromkeys(held))
        pod = self._pod_address(query.name) if not found else None
        found = found or ((pod,) if pod else ())
        if query.name == self.suffix:
            found = (self.soa(), *found)
        return Answer(answers=found) if found else self._nothing(query)

    def _alias(self, query: Query) -> Answer:
        """A CNAME, followed through the zone as long as it leads to names of ours."""
        chain = self._chain(query.name)
        owners = [wire.NAME_OF_QUESTION, *chain[1:]]
        found = [
            wire.record(wire.CNAME, self.ttl, target, name=owner)
            for owner, target in zip(owners, chain[1:], strict=False)
        ]
        if len(chain) > 1:
            found += [chain[-1] + record[2:] for record in self.records(chain[-1], query.type)]
        return Answer(answers=tuple(found))

    def _chain(self, name: bytes) -> list[bytes]:
        chain = [name]
        while len(chain) <= MAX_CHAIN:
            values = self.records(chain[-1], wire.CNAME)
            target = values[0][DATA:].lower() if values else None
            if target is None or target in chain:
                break
            chain.append(target)
        return chain

    def _additional(self, kind: int, found: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The addresses of the names that SRV and NS records lead to."""
        skipped = {wire.SRV: DATA + 6, wire.NS: DATA}.get(kind)
        if skipped is None:
            return ()
        targets = dict.fromkeys(record[skipped:] for record in found)
        return tuple(
            target + record[2:]
            for target in targets
            for each in (wire.A, wire.AAAA)
            for record in self.records(target, each)
        )

    def _pod_address(self, name: bytes) -> bytes | None:
        """The record of `a-b-c-d.<ns>.pod.<zone>` of an existing namespace, in mode insecure."""
        first, rest = name[1 : 1 + name[0]] if name[0] else b"", name[1 + name[0] :]
        if self._pods != INSECURE or rest not in self._above or rest[1 + rest[0] :] != b"\x03pod" + self.suffix:
            return None
        text = first.decode("ascii", "replace")
        for candidate in (text.replace("-", "."), text.replace("-", ":")):
            try:
                address = ip_address(candidate)
            except ValueError:
                continue
            return wire.record(wire.A if address.version == 4 else wire.AAAA, self.ttl, address.packed)
        return None

    def _base(self) -> None:
        text = bytes([len(SPECIFICATION_VERSION)]) + SPECIFICATION_VERSION.encode()
        markers = (names.marker(f"{part}.{self.zone}") for part in ("svc", "pod"))
        base = [
            Record(self.suffix, wire.NS, wire.encode_name(f"ns.dns.{self.zone}")),
            Record(wire.encode_name(f"dns-version.{self.zone}"), wire.TXT, text),
            *(each for each in markers if each),
        ]
        self.put("zone", base)

    def _inside(self, name: bytes) -> bool:
        """Whether the suffix begins at a label of the name, not inside one."""
        place, end = 0, len(name) - len(self.suffix)
        while place < end:
            place += 1 + name[place]
        return place == end

    def _made_ready(self, record: Record) -> bytes:
        """The record as it is sent; nothing for what makes a name just exist."""
        return wire.record(record.type, self.ttl, record.data) if record.type else b""

    def _add(self, name: bytes, ready: bytes) -> None:
        if ready:
            held = self._data.get(name)
            if held is None:
                self._data[name] = ready
            else:
                self._data[name] = (*((held,) if isinstance(held, bytes) else held), ready)
        for each in self._lineage(name, itself=not ready):
            self._above[each] = self._above.get(each, 0) + 1

    def _remove(self, name: bytes, ready: bytes) -> None:
        if ready:
            held = self._data[name]
            left = [] if isinstance(held, bytes) else list(held)
            if left:
                left.remove(ready)
            if left:
                self._data[name] = left[0] if len(left) == 1 else tuple(left)
            else:
                del self._data[name]
        for each in self._lineage(name, itself=not ready):
            self._above[each] -= 1
            if not self._above[each]:
                del self._above[each]

    def _lineage(self, name: bytes, *, itself: bool) -> Iterator[bytes]:
        """The names that exist because of a record, besides its own; names outside the zone (reverse) have none."""
        if itself:
            yield name
        if name.endswith(self.suffix):
            while len(name) > len(self.suffix):
                name = name[1 + name[0] :]
                yield name
