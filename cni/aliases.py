"""Names that a runtime gives to a pod's addresses (capability `aliases`): one file in hosts(5) format per interface.

`<data_dir>/<network>.aliases/` is what a name server serves as it is (dnsmasq's `hostsdir`). Owns these files. Must not
know where the names come from. Blocking: use it from a thread.
"""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from cni import errors
from cni.ipam.ranges import IPAddress
from kube.runtime import files


class Aliases:
    """The names of one network."""

    def __init__(self, data_dir: str, network: str) -> None:
        self._folder = Path(data_dir) / f"{network}.aliases"

    def put(self, key: tuple[str, str], names: Sequence[str], addresses: Sequence[IPAddress]) -> None:
        """Publishes the names of a (sandbox, interface). Raises CniError."""
        lines = [f"# {' '.join(key)}", *(f"{address} {' '.join(names)}" for address in addresses)]
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            files.replace(self._path(key), ("\n".join(lines) + "\n").encode(), mode=0o644)
        except OSError as error:
            raise errors.CniError(errors.IO_FAILURE, "cannot store aliases", details=str(error)) from error

    def remove(self, key: tuple[str, str]) -> None:
        """Takes them back; none there is no error."""
        self._path(key).unlink(missing_ok=True)

    def has(self, key: tuple[str, str]) -> bool:
        """Whether names are published for a (sandbox, interface)."""
        return self._path(key).exists()

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        """Takes back those of every other (sandbox, interface)."""
        kept = {self._path(key) for key in valid}
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            if path not in kept:
                path.unlink(missing_ok=True)

    def _path(self, key: tuple[str, str]) -> Path:
        return self._folder / hashlib.sha256("/".join(key).encode()).hexdigest()[:16]
