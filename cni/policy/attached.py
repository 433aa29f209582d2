"""Which pod each sandbox of this node belongs to, on disk, for as long as the machine is up.

The API hears of a pod's address some time after the pod got it; an agent that restarts in between must still know whom
to isolate. One small file a sandbox. Must not know rules. Blocking.
"""

import contextlib
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from kube.runtime import files

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A sandbox with the pod (`key` is namespace/name) and the addresses that it got."""

    sandbox: str
    key: str
    uid: str
    addresses: tuple[str, ...]


class Attachments:
    """A folder of records, on a file system that does not outlive the pods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, attached: Attached) -> None:
        """Remembers a sandbox. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        body = {"key": attached.key, "uid": attached.uid, "addresses": attached.addresses}
        files.replace(self._folder / attached.sandbox, json.dumps(body).encode())

    def remove(self, sandbox: str) -> None:
        """Forgets a sandbox; none there is no error."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / sandbox).unlink()

    def load(self, *, sandboxes: Collection[str]) -> Sequence[Attached]:
        """The records of sandboxes that still hold addresses; those of others go, as does what cannot be read."""
        found = []
        for path in sorted(self._folder.glob("*")) if self._folder.is_dir() else ():
            record = _read(path) if path.name in sandboxes else None
            if record is None:
                path.unlink(missing_ok=True)
            else:
                found.append(record)
        return found


def _read(path: Path) -> Attached | None:
    try:
        body = json.loads(path.read_bytes())
        addresses = tuple(map(str, body["addresses"]))
        return Attached(sandbox=path.name, key=str(body["key"]), uid=str(body["uid"]), addresses=addresses)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read and is removed; its pod is known from the API alone: %s", path, error)
        return None
