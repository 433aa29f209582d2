"""Answers a second of one DNS process on one core, over loopback sockets; and the memory of many names.

Run: `python tests/bench/bench_dns.py`. The rate is answers by CPU second of the server, since the client beside it
needs a core of its own. unbound, where it is installed, answers the same names from local data and is printed beside.
Also the cost of one answer that is not remembered, and of dnspython's for the same question.
"""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dns.message
import dns.rrset
import msgspec

from proxy.dns import names, wire
from proxy.dns.resolver import Resolver
from proxy.dns.server import UdpServer
from proxy.dns.upstream import Upstream
from proxy.dns.views import Service
from proxy.dns.zone import Zone

HOST, SECONDS, WINDOW = "127.0.0.1", 3.0, 32
SERVICES = 1000
MANY_NAMES = 100_000
TICKS = os.sysconf("SC_CLK_TCK")


def address(number: int) -> str:
    return f"10.{96 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def zone_of(services: int) -> Zone:
    zone = Zone("cluster.local", ttl=5)
    for number in range(services):
        spec = {"clusterIP": address(number), "ports": [{"name": "http", "port": 80}]}
        service = msgspec.convert({"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": spec}, Service)
        zone.put(f"default/s{number}", names.records(service, (), zone="cluster.local"))
    zone.synced = True
    return zone


def question(number: int) -> bytes:
    return dns.message.make_query(f"s{number}.default.svc.cluster.local", "A").to_wire()


def serve(port: int) -> None:
    async def run() -> None:
        resolver = Resolver(zone_of(SERVICES), Upstream([], now=time.monotonic))
        async with asyncio.timeout(4 * SECONDS + 10):
            await UdpServer(resolver, HOST, port).run(lambda work: None)

    try:
        asyncio.run(run())
    except TimeoutError:
        return


def ask(port: int, questions: Sequence[bytes]) -> tuple[int, list[float]]:
    """Keeps a window of questions open for some seconds; how many were answered, and how long each took."""
    sent, took, begun = 0, [], {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((HOST, port))
        client.settimeout(1.0)
        end = time.monotonic() + SECONDS

        def send() -> None:
            nonlocal sent
            sent += 1
            number = sent & 0xFFFF
            begun[number] = time.perf_counter()
            client.send(number.to_bytes(2, "big") + questions[sent % len(questions)][2:])

        for _ in range(WINDOW):
            send()
        while time.monotonic() < end:
            try:
                reply = client.recv(4096)
            except TimeoutError:
                send()
                continue
            took.append(time.perf_counter() - begun[int.from_bytes(reply[:2], "big")])
            send()
    return len(took), sorted(took)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(name: str, pid: int, port: int, questions: Sequence[bytes]) -> float:
    """Prints answers by CPU second; returns them."""
    ask(port, questions)
    before = cpu_seconds(pid)
    answered, took = ask(port, questions)
    rate = answered / max(cpu_seconds(pid) - before, 1 / TICKS)
    middle, late = took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3
    print(
        f"{name}: {rate:,.0f} answers by CPU second "
        f"({answered / SECONDS:,.0f} a second; p50 {middle:.2f}, p99 {late:.2f} ms)"
    )
    return rate


def wait_for(port: int, message: bytes) -> None:
    """Until the server answers."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, contextlib.suppress(OSError):
            client.settimeout(0.1)
            client.connect((HOST, port))
            client.send(message)
            client.recv(4096)
            return
        time.sleep(0.1)
    raise SystemExit("the server does not answer")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def ours(questions: Sequence[bytes]) -> None:
    port = free_port()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    server.start()
    wait_for(port, questions[0])
    assert server.pid is not None
    measure("ours", server.pid, port, questions)
    server.terminate()
    server.join(timeout=10)


def unbound(questions: Sequence[bytes]) -> None:
    program = shutil.which("unbound", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        print("unbound: not installed here (Debian package unbound)")
        return
    port = free_port()
    rows = "".join(f'local-data: "s{n}.default.svc.cluster.local. 5 IN A {address(n)}"\n' for n in range(SERVICES))
    with tempfile.TemporaryDirectory() as folder:
        settings = (
            f"server:\ninterface: {HOST}\nport: {port}\nnum-threads: 1\nuse-syslog: no\nchroot: ''\n"
            f"username: ''\ndirectory: {folder}\npidfile: ''\n{rows}remote-control:\ncontrol-enable: no\n"
        )
        Path(folder, "unbound.conf").write_text(settings)
        with subprocess.Popen([program, "-d", "-c", f"{folder}/unbound.conf"], stderr=subprocess.DEVNULL) as process:
            wait_for(port, questions[0])
            measure("unbound, one thread, local data", process.pid, port, questions)
            process.terminate()


def microseconds(work: Callable[[], object], times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times * 1e6


def one_answer() -> None:
    resolver, message = Resolver(zone_of(SERVICES), Upstream([], now=time.monotonic)), question(7)
    own = microseconds(lambda: resolver.local(message, proto="udp"), 50_000)

    def by_library() -> None:
        query = dns.message.from_wire(message)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 5, "IN", "A", "10.96.0.8"))
        reply.to_wire()

    library = microseconds(by_library, 1_000)
    print(f"one answer not remembered: {own:.1f} us of CPU, dnspython {library:.0f} us: {library / own:.0f}x")


def resident() -> float:
    """MiB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def memory(results: "multiprocessing.SimpleQueue[tuple[int, float]]") -> None:
    """In a process of its own: names with an A, a PTR and an SRV record per Service, and the Services themselves."""
    before = resident()
    kept: list[Service] = []
    zone = Zone("cluster.local", ttl=5)
    while len(zone) < MANY_NAMES:
        n = len(kept)
        raw = msgspec.json.encode(
            {
                "metadata": {"name": f"s{n}", "namespace": f"ns{n % 100}", "resourceVersion": str(n), "uid": "x" * 36},
                "spec": {
                    "clusterIP": address(n),
                    "clusterIPs": [address(n)],
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                },
            }
        )
        service = msgspec.json.decode(raw, type=Service)
        kept.append(service)
        zone.put(f"ns{n % 100}/s{n}", names.records(service, (), zone="cluster.local"))
    results.put((len(zone), resident() - before))


def many_names() -> None:
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=memory, args=(results,))
    process.start()
    count, size = results.get()
    process.join(timeout=10)
    print(
        f"{count:,} names and their Services: {size:.0f} MiB, {size * (1 << 20) / count:.0f} bytes each (bar: 60 MiB)"
    )


def main() -> int:
    questions = [question(number % SERVICES) for number in range(SERVICES)]
    assert wire.parse(questions[0]).type == wire.A
    ours(questions)
    unbound(questions)
    one_answer()
    many_names()
    return 0


if __name__ == "__main__":
    sys.exit(main())
