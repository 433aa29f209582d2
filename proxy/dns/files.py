"""Files that follow the zone, for servers that read hosts files or zone files.

Written whole and by rename, at most once in a few seconds, and only when something changed.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from kube.runtime import files
from kube.runtime.clock import Clock
from proxy.dns import export
from proxy.dns.zone import Zone

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
MODE = 0o644


async def follow(zone: Zone, paths: Mapping[str, str], *, clock: Clock) -> None:
    """Keeps each file (format -> path) as the zone is, until cancelled; a failure is said once and tried again."""
    written: dict[str, int] = {}
    complained = ""
    while True:
        for kind, path in paths.items():
            if not zone.synced or written.get(kind) == zone.serial:
                continue
            serial, text = zone.serial, export.FORMATS[kind](zone)
            try:
                await asyncio.to_thread(files.replace, Path(path), text.encode(), MODE)
                written[kind] = serial
            except OSError as error:
                if str(error) != complained:
                    complained = str(error)
                    log.warning("could not write the %s file %s: %s", kind, path, error)
        await clock.sleep(LOOK_SECONDS)
