"""The cluster's zone as an index of ready-made answers: a query is one look-up.

Updated by owner (a Service, a namespace): what an owner no longer says is taken out, so that cost follows the change.
NXDOMAIN or NODATA is decided here and nowhere else: a name exists when it has a record, or when a longer name does.
PURE in that it does no I/O; it is the one mutable value of the server.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from ipaddress import ip_address

from proxy.dns import wire
from proxy.dns.names import Record
from proxy.dns.wire import Answer, Query

SPECIFICATION_VERSION = "1.1.0"
MAX_CHAIN = 8
INSECURE, DISABLED = "insecure", "disabled"


class Zone:
    """Answers for `<zone>` and the reverse names of its Services. `ttl` in seconds."""

    def __init__(self, zone: str, *, ttl: int, pods: str = INSECURE, serial: int = 1) -> None:
        self.zone = zone.strip(".").lower()
        self.suffix = wire.encode_name(self.zone)
        self.ttl = ttl
        self.synced = False
        self.serial = serial
        self._pods = pods
        self._data: dict[tuple[bytes, int], Counter[bytes]] = {}
        self._ready: dict[bytes, Answer] = {}
        self._names: Counter[bytes] = Counter()
        self._owned: dict[Hashable, tuple[Record, ...]] = {}
        self._turn = 0
        self._base()

    def put(self, owner: Hashable, records: Iterable[Record]) -> None:
        """Makes `records` all that the owner says; none removes it."""
        new = tuple(dict.fromkeys(records))
        old = self._owned.pop(owner, ())
        for record in set(old) - set(new):
            self._remove(record)
        for record in set(new) - set(old):
            self._add(record)
        if new:
            self._owned[owner] = new
        if set(old) != set(new):
            self.serial += 1

    def put_namespace(self, name: str, *, present: bool) -> None:
        """Makes `<ns>.svc.<zone>` and `<ns>.pod.<zone>` exist, also without any Service."""
        markers = [Record(name=f"{name}.{kind}.{self.zone}", type=0, data=b"") for kind in ("svc", "pod")]
        self.put(("namespace", name), markers if present else ())

    def covers(self, name: bytes) -> bool:
        """Whether we are the authority for a name in wire format."""
        return name.endswith(self.suffix) and (name == self.suffix or name in self._names or self._inside(name))

    def has(self, name: bytes) -> bool:
        """Whether a name, also one of the reverse zones, is ours to answer."""
        return name in self._names

    def answer(self, query: Query) -> Answer:
        """The authoritative answer; the caller has checked that the name is ours."""
        ready = self._ready.get(query.key)
        if ready is not None:
            if len(ready.answers) > 1:
                self._turn += 1
                return _turned(ready, self._turn)
            return ready
        return self._slow(query)

    def external_target(self, query: Query) -> str | None:
        """The name outside the zone that an address query ends at through CNAMEs, if it does."""
        if query.type not in (wire.A, wire.AAAA):
            return None
        target = self._chain(query.name)[-1]
        return None if target == query.name or self.covers(target) else wire.decode_name(target)

    def _slow(self, query: Query) -> Answer:
        if query.type == wire.ANY:
            return self._any(query)
        if (query.name, wire.CNAME) in self._data:
            return self._alias(query)
        if (pod := self._pod_address(query.name)) is not None:
            kind, data = wire.address_data(pod)
            found = (wire.record(kind, self.ttl, data),) if kind == query.type else ()
            return Answer(answers=found, authority=() if found else (self._soa(),))
        if query.name == self.suffix and query.type == wire.SOA:
            return Answer(answers=(self._soa(),))
        rcode = wire.NOERROR if query.name in self._names else wire.NXDOMAIN
        return Answer(rcode=rcode, authority=(self._soa(),))

    def _any(self, query: Query) -> Answer:
        found = [
            wire.record(kind, self.ttl, data)
            for kind in (wire.A, wire.AAAA, wire.CNAME, wire.NS, wire.PTR, wire.SRV, wire.TXT)
            for data in self._data.get((query.name, kind), ())
        ]
        if found:
            return Answer(answers=tuple(found))
        return Answer(rcode=wire.NOERROR if query.name in self._names else wire.NXDOMAIN, authority=(self._soa(),))

    def _alias(self, query: Query) -> Answer:
        """A CNAME, followed through the zone as long as it leads to names of ours."""
        chain = self._chain(query.name)
        owners = [wire.NAME_OF_QUESTION, *chain[1:]]
        found = [
            wire.record(wire.CNAME, self.ttl, target, name=owner)
            for owner, target in zip(owners, chain[1:], strict=False)
        ]
        end, owner = chain[-1], owners[len(chain) - 1]
        if query.type != wire.CNAME and len(chain) > 1:
            values = self._data.get((end, query.type), ())
            found += [wire.record(query.type, self.ttl, data, name=owner) for data in values]
        return Answer(answers=tuple(found))

    def _chain(self, name: bytes) -> list[bytes]:
        chain = [name]
        while len(chain) <= MAX_CHAIN:
            values = self._data.get((chain[-1], wire.CNAME))
            target = next(iter(values)) if values else None
            if target is None or target in chain:
                break
            chain.append(target)
        return chain

    def _pod_address(self, name: bytes) -> str | None:
        """The address in `a-b-c-d.<ns>.pod.<zone>` of an existing namespace, in mode insecure."""
        first, rest = name[1 : 1 + name[0]] if name[0] else b"", name[1 + name[0] :]
        if self._pods != INSECURE or rest not in self._names or not rest[1 + rest[0] :].startswith(b"\x03pod"):
            return None
        text = first.decode("ascii", "replace")
        for candidate in (text.replace("-", "."), text.replace("-", ":")):
            try:
                return str(ip_address(candidate))
            except ValueError:
                continue
        return None

    def _base(self) -> None:
        server = f"ns.dns.{self.zone}"
        text = bytes([len(SPECIFICATION_VERSION)]) + SPECIFICATION_VERSION.encode()
        base = [
            Record(name=self.zone, type=wire.NS, data=wire.encode_name(server)),
            Record(name=f"dns-version.{self.zone}", type=wire.TXT, data=text),
            *(Record(name=f"{part}.{self.zone}", type=0, data=b"") for part in ("svc", "pod")),
        ]
        self.put("zone", base)

    def _inside(self, name: bytes) -> bool:
        """Whether the suffix begins at a label of the name, not inside one."""
        place, end = 0, len(name) - len(self.suffix)
        while place < end:
            place += 1 + name[place]
        return place == end

    def _soa(self) -> bytes:
        data = wire.soa_data(self.suffix, serial=self.serial & 0xFFFFFFFF, minimum=self.ttl)
        return wire.record(wire.SOA, self.ttl, data, name=self.suffix)

    def _add(self, record: Record) -> None:
        name = wire.encode_name(record.name)
        if record.type:
            self._data.setdefault((name, record.type), Counter())[record.data] += 1
            self._rebuild(name, record.type)
        for ancestor in _lineage(name, self.suffix):
            self._names[ancestor] += 1

    def _remove(self, record: Record) -> None:
        name = wire.encode_name(record.name)
        if record.type:
            values = self._data[name, record.type]
            values[record.data] -= 1
            if not values[record.data]:
                del values[record.data]
            if not values:
                del self._data[name, record.type]
            self._rebuild(name, record.type)
        for ancestor in _lineage(name, self.suffix):
            self._names[ancestor] -= 1
            if not self._names[ancestor]:
                del self._names[ancestor]

    def _rebuild(self, name: bytes, kind: int) -> None:
        if kind == wire.CNAME:
            return
        key = name + kind.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")
        values = self._data.get((name, kind))
        if values:
            self._ready[key] = Answer(answers=tuple(wire.record(kind, self.ttl, data) for data in values))
        else:
            self._ready.pop(key, None)


def _lineage(name: bytes, suffix: bytes) -> Iterable[bytes]:
    """A name and every name above it that lies inside the zone; a name outside (reverse) only itself."""
    yield name
    while name != suffix and name.endswith(suffix) and len(name) > len(suffix):
        name = name[1 + name[0] :]
        yield name


def _turned(ready: Answer, turn: int) -> Answer:
    return Answer(
        rcode=ready.rcode,
        answers=wire.rotate(ready.answers, turn),
        authority=ready.authority,
        additional=ready.additional,
    )
