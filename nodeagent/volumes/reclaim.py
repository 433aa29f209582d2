"""What volumes made on request leave on this node: their folders are removed once their objects are gone.

Owns one folder and the rule by which entries of it are ours. Must not know who makes volumes, or when they go.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from pathlib import Path
from typing import Final

from kube import scheme, status
from kube.client import errors
from kube.client.rest import Client
from kube.runtime.clock import Clock

log = logging.getLogger(__name__)

FOLDER: Final = Path("/var/lib/nodeagent/volumes")
PERIOD: Final = 30.0
_OURS = re.compile(r"pvc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Reclaimer:
    """Removes folders of volumes that are no more."""

    def __init__(self, client: Client, *, clock: Clock, folder: Path = FOLDER) -> None:
        self._client, self._clock, self._folder = client, clock, folder

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            try:
                await self.look()
            except (status.ApiError, errors.ClientError, OSError) as e:
                log.debug("folders of volumes are looked at later: %s", e)
            await self._clock.sleep(PERIOD)

    async def look(self) -> None:
        """Remove what no volume is behind. Only a plain 'not found' counts. Raises what the client raises, OSError."""
        for name in await asyncio.to_thread(self._present):
            try:
                await self._client.get(scheme.PERSISTENT_VOLUMES, name)
            except status.ApiError as e:
                if not status.is_not_found(e):
                    raise
                log.info("volume %s is gone: removing its folder", name)
                await asyncio.to_thread(shutil.rmtree, self._folder / name)

    def _present(self) -> list[str]:
        try:
            return [e.name for e in self._folder.iterdir() if _OURS.fullmatch(e.name) and not e.is_symlink()]
        except FileNotFoundError:
            return []
