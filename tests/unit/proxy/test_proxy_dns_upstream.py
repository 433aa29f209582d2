"""Forwarding: real sockets on loopback, with upstream servers that behave as told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rrset
import pytest

from proxy.dns import cache, exchange, wire
from proxy.dns.resolver import Resolver
from proxy.dns.server import TcpServer, UdpServer
from proxy.dns.upstream import Upstream
from proxy.dns.zone import Zone

HOST = "127.0.0.1"
Behaviour = Callable[[dns.message.Message], dns.message.Message | bytes | None]


def address_of(query: dns.message.Message, *, ttl: int = 60, address: str = "192.0.2.9") -> dns.message.Message:
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", "A", address))
    return reply


class Authority(asyncio.DatagramProtocol):
    """An upstream server over UDP and TCP on one port; counts what it was asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.udp_queries = 0
        self.tcp_queries = 0
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.udp_queries += 1
        reply = self.behaviour(dns.message.from_wire(data))
        if reply is not None:
            self.transport.sendto(reply if isinstance(reply, bytes) else reply.to_wire(), addr)  # type: ignore[attr-defined]

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = dns.message.from_wire(await reader.readexactly(size))
        self.tcp_queries += 1
        data = address_of(query).to_wire()
        writer.write(len(data).to_bytes(2, "big") + data)
        writer.close()


@asynccontextmanager
async def authority(behaviour: Behaviour) -> AsyncIterator[Authority]:
    loop = asyncio.get_running_loop()
    found = Authority(behaviour)
    server = await asyncio.start_server(found.stream, HOST, 0)
    found.port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: found, local_addr=(HOST, found.port))
    try:
        yield found
    finally:
        transport.close()
        server.close()


def query(name: str = "example.com") -> wire.Query:
    return wire.parse(dns.message.make_query(name, "A").to_wire())


def ask_of(found: Authority, *, now: Callable[[], float] = lambda: 0.0) -> Upstream:
    return Upstream([HOST], now=now, port=found.port)


def texts(reply: bytes) -> list[str]:
    return [str(item) for rrset in dns.message.from_wire(reply).answer for item in rrset]


async def test_a_reply_is_passed_on_and_then_comes_from_the_cache_with_less_time_to_live() -> None:
    clock = [0.0]
    async with authority(address_of) as found:
        resolver = Resolver(Zone("cluster.local", ttl=5), ask_of(found, now=lambda: clock[0]))
        first = dns.message.make_query("Example.com", "A")
        assert resolver.local(first.to_wire(), proto="udp")[0] is None
        reply = await resolver.later(wire.parse(first.to_wire()), proto="udp")
        assert texts(reply) == ["192.0.2.9"]
        clock[0] = 20.0
        kept, *_ = resolver.local(dns.message.make_query("example.COM", "A").to_wire(), proto="udp")
        assert kept is not None
        message = dns.message.from_wire(kept)
        assert message.answer[0].ttl == 40
        assert str(message.question[0].name) == "example.COM."
        assert found.udp_queries == 1
        clock[0] = 61.0
        assert resolver.local(first.to_wire(), proto="udp")[0] is None


async def test_the_same_question_of_many_clients_is_asked_once() -> None:
    async with authority(address_of) as found:
        upstream = ask_of(found)
        replies = await asyncio.gather(*(upstream.ask(query()) for _ in range(20)))
        assert all(replies)
        assert found.udp_queries == 1


async def test_a_truncated_reply_is_asked_again_over_tcp() -> None:
    def truncated(asked: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(asked)
        reply.flags |= dns.flags.TC
        return reply

    async with authority(truncated) as found:
        reply = await ask_of(found).ask(query())
        assert reply is not None
        assert reply.counts[0] == 1
        assert found.tcp_queries == 1


async def test_guessed_replies_are_ignored_and_silence_is_a_server_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def forged(asked: dns.message.Message) -> bytes:
        reply = address_of(asked)
        reply.id ^= 1
        return reply.to_wire()

    monkeypatch.setattr("proxy.dns.pool.TRY_SECONDS", 0.3)
    async with authority(forged) as found:
        upstream = ask_of(found)
        assert await upstream.ask(query()) is None
        resolver = Resolver(Zone("cluster.local", ttl=5), upstream)
        reply = await resolver.later(query(), proto="udp")
        assert reply[3] & 0xF == wire.SERVFAIL


async def test_a_reply_that_cannot_be_read_is_counted_and_the_right_one_is_waited_for() -> None:
    def garbled(asked: dns.message.Message) -> bytes:
        return asked.id.to_bytes(2, "big") + b"\x81\x80" + bytes(20)

    network = exchange.Network()
    async with authority(garbled) as found:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await network.ask((HOST, found.port), query())
    assert network.malformed == 1


async def test_the_servers_answer_over_udp_and_several_times_over_one_tcp_connection() -> None:
    zone = Zone("cluster.local", ttl=5)
    zone.synced = True
    resolver = Resolver(zone, Upstream([], now=lambda: 0.0))
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        port = _free_port()
        serving = [
            group.create_task(UdpServer(resolver, HOST, port).run(lambda work: None)),
            group.create_task(TcpServer(resolver, HOST, port).run()),
        ]
        await asyncio.sleep(0.05)
        message = dns.message.make_query("dns-version.cluster.local", "TXT").to_wire()
        received: asyncio.Future[bytes] = loop.create_future()

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                received.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=(HOST, port))
        transport.sendto(message)
        assert texts(await asyncio.wait_for(received, 5)) == ['"1.1.0"']
        transport.close()
        reader, writer = await asyncio.open_connection(HOST, port)
        for _ in range(3):
            writer.write(len(message).to_bytes(2, "big") + message)
            size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 5), "big")
            assert texts(await reader.readexactly(size)) == ['"1.1.0"']
        writer.close()
        for task in serving:
            task.cancel()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def test_a_full_cache_forgets_the_oldest_and_a_failure_is_kept_for_seconds_only() -> None:
    kept = cache.Cache(entries=2)
    reply = cache.Reply(rcode=wire.NOERROR, counts=(1, 0, 0), body=b"", ttls=((0, 100000),))
    for name in (b"a", b"b", b"c"):
        kept.put(name, reply, now=0.0)
    assert kept.get(b"a", now=1.0) is None
    assert kept.get(b"c", now=1.0) is not None
    assert reply.life() == 3600
    assert cache.Reply(rcode=wire.SERVFAIL, counts=(0, 0, 0), body=b"", ttls=()).life() == 5
    assert cache.Reply(rcode=wire.NXDOMAIN, counts=(0, 1, 0), body=b"", ttls=((0, 9000),)).life() == 1800
