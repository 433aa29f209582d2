"""CNI ADD and DEL through the installed shim and a warm daemon, against the bare cost of a process that does nothing.

Run as root: `python tests/bench/bench_cni.py [pods]`. Works in throw-away namespaces. Prints medians and a ratio.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cni import install, netns
from cni.config import CNIConfiguration
from cni.plugin import Plugin
from cni.server import Server


def timed(program: Path, command: str, number: int, config: bytes) -> float:
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"bench{number}",
        "CNI_NETNS": f"/run/netns/nabench-{number}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(program.parent),
    }
    begin = time.perf_counter()
    subprocess.run([program], env=variables, input=config, check=True, capture_output=True, timeout=30)
    return (time.perf_counter() - begin) * 1000


def bare() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True, timeout=30)
    return (time.perf_counter() - begin) * 1000


async def measure(folder: Path, pods: int) -> None:
    config = CNIConfiguration(socket=str(folder / "cni.sock"), bin_dir=str(folder / "bin"))
    program = install.plugin(config)
    ipam = {"dataDir": str(folder / "leases"), "ranges": [[{"subnet": "10.77.0.0/24"}]]}
    stdin = json.dumps({"cniVersion": "1.0.0", "name": "bench", "mtu": 1450, "ipam": ipam}).encode()
    server = Server(Path(config.socket), Plugin())
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run())
        while not Path(config.socket).exists():
            await asyncio.sleep(0.01)
        rows: dict[str, list[float]] = {"bare python": [await asyncio.to_thread(bare) for _ in range(pods)]}
        for command in ("ADD", "DEL"):
            rows[command] = [await asyncio.to_thread(timed, program, command, n, stdin) for n in range(pods)]
        serving.cancel()
    server.close()
    floor = statistics.median(rows["bare python"])
    for name, values in rows.items():
        median = statistics.median(values)
        print(f"{name:12} {median:7.1f} ms  {median / floor:5.2f}x of a bare process")


def main() -> None:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    names = ["nabench-host", *(f"nabench-{number}" for number in range(pods))]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        descriptor = os.open("/run/netns/nabench-host", os.O_RDONLY)
        with tempfile.TemporaryDirectory() as folder:
            # Before any thread starts: the daemon's threads inherit this namespace.
            with netns.entered(descriptor):
                asyncio.run(measure(Path(folder), pods))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=True, timeout=10)


if __name__ == "__main__":
    main()
