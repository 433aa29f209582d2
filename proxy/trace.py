"""The proxy's part of a connection's way: what a name resolves to, and where the kernel leads a Service address.

`service` is PURE over rules that were read back; `name` asks a DNS server of the network namespace it runs in. Must not
know pods, routes or policies.
"""

import asyncio
import shlex
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from kube.hop import Hop
from proxy.backends.held import DROPPED, Held
from proxy.dns import exchange, splice, wire
from proxy.dns.cache import Reply
from proxy.dns.exchange import Exchange
from proxy.dns.wire import Query
from proxy.rules.plan import Backend, Frontend

ASK_SECONDS = 2.0
STOPS = {wire.NXDOMAIN: "there is no such name", wire.SERVFAIL: "the server failed", wire.REFUSED: "it was refused"}
TYPES = {4: wire.A, 6: wire.AAAA}
SHOWN = 8
RECORD_HEAD = 10
"""Type, class, TTL and length before a record's data."""


def service(frontend: Frontend, held: Held, *, mode: str) -> Hop:
    """The rule that a connection to a Service's address meets on this node; `mode` is the backend's name."""
    ways = [way for way in held.ways if way.frontend == frontend]
    place, command, to = f"service rules ({mode})", held.command(frontend), text(frontend)
    if ways:
        onward = tuple(dict.fromkeys(_end(way.backend) for way in ways))
        listed = [
            f"{_end(way.backend)} ({way.connections} connections{', from outside' if way.outside else ''})"
            for way in ways[:SHOWN]
        ]
        more = f" and {len(ways) - SHOWN} more" if len(ways) > SHOWN else ""
        return Hop(place=place, found=f"{to} -> {', '.join(listed)}{more}", command=command, onward=onward)
    ended = held.ends(frontend)
    if not ended:
        return Hop(place=place, found=f"no rule is about {to}", command=command, onward=(_end(frontend),))
    why = "no endpoint here under a Local policy" if ended == DROPPED else "no endpoint, or no such port"
    return Hop(place=place, found=f"{to} is {ended}", command=command, stops=f"{ended}: {why}")


async def name(
    asked: str, *, server: str, search: Sequence[str] = (), version: int = 4, network: Exchange | None = None
) -> list[Hop]:
    """One step for each name that a resolver with this search list asks for, until one has an address.

    `search` is empty for a name that is complete. The last step has the addresses, or says why there are none.
    """
    hops: list[Hop] = []
    for full in _candidates(asked, search):
        hop = await _ask(full, server=server, version=version, network=network or exchange.Network())
        hops.append(hop)
        if hop.onward:
            return hops
    return hops


def text(frontend: Frontend) -> str:
    """`address:port/protocol`."""
    return f"{_end(frontend)}/{frontend.protocol}"


def _end(end: Frontend | Backend) -> str:
    return f"[{end.address}]:{end.port}" if ":" in end.address else f"{end.address}:{end.port}"


def _candidates(asked: str, search: Sequence[str]) -> Iterator[str]:
    """As a resolver with `ndots:5` asks: relative names first with each suffix, then as they are."""
    if not asked.endswith(".") and asked.count(".") < 5:
        yield from (f"{asked}.{suffix.strip('.')}." for suffix in search)
    yield asked.rstrip(".") + "."


async def _ask(full: str, *, server: str, version: int, network: Exchange) -> Hop:
    kind = TYPES[version]
    place = f"DNS server {server}"
    command = f"dig @{server} {shlex.quote(full)} {'A' if version == 4 else 'AAAA'}"
    try:
        encoded = wire.encode_name(full)
        query = Query(0, wire.RD, encoded + wire.TWO.pack(kind, wire.IN), encoded, kind, wire.IN)
        async with asyncio.timeout(ASK_SECONDS):
            reply = await network.ask((server, 53), query)
    except TimeoutError:
        return Hop(place=place, found="no answer", command=command, stops=f"no answer within {ASK_SECONDS:.0f} s")
    except (OSError, EOFError, UnicodeEncodeError, wire.FormatError) as error:
        return Hop(place=place, found=f"cannot be asked for {full}", command=command, stops=str(error))
    found = addresses(reply, query.question, kind=kind)
    if found:
        return Hop(place=place, found=f"{full} is {', '.join(found)}", command=command, onward=found)
    stops = STOPS.get(reply.rcode, f"it has no address of IPv{version}")
    return Hop(place=place, found=f"{full}: {stops}", command=command, stops=stops)


def addresses(reply: Reply, question: bytes, *, kind: int) -> tuple[str, ...]:
    """The addresses of a reply, behind whatever alias. PURE. Raises FormatError."""
    answers = splice.records(reply, question)[0]
    return tuple(str(ip_address(rest[RECORD_HEAD:])) for _, rest in answers if int.from_bytes(rest[:2], "big") == kind)
