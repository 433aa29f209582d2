"""CNI ADD and DEL through the installed shim and a warm daemon, against the reference bridge + host-local.

Run as root: `python tests/bench/bench_cni.py [pods]`. Works in throw-away namespaces. Both plugins do the same work in
one run, with masquerading: one call after the other, and 20 at once. Prints medians, CPU per call, and ratios.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cni import daemon, install, masquerade, netns
from cni.config import CNIConfiguration
from cni.plugin import Plugin
from cni.server import Server

REFERENCE = Path("/usr/lib/cni")
HOST = "/run/netns/nabench-host"
PARALLEL = 20


def variables(command: str, number: int) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"bench{number}",
        "CNI_NETNS": f"/run/netns/nabench-{number}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(REFERENCE),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }


def timed(program: Path, command: str, number: int, config: bytes) -> float:
    begin = time.perf_counter()
    subprocess.run([program], env=variables(command, number), input=config, check=True, capture_output=True, timeout=60)
    return (time.perf_counter() - begin) * 1000


def cpu() -> float:
    """Milliseconds of this process (the daemon is a part of it) and of those it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) * 1000


def enter() -> None:
    with open(HOST) as namespace:
        os.set_inheritable(namespace.fileno(), False)
        netns._setns(namespace.fileno())


def rounds(name: str, call: Callable[[str, int], float], pods: int) -> dict[str, float]:
    """Medians in milliseconds by verb and number at once, and the CPU of an ADD."""
    figures: dict[str, float] = {}
    before = cpu()
    for command in ("ADD", "DEL"):
        figures[f"{command} 1 at once"] = statistics.median(call(command, n) for n in range(pods))
        if command == "ADD":
            figures["ADD CPU"] = (cpu() - before) / pods
    with ThreadPoolExecutor(PARALLEL, initializer=enter) as threads:
        for command in ("ADD", "DEL"):
            each = threads.map(lambda n, verb=command: call(verb, n), range(pods))
            figures[f"{command} {PARALLEL} at once"] = statistics.median(each)
    print(f"{name}: " + ", ".join(f"{key} {value:.1f} ms" for key, value in figures.items()), flush=True)
    return figures


async def measure(folder: Path, pods: int) -> None:
    config = CNIConfiguration(socket=str(folder / "cni.sock"), bin_dir=str(folder / "bin"))
    program = install.plugin(config)
    rules = masquerade.ruleset(own=["10.77.0.0/24"], pods=["10.77.0.0/16"])
    await daemon.apply_rules(rules)
    ours = document("nodeagent-cni", "10.77.0.0/24", folder)
    server = Server(Path(config.socket), Plugin())
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run())
        while not Path(config.socket).exists():
            await asyncio.sleep(0.01)
        mine = await asyncio.to_thread(rounds, "ours", lambda c, n: timed(program, c, n, ours), pods)
        if (REFERENCE / "bridge").exists():
            theirs = document("bridge", "10.78.0.0/24", folder)
            bridge = REFERENCE / "bridge"
            other = await asyncio.to_thread(rounds, "reference", lambda c, n: timed(bridge, c, n, theirs), pods)
            print("ratios: " + ", ".join(f"{key} {mine[key] / other[key]:.2f}x" for key in mine))
        else:
            print("containernetworking-plugins is not installed: nothing to compare with")
        serving.cancel()
    server.close()


def document(kind: str, subnet: str, folder: Path) -> bytes:
    addresses = "host-local" if kind == "bridge" else kind
    ipam = {"type": addresses, "dataDir": str(folder / kind), "ranges": [[{"subnet": subnet}]]}
    config = {"cniVersion": "1.0.0", "name": kind, "type": kind, "mtu": 1450, "hairpinMode": True, "ipam": ipam}
    if kind == "bridge":
        config |= {"bridge": "ref0", "isGateway": True, "ipMasq": True}
    return json.dumps(config).encode()


def main() -> None:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    names = ["nabench-host", *(f"nabench-{number}" for number in range(pods))]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        descriptor = os.open(HOST, os.O_RDONLY)
        with tempfile.TemporaryDirectory() as folder:
            # Before any thread starts: the daemon's threads inherit this namespace.
            with netns.entered(descriptor):
                asyncio.run(measure(Path(folder), pods))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=True, timeout=10)


if __name__ == "__main__":
    main()
