"""A clock on the event loop's time: virtual where looptime makes the loop's time virtual."""

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 23, 15, 0, 0, tzinfo=UTC)


class LoopClock:
    """`now` is `start` plus the loop's time; `sleep` is the loop's."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
