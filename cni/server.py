"""The daemon's unix socket: one plugin invocation a connection, framed as `shim.py` sends it.

Owns framing, limits and deadlines. Must not know what a verb does.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cni import spec
from cni.plugin import Plugin

log = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 10.0
# They wait for disk and kernel most of the time; what waits together is removed together.
PARALLEL_CALLS = 16
MAX_CONNECTIONS = 256


class Server:
    """Serves the plugin until cancelled; the work happens in threads, since netlink and files block."""

    def __init__(self, path: Path, plugin: Plugin) -> None:
        self._path = path
        self._plugin = plugin
        self._threads = ThreadPoolExecutor(PARALLEL_CALLS, thread_name_prefix="cni")
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)

    async def run(self) -> None:
        """Listens on the socket (0600, replacing a dead one) until cancelled."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, path=self._path)
        finally:
            os.umask(mask)
        try:
            async with server:
                await server.serve_forever()
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def close(self) -> None:
        """Ends the threads after their current calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._slots:
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    variables, stdin = await _frame(reader), await _frame(reader)
                loop = asyncio.get_running_loop()
                code, body = await loop.run_in_executor(self._threads, self._plugin.call, _variables(variables), stdin)
                writer.write(bytes([code]) + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            log.warning("a CNI call was dropped before it was complete: %s", error)
        finally:
            writer.close()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > spec.MAX_CONFIG_BYTES:
        raise ValueError(f"a frame of {length} bytes is over the limit of {spec.MAX_CONFIG_BYTES}")
    return await reader.readexactly(length)


def _variables(block: bytes) -> Mapping[str, str]:
    pairs = (item.partition(b"=") for item in block.split(b"\0") if item)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}
