"""The lab's API for code that is not asynchronous: each call runs to its end, also inside another's event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from kube.client import rest
from nodeagent.lab import prove

T = TypeVar("T")


def call(config: Path, work: Callable[[rest.Client], Awaitable[T]]) -> T:
    """Do `work` with a client of this kubeconfig. Raises what the work raises."""

    async def run() -> T:
        client = prove.connect(config)
        try:
            return await work(client)
        finally:
            await client.close()

    return complete(run)


def complete(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to its end in a thread of its own: the caller's may have a loop that runs."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
