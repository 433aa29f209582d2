"""Who holds which port of the node: records on disk, and the rules made of all of them in one transaction.

`<data_dir>/<network>.ports/<hash>` holds one interface's record as JSON; the record is written before the rules and
removed after them, so DEL and GC find what to undo without the runtime's help. Blocking: use it from a thread.
"""

import fcntl
import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from cni import errors, sysctls
from cni.capabilities import PortMapping
from cni.ports import ruleset
from cni.ports.ruleset import Record
from kube.runtime import conntrack
from kube.runtime.nfelements import PROTOCOLS

log = logging.getLogger(__name__)

NFT = "/usr/sbin/nft"
TIMEOUT_SECONDS = 20.0


class Ports(Protocol):
    """Publishing ports of the node. Every method is safe between processes."""

    def publish(self, record: Record, *, bridge: str) -> None:
        """Leads the record's ports to its addresses. Raises CniError, also for a port that another one holds."""
        ...

    def withdraw(self, *, container_id: str, ifname: str) -> None:
        """Takes back what the interface has published; nothing published is no error."""
        ...

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        """Takes back what every other (sandbox, interface) has published, and puts the rules in again."""
        ...

    def published(self) -> Sequence[Record]:
        """All records."""
        ...


def folder(data_dir: str, network: str) -> Path:
    """Where the records of a network lie: beside its leases."""
    return Path(data_dir) / f"{network}.ports"


class NftPorts:
    """Ports by nftables."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, record: Record, *, bridge: str) -> None:
        with self._locked():
            path = self._path(record.container_id, record.ifname)
            others = [r for r in self.published() if self._path(r.container_id, r.ifname) != path]
            wanted = ruleset.text([*others, record])
            _replace(path, _encode(record))
            try:
                _apply(wanted)
                _allow_loopback(record, bridge)
            except BaseException:
                path.unlink(missing_ok=True)
                _apply(ruleset.text(others))
                raise
        _forget_flows(record)

    def withdraw(self, *, container_id: str, ifname: str) -> None:
        path = self._path(container_id, ifname)
        if not path.exists():
            return
        with self._locked():
            record = _decode(path)
            _apply(ruleset.text([r for r in self.published() if (r.container_id, r.ifname) != (container_id, ifname)]))
            path.unlink(missing_ok=True)
        if record:
            _forget_flows(record)

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        if not self._folder.is_dir():
            return
        with self._locked():
            records = self.published()
            kept = [record for record in records if (record.container_id, record.ifname) in valid]
            _apply(ruleset.text(kept))
            for record in records:
                if record not in kept:
                    self._path(record.container_id, record.ifname).unlink(missing_ok=True)

    def restore(self) -> None:
        """Puts the rules in again, for those who flushed them."""
        if self.published():
            self.keep_only({(record.container_id, record.ifname) for record in self.published()})

    def published(self) -> Sequence[Record]:
        if not self._folder.is_dir():
            return []
        paths = sorted(path for path in self._folder.iterdir() if path.suffix == ".json")
        return [record for path in paths if (record := _decode(path))]

    def _path(self, container_id: str, ifname: str) -> Path:
        return self._folder / (hashlib.sha256(f"{container_id}/{ifname}".encode()).hexdigest()[:16] + ".json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise errors.CniError(errors.IO_FAILURE, "cannot open the store of ports", details=str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _apply(text: str) -> None:
    try:
        subprocess.run([NFT, "-f", "-"], input=text.encode(), check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()
        raise errors.CniError(errors.PORTS_FAILURE, "cannot publish host ports", details=words) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.CniError(errors.PORTS_FAILURE, "cannot publish host ports", details=str(error)) from error


def _allow_loopback(record: Record, bridge: str) -> None:
    if any(address.version == 4 for address in record.addresses):
        sysctls.put(f"ipv4/conf/{bridge}/route_localnet", "1")


def _forget_flows(record: Record) -> None:
    """A UDP sender that does not stop would be led to the old pod, or past the new one, for ever."""
    published = {
        (mapping.host_port, str(mapping.host_ip) if mapping.host_ip and not mapping.host_ip.is_unspecified else "")
        for mapping in record.ports
        if mapping.protocol == "udp"
    }
    if not published:
        return

    def concerns(entry: conntrack.Entry) -> bool:
        port, to = entry.original.destination_port, entry.original.destination
        return entry.protocol == PROTOCOLS["udp"] and bool({(port, ""), (port, to)} & published)

    try:
        for version in {address.version for address in record.addresses}:
            conntrack.delete(version, concerns)
    except OSError as error:
        log.warning("flows to the UDP ports of %s keep their old way: %s", record.container_id, error)


def _encode(record: Record) -> bytes:
    ports = [[p.protocol, p.host_port, p.container_port, str(p.host_ip or "")] for p in record.ports]
    addresses = [str(address) for address in record.addresses]
    body = {"version": 1, "containerID": record.container_id, "ifname": record.ifname}
    return json.dumps(body | {"addresses": addresses, "ports": ports}).encode()


def _decode(path: Path) -> Record | None:
    try:
        body = json.loads(path.read_bytes())
        return Record(
            container_id=body["containerID"],
            ifname=body["ifname"],
            addresses=tuple(map(ip_address, body["addresses"])),
            ports=tuple(PortMapping(p, h, c, ip_address(ip) if ip else None) for p, h, c, ip in body["ports"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("a record of host ports cannot be read and is left out: %s: %s", path, error)
        return None


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise errors.CniError(errors.IO_FAILURE, f"cannot store {path}", details=str(error)) from error
