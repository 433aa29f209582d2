"""DNS messages as bytes: the question read, answers spliced. PURE.

Owns the formats of RFC 1035 and RFC 6891 that we use. A usual query is parsed in a few operations; an answer is the
query's own question, so that its letters keep their case, with ready-made records behind it. Must not know the cluster.
"""

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, IXFR, AXFR, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 251, 252, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
HEADER = struct.Struct("!HHHHHH")
TWO = struct.Struct("!HH")
OPT_FIELDS = struct.Struct("!HHBBHH")
NAME_OF_QUESTION = b"\xc0\x0c"
MAX_UDP, MIN_UDP, OUR_UDP = 4096, 512, 1232
MAX_NAME = 255
DO = 0x8000


class FormatError(ValueError):
    """A message that cannot be read; the text says where."""


class Query(NamedTuple):
    """A question: `name` in wire format and lower case, `question` as it stands in the message."""

    id: int
    flags: int
    question: bytes
    name: bytes
    type: int
    cls: int
    udp_size: int = MIN_UDP
    edns: bool = False
    edns_version: int = 0
    dnssec_ok: bool = False

    @property
    def key(self) -> bytes:
        """Name in lower case, type and class: what replies are kept under."""
        return self.name + self.question[-4:]


class Answer(NamedTuple):
    """What is sent besides header and question. Each record is complete; `answers` may be in any order."""

    rcode: int = NOERROR
    answers: tuple[bytes, ...] = ()
    authority: tuple[bytes, ...] = ()
    additional: tuple[bytes, ...] = ()
    authoritative: bool = True


def parse(message: bytes) -> Query:
    """The one question of a query. Raises FormatError."""
    if len(message) < 17:
        raise FormatError("shorter than a question")
    number, flags, questions, answers, authority, extra = HEADER.unpack_from(message)
    if questions != 1:
        raise FormatError(f"{questions} questions")
    end = name_end(message, 12)
    if end + 4 > len(message) or end - 12 > MAX_NAME:
        raise FormatError("the question is cut off")
    question = message[12 : end + 4]
    # Lengths of labels are below 64 and so never taken for letters.
    name = message[12:end].lower()
    kind, cls = TWO.unpack_from(message, end)
    if not (answers or authority or extra):
        return Query(number, flags, question, name, kind, cls)
    found = _opt(message, end + 4, records=answers + authority + extra)
    if found is None:
        return Query(number, flags, question, name, kind, cls)
    size, version, more = found
    return Query(number, flags, question, name, kind, cls, size, True, version, bool(more & DO))


def respond(query: Query, answer: Answer, *, recursion: bool, limit: int) -> bytes:
    """The reply, at most `limit` bytes: whole records are left out and TC set when it would be longer."""
    tail = opt(answer.rcode, dnssec_ok=query.dnssec_ok) if query.edns else b""
    flags = QR | (query.flags & (RD | CD)) | (answer.rcode & 0xF)
    flags |= (AA if answer.authoritative else 0) | (RA if recursion else 0)
    body = query.question + b"".join(answer.answers) + b"".join(answer.authority) + b"".join(answer.additional) + tail
    counts = [len(answer.answers), len(answer.authority), len(answer.additional)]
    if 12 + len(body) > limit:
        body, counts, flags = _cut(query, answer, limit - 12 - len(tail), flags)
        body += tail
    return HEADER.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + bool(tail)) + body


def error(message: bytes, rcode: int) -> bytes | None:
    """A reply without a question to something that could not be read; None when not even its id can."""
    if len(message) < 4 or message[2] & 0x80:
        return None
    number, flags = struct.unpack_from("!HH", message)
    return HEADER.pack(number, QR | (flags & (RD | 0x7800)) | rcode, 0, 0, 0, 0)


