"""What a change, a load and a connection cost at 10 and at 10,000 Services, and beside a big foreign firewall.

Run as root: `python tests/bench/bench_proxy.py`. Works in a throw-away namespace. Prints medians and ratios.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import threading
import time

from cni import netns
from proxy.backends.nftables import KernelNft, NftablesBackend
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

NAMESPACE = "nabench-proxy"
SIZES = (10, 1000, 10000)
CHANGES = 200
CONNECTIONS = 400
SERVER = ("10.244.250.1", 8080)
FOREIGN = 10000


def cluster(services: int) -> RuleSet:
    """Services of two endpoints; the last one leads to the server that answers."""
    rules = RuleSet()
    for number in range(services):
        frontend = Frontend(f"10.96.{number // 250}.{number % 250 + 1}", "tcp", 80)
        backends = tuple(Backend(f"10.244.{number // 250}.{place + 1}", 8080) for place in range(2))
        if number == services - 1:
            backends = (Backend(*SERVER),)
        rules.replace(ServiceKey("default", f"s{number}"), {frontend: PortRules(backends=backends)})
    return rules


def spent() -> float:
    """CPU seconds of this process and of the programs it ran, in user mode and in the kernel."""
    return sum(os.times()[:4])


async def measure(services: int) -> tuple[float, float, float, float, float]:
    """Milliseconds: load of all on the wall clock, and of CPU time; one change, the same; one connection."""
    backend, rules = NftablesBackend(), cluster(services)
    begin, cpu = time.perf_counter(), spent()
    await backend.replace(rules)
    load, loading = time.perf_counter() - begin, spent() - cpu
    key, frontend = ServiceKey("default", "s5"), Frontend("10.96.0.6", "tcp", 80)
    walls = []
    cpu = time.process_time()
    for number in range(CHANGES):
        backends = tuple(Backend(f"10.244.9.{place + 1}", 8080) for place in range(2 + number % 2))
        begin = time.perf_counter()
        wanted = {key: {frontend: PortRules(backends=backends)}}
        await backend.change(plan.difference(rules, wanted))
        rules.replace(key, wanted[key])
        walls.append(time.perf_counter() - begin)
    changing = (time.process_time() - cpu) / CHANGES
    number = services - 1
    connect = connection((f"10.96.{number // 250}.{number % 250 + 1}", 80))
    await backend.cleanup()
    return load * 1000, loading * 1000, statistics.median(walls) * 1000, changing * 1000, connect * 1000


def connection(to: tuple[str, int]) -> float:
    """Seconds to connect, the median."""
    walls = []
    for _ in range(CONNECTIONS):
        with socket.socket() as client:
            begin = time.perf_counter()
            client.connect(to)
            walls.append(time.perf_counter() - begin)
    return statistics.median(walls)


def answer(listener: socket.socket) -> None:
    """Accepts until the socket is shut down."""
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


async def compare() -> None:
    rows = {services: await measure(services) for services in SIZES}
    for services, (load, loading, wall, cpu, connect) in rows.items():
        print(
            f"{services:6} Services: all {load:7.1f} ms ({loading:6.1f} ms of CPU), "
            f"one endpoint {wall:6.3f} ms ({cpu:6.3f} ms of CPU), "
            f"connection through the last {connect * 1000:5.1f} us"
        )
    small, big = rows[SIZES[0]], rows[SIZES[-1]]
    print(f"direct connection: {connection(SERVER) * 1e6:5.1f} us")
    print(f"10,000 against 10 Services: one endpoint {big[2] / small[2]:.2f}x, connection {big[4] / small[4]:.2f}x")
    blocks = ", ".join(f"203.{n // 256}.{n % 256}.0/25" for n in range(FOREIGN))
    await KernelNft().load(
        "table inet firewall {\n set banned {\n  type ipv4_addr\n  flags interval\n"
        f"  elements = {{ {blocks} }}\n }}\n chain input {{\n  type filter hook input priority 0\n"
        "  ip saddr @banned drop\n }\n}\n"
    )
    beside = await measure(SIZES[-1])
    print(
        f"beside a firewall of {FOREIGN} blocks: one endpoint {beside[2]:.3f} ms, {beside[2] / big[2]:.2f}x, "
        f"{beside[3] / big[3]:.2f}x of CPU"
    )


def main() -> None:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True, timeout=10)
    try:
        descriptor = os.open(f"/run/netns/{NAMESPACE}", os.O_RDONLY)
        with netns.entered(descriptor):
            for words in ("link set lo up", f"address add {SERVER[0]}/32 dev lo", "route add default dev lo"):
                subprocess.run(["ip", *words.split()], check=True, timeout=10)
            with socket.create_server(SERVER, backlog=128) as listener:
                threading.Thread(target=answer, args=(listener,), daemon=True).start()
                asyncio.run(compare())
                listener.shutdown(socket.SHUT_RDWR)
    finally:
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=True, timeout=10)


if __name__ == "__main__":
    main()
