"""What a kubelet says last reaches the client: over real TLS, to a peer that closes as soon as it has said it."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from controlplane.apiserver import kubelets
from controlplane.apiserver.verbs import connecting
from kube import pki
from kube.streams import duplex as streams

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n"
SIZE = 700_000  # well more than is read ahead
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Slow:
    """A client that takes its time."""

    def __init__(self) -> None:
        self.got = 0
        self.closed = asyncio.Event()

    async def read(self, n: int = 65536) -> bytes:
        await self.closed.wait()
        return b""

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0.01)
        self.got += len(data)

    async def write_eof(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        self.closed.set()


@contextlib.asynccontextmanager
async def kubelet(folder: Path) -> AsyncIterator[tuple[kubelets.Kubelets, int]]:
    ca = pki.ensure_cluster(folder, service_ip="10.96.0.1", zone="cluster.local", advertise="127.0.0.1", extra_sans=[])
    pki.write_pair(folder, "kubelet", pki.node_serving(ca, name="n", ips=["127.0.0.1"]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "kubelet.crt", folder / "kubelet.key")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = threading.Thread(target=answer, args=(context, listening), daemon=True)
        answering.start()
        yield kubelets.Kubelets(kubelets.tls_context(folder, verify=True)), listening.getsockname()[1]
        await asyncio.to_thread(answering.join, 5)


def answer(context: ssl.SSLContext, listening: socket.socket) -> None:
    """One request's answer as Go's servers end it: the farewell is said, and not waited for."""
    raw, _ = listening.accept()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * SIZE)
    with context.wrap_socket(raw, server_side=True) as connection:
        connection.recv(65536)
        connection.sendall(ANSWER + b"x" * SIZE)
        connection.settimeout(0)
        with contextlib.suppress(ssl.SSLError, OSError):
            connection.unwrap()


async def through_the_api_server(folder: Path) -> int:
    async with kubelet(folder) as (opener, port):
        answer = await opener.open("127.0.0.1", port, method="POST", path="/exec", headers=[])
        client = Slow()
        await connecting.tunnel(client, answer.duplex)
        await answer.close()
        return client.got + len(answer.rest)


async def through_the_kubelet(folder: Path) -> int:
    async with kubelet(folder) as (_, port):
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        _, back = await streams.upgrade("127.0.0.1", port, target="/exec", headers=[], tls=context)
        client = Slow()
        await streams.join(client, back)
        return client.got


@pytest.mark.parametrize(
    ("way", "loop"),
    [(through_the_api_server, "uvloop"), (through_the_api_server, "asyncio"), (through_the_kubelet, "asyncio")],
)
def test_a_long_answer_is_whole_although_the_peer_closes_at_once(
    way: Callable[[Path], Coroutine[None, None, int]], loop: str, tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(asyncio.wait_for(way(tmp_path), 20)) == SIZE
