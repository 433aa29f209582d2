"""TCP as clients really use it, the replies remembered for a second, and the addresses answered on without tracking."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import dns.message
import msgspec
import pytest

from kube.runtime.clock import SystemClock
from proxy.dns import names, netlink, nodelocal, wire
from proxy.dns.cache import Reply
from proxy.dns.nodelocal import NodeLocal
from proxy.dns.resolver import Resolver
from proxy.dns.server import TcpServer, UdpServer
from proxy.dns.upstream import Upstream
from proxy.dns.views import Service
from proxy.dns.wire import Query
from proxy.dns.zone import Zone

HOST = "127.0.0.1"
OWN = "dns-version.cluster.local"
WEB = "web.default.svc.cluster.local"


class Slow:
    """An exchange that answers when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def ask(self, server: tuple[str, int], query: Query) -> Reply:
        await self.go.wait()
        return Reply(rcode=wire.NXDOMAIN, counts=(0, 0, 0), body=b"", ttls=())


def put(zone: Zone, address: str) -> None:
    body = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": address}}
    zone.put("web", names.records(msgspec.convert(body, Service), (), zone="cluster.local"))


def resolver(exchange: Slow | None = None) -> tuple[Zone, Resolver]:
    zone = Zone("cluster.local", ttl=5)
    zone.synced = True
    servers = ["192.0.2.1"] if exchange else []
    return zone, Resolver(zone, Upstream(servers, now=lambda: 0.0, exchange=exchange))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(found: Resolver) -> AsyncIterator[int]:
    port = free_port()
    async with asyncio.TaskGroup() as group:

        def spawn(work: object) -> None:
            group.create_task(work)  # type: ignore[arg-type]

        tasks = [
            group.create_task(UdpServer(found, HOST, port).run(spawn)),
            group.create_task(TcpServer(found, HOST, port).run()),
        ]
        await asyncio.sleep(0.05)
        yield port
        for task in tasks:
            task.cancel()


def framed(name: str, number: int) -> bytes:
    query = dns.message.make_query(name, "TXT")
    query.id = number
    data = query.to_wire()
    return len(data).to_bytes(2, "big") + data


async def read(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(5):
        size = int.from_bytes(await reader.readexactly(2), "big")
        return dns.message.from_wire(await reader.readexactly(size))


async def test_over_tcp_what_is_known_overtakes_what_must_be_asked() -> None:
    slow = Slow()
    async with serving(resolver(slow)[1]) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(framed("example.com", 1) + framed(OWN, 2))
        assert (await read(reader)).id == 2
        slow.go.set()
        assert (await read(reader)).id == 1
        writer.close()


async def test_a_client_that_says_no_more_still_gets_its_answers() -> None:
    slow = Slow()
    async with serving(resolver(slow)[1]) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(framed("example.com", 1))
        writer.write_eof()
        await asyncio.sleep(0.05)
        slow.go.set()
        assert (await read(reader)).id == 1
        assert await reader.read() == b""
        writer.close()


async def test_a_silent_tcp_client_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.dns.server.TCP_IDLE_SECONDS", 0.1)
    async with serving(resolver()[1]) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def ask(port: int, number: int) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    query = dns.message.make_query(WEB, "A")
    query.id = number
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((HOST, port))
        client.send(query.to_wire())
        async with asyncio.timeout(5):
            reply = dns.message.from_wire(await loop.sock_recv(client, 4096))
    assert query.is_response(reply)
    return reply


async def test_a_remembered_reply_has_the_id_of_its_question_and_ends_with_a_change() -> None:
    zone, found = resolver()
    put(zone, "10.96.0.7")
    async with serving(found) as port:
        for number in (1, 2, 3):
            assert str((await ask(port, number)).answer[0][0]) == "10.96.0.7"
        put(zone, "10.96.0.8")
        assert str((await ask(port, 4)).answer[0][0]) == "10.96.0.8"
    assert found.tally.replies[("udp", wire.A, wire.NOERROR)] == 4


class FakeNetwork:
    """Notes what was taken; refuses when told so."""

    def __init__(self) -> None:
        self.taken: tuple[str, ...] = ()
        self.refuses = False
        self.changed = asyncio.Event()

    def take(self, addresses: Sequence[str]) -> None:
        self.changed.set()
        if self.refuses:
            raise netlink.NetlinkError("table nodeagent-dns: Operation not permitted")
        self.taken = tuple(addresses)

    def release(self) -> None:
        self.taken = ()
        self.changed.set()

    async def until(self, wanted: tuple[str, ...]) -> None:
        async with asyncio.timeout(5):
            while self.taken != wanted:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodelocal, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(nodelocal, "RETRY_SECONDS", 0.02)


async def test_the_services_addresses_are_answered_on_as_long_as_they_are_its_own(quick: None) -> None:
    zone, found = resolver()
    put(zone, "10.96.0.7")
    network, wanted = FakeNetwork(), [(), (HOST,), ("127.0.0.2",)]
    port = free_port()
    local = NodeLocal(
        found,
        addresses=lambda: wanted[0],
        network=network,
        clock=SystemClock(),
        spawn=lambda work: None,
        port=port,
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(local.run())
        wanted.pop(0)
        await network.until((HOST,))
        assert (await ask(port, 9)).answer
        wanted.pop(0)
        await network.until(("127.0.0.2",))
        running.cancel()
    assert network.taken == ()


async def test_without_the_right_to_the_proxy_goes_on_and_it_is_said_once(
    quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    network = FakeNetwork()
    network.refuses = True
    local = NodeLocal(
        resolver()[1],
        addresses=lambda: (HOST,),
        network=network,
        clock=SystemClock(),
        spawn=lambda work: None,
        port=free_port(),
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(local.run())
        for _ in range(3):
            network.changed.clear()
            await network.changed.wait()
        network.refuses = False
        await network.until((HOST,))
        running.cancel()
    assert caplog.text.count("not permitted") == 1
