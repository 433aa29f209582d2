"""CPU and time per API call of the real server in a process of its own, over TLS: create, get, list of 1,000 pods.

Run as a script: `python -m tests.bench.bench_apiserver`. Figures are printed beside the bars of the
project as ratios; loopback only, in a temporary directory that is removed.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from kube import serve

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
apiVersion: nodeagent/v1
kind: ServerConfiguration
dataDir: {folder}/data
pkiDir: {folder}/pki
listen: ["127.0.0.1:{port}"]
advertiseAddress: 127.0.0.1
kubeconfig: {folder}/kubeconfig
logLevel: warning
"""
PODS = "/api/v1/namespaces/default/pods"
CLIENTS = 8
BARS = {"create": 1.2, "get": 0.4, "list": 5.0}


def pod(name: str) -> bytes:
    """A pod of the usual size that no scheduler takes: the figures are those of the API alone."""
    container = {"name": "web", "image": "demo:1", "ports": [{"containerPort": 80}]}
    container["env"] = [{"name": f"V{i}", "value": "x" * 20} for i in range(5)]
    container["resources"] = {"requests": {"cpu": "10m", "memory": "16Mi"}}
    meta = {"name": name, "labels": {"app": "web", "tier": "front"}}
    spec = {"containers": [container], "schedulerName": "bench"}
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Proportional set size of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@contextlib.contextmanager
def server() -> Iterator[tuple[int, int, Path]]:
    """A server of its own: process id, port and PKI folder."""
    with tempfile.TemporaryDirectory(prefix="bench-apiserver-") as folder:
        probe = serve.listen("127.0.0.1:0")
        port = probe.getsockname()[1]
        probe.close()
        config = Path(folder) / "server.yaml"
        config.write_text(CONFIG.format(folder=folder, port=port))
        child = subprocess.Popen([sys.executable, "-m", "controlplane", "--config", str(config)], cwd=ROOT)
        try:
            yield child.pid, port, Path(folder) / "pki"
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


def tls(pki: Path) -> ssl.SSLContext:
    """The administrator's client context."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context


async def until_ready(port: int, pki: Path) -> float:
    """Seconds until the server says it is ready, counted from now."""
    started = time.perf_counter()
    while time.perf_counter() - started < 30:
        await asyncio.sleep(0.02)
        if not (pki / "admin.key").exists() or not (pki / "sa.pub").exists():
            continue
        with contextlib.suppress(aiohttp.ClientError, OSError, ssl.SSLError):
            connector = aiohttp.TCPConnector(ssl=tls(pki))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"https://127.0.0.1:{port}/readyz") as answer,
            ):
                if answer.status == 200:
                    return time.perf_counter() - started
    raise SystemExit("the server did not become ready in 30 s")


async def measured(
    name: str, pid: int, count: int, call: Callable[[int], Awaitable[Any]], *, clients: int = CLIENTS
) -> None:
    """Make `count` calls by several clients and print rate and CPU of the server per call."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    before, started = cpu_seconds(pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(work())
    seconds, cpu = time.perf_counter() - started, cpu_seconds(pid) - before
    each, bar = cpu / count * 1000, BARS[name]
    print(f"{name:8} {count / seconds:8.0f}/s  {each:6.2f} ms CPU a call  bar {bar:.1f} ms  ratio {each / bar:.2f}")


async def run(pods: int, gets: int, lists: int) -> None:
    """The whole bench."""
    with server() as (pid, port, pki):
        print(f"ready    {await until_ready(port, pki):8.2f} s    memory {memory_mib(pid):.0f} MiB")
        base = f"https://127.0.0.1:{port}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        connector = aiohttp.TCPConnector(ssl=tls(pki))
        async with aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False) as session:

            async def create(number: int) -> None:
                async with session.post(base + PODS, data=pod(f"p{number}")) as answer:
                    assert answer.status == 201, await answer.text()

            async def get(number: int) -> None:
                async with session.get(f"{base}{PODS}/p{number % pods}") as answer:
                    assert len(await answer.read()) > 1000

            async def listed(_: int) -> None:
                async with session.get(base + PODS, headers={"Accept-Encoding": "identity"}) as answer:
                    assert len(await answer.read()) > 1000 * pods

            await asyncio.sleep(1)
            await measured("create", pid, pods, create)
            await asyncio.sleep(1)
            await measured("get", pid, gets, get)
            await measured("list", pid, lists, listed, clients=1)
            print(f"memory   {memory_mib(pid):8.0f} MiB proportional set size with {pods} pods stored, bar 140")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--gets", type=int, default=5000)
    parser.add_argument("--lists", type=int, default=50)
    options = parser.parse_args()
    asyncio.run(run(options.pods, options.gets, options.lists))


if __name__ == "__main__":
    main()
