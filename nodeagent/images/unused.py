"""Giving back the disk of images nobody uses: when it fills up, and when the node is under pressure.

The choice is PURE; the collector remembers when each image was last in use. Pinned images (the sandbox's) always stay.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import kube.runtime.log
from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import records, runtime

log = logging.getLogger(__name__)

PERIOD: Final = 300.0
EVERYTHING: Final = 1 << 62


def choose(
    images: Sequence[records.Image],
    *,
    used: Iterable[str],
    last_used: Mapping[str, float],
    first_seen: Mapping[str, float],
    now: float,
    least_age: float,
    amount: int,
) -> list[records.Image]:
    """Images to remove for `amount` bytes: unused ones, the longest unused first, none younger than `least_age`."""
    busy = set(used)
    free = [
        image
        for image in images
        if not image.pinned
        and not busy & {image.id, *image.tags, *image.digests}
        and now - first_seen.get(image.id, now) >= least_age
        and now - last_used.get(image.id, 0.0) >= least_age
    ]
    free.sort(key=lambda image: (last_used.get(image.id, 0.0), first_seen.get(image.id, 0.0), image.id))
    chosen, sum_ = [], 0
    for image in free:
        if sum_ >= amount:
            break
        chosen.append(image)
        sum_ += image.size
    return chosen


class UnusedImages:
    """Removes them. `percent` are the high and low marks of disk use; at 100 nothing is removed for them."""

    def __init__(
        self,
        runtime: runtime.Runtime,
        *,
        clock: Clock,
        disk: Path,
        percent: tuple[int, int],
        least_age: float,
        usage: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._disk = disk
        self._high, self._low = percent
        self._least_age = least_age
        self._usage = usage
        self._first_seen: dict[str, float] = {}
        self._last_used: dict[str, float] = {}

    async def run(self) -> None:
        """Looks every five minutes until cancelled."""
        while True:
            try:
                await self.look()
            except errors.RuntimeFault as e:
                log.debug("images are looked at later: %s", e)
            except Exception as e:
                kube.runtime.log.failure(log, "removing unused images failed", e)
            await self._clock.sleep(PERIOD)

    async def look(self) -> int:
        """One look; returns the bytes given back."""
        found = await asyncio.to_thread(self._usage, self._disk)
        capacity = found.f_blocks * found.f_frsize
        used = capacity - found.f_bavail * found.f_frsize
        images, busy = await self._learn()
        if self._high >= 100 or used * 100 < self._high * capacity:
            return 0
        return await self._remove(images, busy, amount=used - self._low * capacity // 100, least_age=self._least_age)

    async def free(self) -> int:
        """Everything that is not in use, for a node under pressure; returns the bytes given back."""
        if self._high >= 100:
            return 0
        images, busy = await self._learn()
        return await self._remove(images, busy, amount=EVERYTHING, least_age=0.0)

    async def _learn(self) -> tuple[list[records.Image], set[str]]:
        """The images, and the names and ids in use now."""
        images = await self._runtime.images.list()
        containers = await self._runtime.containers.list()
        busy = {name for c in containers for name in (c.image, c.image_ref, c.image_id) if name}
        now = self._clock.monotonic()
        present = {image.id for image in images}
        self._first_seen = {id_: self._first_seen.get(id_, now) for id_ in present}
        self._last_used = {id_: at for id_, at in self._last_used.items() if id_ in present}
        for image in images:
            if busy & {image.id, *image.tags, *image.digests}:
                self._last_used[image.id] = now
        return images, busy

    async def _remove(self, images: list[records.Image], busy: set[str], *, amount: int, least_age: float) -> int:
        chosen = choose(
            images,
            used=busy,
            last_used=self._last_used,
            first_seen=self._first_seen,
            now=self._clock.monotonic(),
            least_age=least_age,
            amount=amount,
        )
        freed = 0
        for image in chosen:
            try:
                await self._runtime.images.remove(image.id)
            except errors.RuntimeFault as e:
                log.warning("unused image %s is not removed: %s", image.id, e)
                continue
            log.info("unused image %s was removed: %s", image.id, ", ".join(image.tags) or "no name")
            freed += image.size
        return freed
