"""Which addresses are given out, on disk, in host-local's layout.

`<data_dir>/<network>/<address>` holds `<container id>\\r\\n<interface>`; `last_reserved_ip.<n>` the last address of
range set n; `lock` is held by flock for the length of one operation. A lease is written and synced before it is used,
so that no crash gives an address out twice. Must not know links.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Protocol

from cni import errors
from cni.ipam import ranges
from cni.ipam.ranges import IPAddress, Range
from cni.result import Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An address that belongs to one interface of one sandbox."""

    address: IPAddress
    container_id: str
    ifname: str


class Leases(Protocol):
    """Where leases live. Every method is safe between processes."""

    def allocate(
        self, sets: Sequence[Sequence[Range]], *, container_id: str, ifname: str, wanted: Sequence[IPAddress] = ()
    ) -> list[tuple[Interface, IPAddress]]:
        """One address per range set with its gateway, a `wanted` one where it belongs to the set.

        Raises CniError when a set is used up, a wanted address cannot be had, or the interface has a lease.
        """
        ...

    def release(self, *, container_id: str, ifname: str) -> list[IPAddress]:
        """Gives back what the interface holds; nothing held is no error."""
        ...

    def held(self) -> list[Lease]:
        """Every lease of the network."""
        ...


class DiskLeases:
    """Leases in files. Blocking: call it from a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def allocate(
        self, sets: Sequence[Sequence[Range]], *, container_id: str, ifname: str, wanted: Sequence[IPAddress] = ()
    ) -> list[tuple[Interface, IPAddress]]:
        chosen = ranges.choose(sets, wanted)
        with self._locked():
            if any(lease.container_id == container_id and lease.ifname == ifname for lease in self.held()):
                raise errors.CniError(
                    errors.INVALID_CONFIG, f"{ifname} of {container_id} already has an address", details="DEL it first"
                )
            taken: list[tuple[Interface, IPAddress]] = []
            try:
                content = f"{container_id}\r\n{ifname}".encode()
                for number, entries in enumerate(sets):
                    address = chosen.get(number)
                    taken.append(
                        self._take_one(address, entries, content=content)
                        if address
                        else self._take(number, entries, content=content)
                    )
            except BaseException:
                for interface, _ in taken:
                    self._path(interface.ip).unlink(missing_ok=True)
                raise
            return taken

    def release(self, *, container_id: str, ifname: str) -> list[IPAddress]:
        if not self._folder.is_dir():
            return []
        with self._locked():
            mine = [
                lease.address for lease in self.held() if (lease.container_id, lease.ifname) == (container_id, ifname)
            ]
            for address in mine:
                self._path(address).unlink(missing_ok=True)
            return mine

    def held(self) -> list[Lease]:
        try:
            entries = [(entry.name, entry.path) for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
        return list(_leases(entries))

    def _take(self, number: int, entries: Sequence[Range], *, content: bytes) -> tuple[Interface, IPAddress]:
        last = self._last(number)
        for address, entry in ranges.candidates(entries, last=last):
            if self._reserve(address, content):
                self._remember(number, address)
                return ip_interface(f"{address}/{entry.subnet.prefixlen}"), entry.gateway
        raise errors.CniError(
            errors.ADDRESSES_EXHAUSTED, "no IP addresses available", details=_used(number, entries, self.held())
        )

    def _take_one(self, address: IPAddress, entries: Sequence[Range], *, content: bytes) -> tuple[Interface, IPAddress]:
        entry = next(entry for entry in entries if address in entry)
        if not self._reserve(address, content):
            holder = next((lease.container_id for lease in self.held() if lease.address == address), "another")
            raise errors.CniError(
                errors.ADDRESSES_EXHAUSTED, f"requested address {address} is in use", details=f"by sandbox {holder}"
            )
        return ip_interface(f"{address}/{entry.subnet.prefixlen}"), entry.gateway

    def _reserve(self, address: IPAddress, content: bytes) -> bool:
        """Written and synced under another name first: a crash between the two would leave a lease of nobody."""
        path, fresh = self._path(address), self._folder / "lease.new"
        if path.exists():
            return False
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.link(fresh, path)
            os.unlink(fresh)
        except FileExistsError:
            return False
        except OSError as error:
            raise errors.CniError(errors.IO_FAILURE, f"cannot store the lease {path}", details=str(error)) from error
        return True

    def _last(self, number: int) -> IPAddress | None:
        try:
            return ip_address((self._folder / f"last_reserved_ip.{number}").read_text().strip())
        except (FileNotFoundError, ValueError):
            return None

    def _remember(self, number: int, address: IPAddress) -> None:
        # Only a hint for round-robin: a torn write costs nothing, so it is not synced.
        (self._folder / f"last_reserved_ip.{number}").write_text(str(address))

    def _path(self, address: IPAddress) -> Path:
        return self._folder / str(address)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise errors.CniError(errors.IO_FAILURE, "cannot open the address store", details=str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _used(number: int, entries: Sequence[Range], held: Sequence[Lease]) -> str:
    spans = ", ".join(f"{entry.start}-{entry.end}" for entry in entries)
    mine = [lease for lease in held if any(lease.address in entry for entry in entries)]
    sandboxes = {lease.container_id for lease in mine}
    return f"range set {number} ({spans}): {len(mine)} used by {len(sandboxes)} sandboxes"


def _leases(entries: Iterable[tuple[str, str]]) -> Iterator[Lease]:
    for name, path in entries:
        try:
            address = ip_address(name)
            lines = Path(path).read_text().splitlines()
        except (ValueError, FileNotFoundError):
            continue
        container_id, ifname = (lines[0].strip() if lines else ""), (lines[1].strip() if len(lines) > 1 else "eth0")
        yield Lease(address=address, container_id=container_id, ifname=ifname)
