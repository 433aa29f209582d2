"""/logs/: the node's own log files, as `kubectl get --raw /api/v1/nodes/NAME/proxy/logs/` shows them.

Owns reading below one folder and nothing outside it. Blocking, but short: call `look` in a thread.
"""

from __future__ import annotations

import dataclasses
import html
import os
import stat
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

from nodeagent.server.exchange import ReplyError

FOLDER = Path("/var/log")
_PIECE = 256 * 1024
_MAX_ENTRIES = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A listing to be shown, or an open file of which `size` bytes are to be sent; the receiver closes it."""

    listing: str = ""
    file: int = -1
    size: int = 0


def look(path: str, *, folder: Path = FOLDER) -> Found:
    """What is there. Raises ReplyError."""
    try:
        base = os.path.realpath(folder)
        target = os.path.realpath(os.path.join(base, path))
        if target != base and not target.startswith(base + "/"):
            raise ReplyError(404, "404 page not found")
        handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError) as e:
        raise ReplyError(404, "404 page not found") from e
    except OSError as e:
        raise ReplyError(403, f"{path}: {os.strerror(e.errno or 0)}") from e
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode):
        return Found(file=handle, size=status.st_size)
    try:
        if not stat.S_ISDIR(status.st_mode):
            raise ReplyError(403, f"{path} is neither a file nor a folder")
        return Found(listing=listing(handle))
    finally:
        os.close(handle)


def listing(handle: int) -> str:
    """A folder as a page of links, folders with a slash."""
    with os.scandir(handle) as entries:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)[:_MAX_ENTRIES]
    links = "".join(f'<a href="{urllib.parse.quote(name)}">{html.escape(name)}</a>\n' for name in names)
    return f"<!doctype html>\n<pre>\n{links}</pre>\n"


async def pieces(found: Found) -> AsyncIterator[bytes]:
    """The file's bytes as it was when it was looked at, however it grows meanwhile."""
    left = found.size
    with os.fdopen(found.file, "rb", buffering=0) as file:
        while left > 0 and (data := file.read(min(left, _PIECE))):
            left -= len(data)
            yield data
