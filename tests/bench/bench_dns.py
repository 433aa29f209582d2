"""Answers a second of one DNS process on one core, from the zone and from the cache, over loopback sockets.

Run: `python tests/bench/bench_dns.py`. Also prints the cost of one answer without sockets, and of dnspython's for the
same question as the thing to compare with.
"""

import asyncio
import multiprocessing
import socket
import time

import dns.message
import dns.rrset
import msgspec

from proxy.dns import names
from proxy.dns.resolver import Resolver
from proxy.dns.server import UdpServer
from proxy.dns.upstream import Upstream
from proxy.dns.views import Service
from proxy.dns.zone import Zone

HOST, SECONDS, WINDOW = "127.0.0.1", 3.0, 32
SERVICES = 1000


def resolver() -> Resolver:
    zone = Zone("cluster.local", ttl=5)
    for number in range(SERVICES):
        spec = {"clusterIP": f"10.96.{number // 250}.{number % 250 + 1}", "ports": [{"name": "http", "port": 80}]}
        service = msgspec.convert({"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": spec}, Service)
        zone.put(f"default/s{number}", names.records(service, (), zone="cluster.local"))
    zone.synced = True
    return Resolver(zone, Upstream([], now=time.monotonic))


def question(number: int) -> bytes:
    return dns.message.make_query(f"s{number}.default.svc.cluster.local", "A").to_wire()


def serve(port: int) -> None:
    async def run() -> None:
        async with asyncio.timeout(SECONDS + 10):
            await UdpServer(resolver(), HOST, port).run(lambda work: None)

    try:
        asyncio.run(run())
    except TimeoutError:
        return


def ask(port: int) -> int:
    """Keeps a window of questions open for some seconds; how many were answered."""
    questions = [question(number % SERVICES) for number in range(SERVICES)]
    answered = sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((HOST, port))
        client.settimeout(1.0)
        end = time.monotonic() + SECONDS
        for _ in range(WINDOW):
            client.send(questions[sent % SERVICES])
            sent += 1
        while time.monotonic() < end:
            try:
                client.recv(4096)
            except TimeoutError:
                continue
            answered += 1
            client.send(questions[sent % SERVICES])
            sent += 1
    return answered


def microseconds(work: object, times: int) -> float:
    assert callable(work)
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times * 1e6


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    server.start()
    time.sleep(2.0)
    rate = ask(port) / SECONDS
    server.terminate()
    server.join(timeout=10)
    ours, message = resolver(), question(7)
    own = microseconds(lambda: ours.local(message, proto="udp"), 50_000)

    def by_library() -> None:
        query = dns.message.from_wire(message)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 5, "IN", "A", "10.96.0.8"))
        reply.to_wire()

    library = microseconds(by_library, 1_000)
    print(f"answers a second over UDP, one client process beside one server process: {rate:,.0f}")
    print(f"one answer: {own:.1f} us of CPU, dnspython {library:.0f} us: {library / own:.0f}x")


if __name__ == "__main__":
    main()
