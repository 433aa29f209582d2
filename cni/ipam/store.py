"""Which addresses are given out, on disk, in host-local's layout.

`<data_dir>/<network>/<address>` holds `<container id>\\r\\n<interface>`; `last_reserved_ip.<n>` the last address of
range set n; `lock` is held by flock for the length of one operation. A lease is whole when it appears. It goes to disk
at once, but nobody waits: no pod outlives a loss of power. Must not know links.
"""

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Protocol

from cni import errors
from cni.ipam import ranges
from cni.ipam.ranges import IPAddress, Range
from cni.result import Interface

log = logging.getLogger(__name__)

LEASE_BYTES = 4096
# host-local once wrote the sandbox alone.
OLD_IFNAME = "eth0"


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
            content = f"{container_id}\r\n{ifname}".encode()
            if self._of(container_id, ifname):
                raise errors.CniError(
                    errors.INVALID_CONFIG, f"{ifname} of {container_id} already has an address", details="DEL it first"
                )
            taken: list[tuple[Interface, IPAddress]] = []
            try:
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
            mine = self._of(container_id, ifname)
            for address in mine:
                self._path(address).unlink(missing_ok=True)
            return mine

    def held(self) -> list[Lease]:
        try:
            entries = [(entry.name, entry.path) for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
        return list(_leases(entries))

    def _of(self, container_id: str, ifname: str) -> list[IPAddress]:
        """What an interface holds; as bytes, since there may be hundreds of leases."""
        words = [container_id.encode(), ifname.encode()]
        wanted = (words, words[:1]) if ifname == OLD_IFNAME else (words,)
        mine = [e.name for e in os.scandir(self._folder) if _is_address(e.name) and _read(e.path).split() in wanted]
        return [ip_address(name) for name in mine]

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
        """Written under another name first: a crash between the two would leave a lease of nobody.

        An empty one is what a loss of power left of a lease that nobody was told of.
        """
        path, fresh = self._path(address), self._folder / "lease.new"
        try:
            if path.exists():
                if path.stat().st_size:
                    return False
                path.unlink()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, content)
                os.link(fresh, path)
                os.unlink(fresh)
            except BaseException:
                os.close(descriptor)
                raise
            threading.Thread(target=_sync, args=(descriptor, path), name="lease-sync").start()
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

    @contextlib.contextmanager
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


def _sync(descriptor: int, path: Path) -> None:
    """Brings a file to disk, and closes it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        log.warning("the lease %s is not on disk: %s", path, error)
    finally:
        os.close(descriptor)


def _is_address(name: str) -> bool:
    """Beside leases there are only `lock`, `lease.new` and `last_reserved_ip.<n>`."""
    return name[0].isdigit() or ":" in name


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(descriptor, LEASE_BYTES)
    finally:
        os.close(descriptor)


def _used(number: int, entries: Sequence[Range], held: Sequence[Lease]) -> str:
    spans = ", ".join(f"{entry.start}-{entry.end}" for entry in entries)
    mine = [lease for lease in held if any(lease.address in entry for entry in entries)]
    sandboxes = {lease.container_id for lease in mine}
    return f"range set {number} ({spans}): {len(mine)} used by {len(sandboxes)} sandboxes"


def _leases(entries: Iterable[tuple[str, str]]) -> Iterator[Lease]:
    for name, path in entries:
        words = _read(path).decode(errors="replace").split() if _is_address(name) else []
        if words:
            with contextlib.suppress(ValueError):
                ifname = words[1] if len(words) > 1 else OLD_IFNAME
                yield Lease(address=ip_address(name), container_id=words[0], ifname=ifname)
