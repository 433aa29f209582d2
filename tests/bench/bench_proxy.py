"""One endpoint change in the kernel at 10 and at 10,000 Services, and the load of them all.

Run as root: `python tests/bench/bench_proxy.py`. Works in a throw-away namespace. Prints medians and the ratio.
"""

import asyncio
import os
import statistics
import subprocess
import time

from cni import netns
from proxy.backends.nftables import NftablesBackend
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

NAMESPACE = "nabench-proxy"
CHANGES = 200


def cluster(services: int) -> RuleSet:
    rules = RuleSet()
    for number in range(services):
        frontend = Frontend(f"10.96.{number // 250}.{number % 250 + 1}", "tcp", 80)
        backends = tuple(Backend(f"10.244.{number // 250}.{place + 1}", 8080) for place in range(2))
        rules.replace(ServiceKey("default", f"s{number}"), {frontend: PortRules(backends=backends)})
    return rules


async def measure(services: int) -> tuple[float, float, float]:
    """Milliseconds: load of all; one change on the wall clock; one change of CPU time."""
    backend, rules = NftablesBackend(), cluster(services)
    begin = time.perf_counter()
    await backend.replace(rules)
    load = time.perf_counter() - begin
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
    spent = (time.process_time() - cpu) / CHANGES
    await backend.cleanup()
    return load * 1000, statistics.median(walls) * 1000, spent * 1000


async def compare() -> None:
    rows = {services: await measure(services) for services in (10, 1000, 10000)}
    for services, (load, wall, cpu) in rows.items():
        print(f"{services:6} Services: all {load:7.1f} ms, one endpoint {wall:6.3f} ms ({cpu:6.3f} ms of CPU)")
    print(f"one endpoint change at 10,000 against 10 Services: {rows[10000][1] / rows[10][1]:.2f}x")


def main() -> None:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True, timeout=10)
    try:
        descriptor = os.open(f"/run/netns/{NAMESPACE}", os.O_RDONLY)
        with netns.entered(descriptor):
            asyncio.run(compare())
    finally:
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=True, timeout=10)


if __name__ == "__main__":
    main()
