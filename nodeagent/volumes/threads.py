"""File work in threads that is waited for to its end, even by a task that is cancelled meanwhile.

A thread cannot be stopped: whoever took a lock for it must not let go before it has ended.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call in a thread. A cancellation is passed on only after the call has ended."""
    future = asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments, **named))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
