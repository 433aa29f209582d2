"""A server process on loopback, for the contract tests that need a real one."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from kube import kubeconfig, serve
from kube.client.errors import Unreachable
from kube.client.http import HttpTransport
from kube.client.rest import Client

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A server process on loopback, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with contextlib.closing(serve.listen("127.0.0.1:0")) as probe:
            self.port = probe.getsockname()[1]
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        (folder / "server.yaml").write_text(
            f"apiVersion: nodeagent/v1\nkind: ServerConfiguration\ndataDir: {folder}/data\npkiDir: {folder}/pki\n"
            f'listen: ["127.0.0.1:{self.port}"]\nadvertiseAddress: 127.0.0.1\nkubeconfig: {folder}/kubeconfig\n'
        )

    def start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "controlplane", "--config", str(self.folder)]
        child = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE)
        self._running.append(child)
        return child

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while not await self._asked():  # noqa: ASYNC110 (another process is waited for)
                await asyncio.sleep(0.05)

    async def _asked(self) -> bool:
        if not (self.folder / "kubeconfig").exists():
            return False
        async with self.client() as client:
            try:
                return (await client.transport.request("GET", "/readyz")).status == 200
            except Unreachable:
                return False

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        transport = HttpTransport(kubeconfig.load(self.folder / "kubeconfig"))
        try:
            yield Client(transport)
        finally:
            await transport.close()

    def stop(self) -> None:
        for child in self._running:
            child.kill()
            child.communicate(timeout=10)
