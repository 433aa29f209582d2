"""The proxy's part of a connection's way: what a name resolves to, where the kernel leads a Service address, and what
it remembers of the connection.

`service` and `tracked` are PURE over what was read back; `name` asks a DNS server of the network namespace it runs in.
Must not know pods, routes or policies.
"""

import asyncio
import shlex
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from kube.hop import Hop
from kube.runtime import config as documents
from kube.runtime import conntrack
from kube.runtime.conntrack import Entry
from proxy import config as configuration
from proxy.backends import detect
from proxy.backends.held import DROPPED, Held
from proxy.backends.protocol import BackendError
from proxy.dns import exchange, splice, wire
from proxy.dns.cache import Reply
from proxy.dns.exchange import Exchange
from proxy.dns.wire import Query
from proxy.rules.plan import Backend, Frontend

ASK_SECONDS = 2.0
CONFIG = Path("/etc/nodeagent")
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


def led(address: str, port: int, protocol: str, *, config: Path = CONFIG) -> Hop:
    """`service`, with the rules read from this network namespace, in the mode that is configured. Blocking."""

    async def read(choice: detect.Choice) -> Held:
        return await detect.build(choice, cluster_cidrs=()).held()

    try:
        found = documents.load(config) if config.exists() else {}
        mode = documents.one(found, configuration.KIND, configuration.KubeProxyConfiguration).mode
        choice = detect.choose(mode, detect.probe())
        return service(Frontend(address, protocol, port), asyncio.run(read(choice)), mode=choice.mode)
    except (BackendError, documents.ConfigError) as error:
        return Hop(place="service rules", found=f"cannot be read: {error}", command="nodeagent proxy --dry-run")


def remembered(source: tuple[str, int], to: tuple[str, int], protocol: str) -> Hop:
    """`tracked`, with the entries read from this network namespace. Blocking."""
    frontend = Frontend(to[0], protocol, to[1])
    try:
        found = list(conntrack.entries(frontend.version, containing=ip_address(source[0]).packed))
    except OSError as error:
        return tracked((), source=source[0], source_port=source[1], frontend=frontend, error=str(error))
    return tracked(found, source=source[0], source_port=source[1], frontend=frontend)


def tracked(entries: Iterable[Entry], *, source: str, source_port: int, frontend: Frontend, error: str = "") -> Hop:
    """What connection tracking remembers of one connection: who answers it. `error` is why nothing could be read."""
    to = _end(frontend)
    command = f"conntrack -L -p {frontend.protocol} --orig-src {source} --sport {source_port}"
    if error:
        return Hop(place="connection tracking", found=error, command=command)
    for entry in entries:
        original, reply = entry.original, entry.reply
        same = (original.source, original.source_port, original.destination) == (source, source_port, frontend.address)
        if same and original.destination_port == frontend.port:
            end = _end(Backend(reply.source, reply.source_port))
            seen = "" if reply.destination == source else f", who sees {reply.destination}"
            found = f"{source}:{source_port} -> {to} is answered by {end}{seen}"
            return Hop(place="connection tracking", found=found, command=command, onward=(end,))
    return Hop(place="connection tracking", found=f"no entry for {source}:{source_port} -> {to}", command=command)


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