def encode_name(name: str) -> bytes:
    """A dotted name in wire format, lower case. Raises FormatError for a label that is empty or too long."""
    if name in ("", "."):
        return b"\0"
    labels = [label.encode("ascii", "strict") for label in name.rstrip(".").lower().split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise FormatError(f"bad name {name!r}")
    made = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(made) > MAX_NAME:
        raise FormatError(f"name too long: {name!r}")
    return made


def decode_name(wire: bytes) -> str:
    """Dotted text of an uncompressed name."""
    labels, place = [], 0
    while wire[place]:
        labels.append(wire[place + 1 : place + 1 + wire[place]].decode("ascii", "backslashreplace"))
        place += 1 + wire[place]
    return ".".join(labels) + "."


def record(kind: int, ttl: int, data: bytes, *, name: bytes = NAME_OF_QUESTION) -> bytes:
    """One record; by default under the name of the question."""
    return name + struct.pack("!HHIH", kind, IN, ttl, len(data)) + data


def address_data(address: str) -> tuple[int, bytes]:
    """(A or AAAA, data) of an IP address."""
    parsed = ip_address(address)
    return (A if parsed.version == 4 else AAAA), parsed.packed


def srv_data(port: int, target: bytes) -> bytes:
    """SRV with the priority and weight that the Kubernetes DNS specification leaves free."""
    return struct.pack("!HHH", 0, 100, port) + target


def soa_data(zone: bytes, *, serial: int, minimum: int) -> bytes:
    """The SOA of a zone: `ns.dns.<zone> hostmaster.<zone>` and the times of the contract, seconds."""
    times = struct.pack("!IIIII", serial, 7200, 1800, 86400, minimum)
    return b"\x02ns\x03dns" + zone + b"\x0ahostmaster" + zone + times


def limit_for(query: Query) -> int:
    """The largest UDP reply in bytes that the client takes and we send."""
    return min(max(query.udp_size, MIN_UDP), MAX_UDP) if query.edns else MIN_UDP


def name_end(message: bytes, place: int) -> int:
    """Where a name that must not be compressed ends. Raises FormatError."""
    try:
        while length := message[place]:
            if length > 63:
                raise FormatError("a compressed or unknown label in the question")
            place += 1 + length
    except IndexError:
        raise FormatError("the name is cut off") from None
    return place + 1


def skip_name(message: bytes, place: int) -> int:
    """Where a name, also a compressed one, ends. Raises FormatError."""
    while place < len(message):
        length = message[place]
        if length & 0xC0 == 0xC0:
            return place + 2
        if length > 63:
            raise FormatError("an unknown kind of label")
        if not length:
            return place + 1
        place += 1 + length
    raise FormatError("a name is cut off")


def _opt(message: bytes, place: int, *, records: int) -> tuple[int, int, int] | None:
    """(size, version, flags) of the OPT record among those behind the question. Raises FormatError for two."""
    found = None
    for _ in range(records):
        named, place = place, skip_name(message, place)
        if place + 10 > len(message):
            raise FormatError("a record is cut off")
        kind, size, _, version, flags, length = OPT_FIELDS.unpack_from(message, place)
        place += 10 + length
        if place > len(message):
            raise FormatError("record data is cut off")
        if kind == OPT:
            if found is not None or message[named]:
                raise FormatError("OPT twice, or not at the root")
            found = size, version, flags
    return found


def opt(rcode: int, *, dnssec_ok: bool) -> bytes:
    """The OPT record of a reply."""
    return b"\0" + struct.pack("!HHBBHH", OPT, OUR_UDP, rcode >> 4, 0, DO if dnssec_ok else 0, 0)


def _cut(query: Query, answer: Answer, room: int, flags: int) -> tuple[bytes, list[int], int]:
    body, counts = query.question, [0, 0, 0]
    for number, section in enumerate((answer.answers, answer.authority, answer.additional)):
        for part in section:
            if len(body) + len(part) > room:
                # Missing additional records are not a loss that TC tells of (RFC 2181, section 9).
                return body, counts, flags | (TC if number < 2 else 0)
            body += part
            counts[number] += 1
    return body, counts, flags


def rotate(records: Sequence[bytes], by: int) -> tuple[bytes, ...]:
    """The records beginning at another one, so that clients spread over them."""
    place = by % len(records)
    return (*records[place:], *records[:place])
