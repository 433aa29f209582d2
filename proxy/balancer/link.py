"""Answering for addresses on a link: raw sockets that live exactly as long as this process does.

The kernel is given no address: what is asked of one of them on a port that no Service has reaches nobody here.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import socket
import struct
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address, ip_interface
from typing import Protocol

from kube.runtime.clock import Clock
from proxy import host
from proxy.balancer import neighbours

log = logging.getLogger(__name__)

SOL_PACKET, ADD_MEMBERSHIP, MULTICAST = 263, 1, 0
SO_ATTACH_FILTER = 26
GET_MAC = 0x8927
ANNOUNCEMENTS, PAUSE_SECONDS = 3, 0.3
READS_AT_ONCE = 64
FRAME_BYTES = 1514
# ldb [20] (next header); jne icmp6 -> drop; ldb [54] (type); jne solicitation -> drop; accept; drop
SOLICITATIONS = (
    (0x30, 0, 0, 20),
    (0x15, 0, 3, neighbours.ICMP6),
    (0x30, 0, 0, 54),
    (0x15, 0, 1, neighbours.SOLICITATION),
    (0x6, 0, 0, 0xFFFF),
    (0x6, 0, 0, 0),
)


class Link(Protocol):
    """Where addresses are answered for."""

    def answer_for(self, addresses: Collection[str]) -> None:
        """From now on these, and no others; those that are new are announced."""
        ...

    async def run(self) -> None:
        """Answers until cancelled."""
        ...


class RawLink:
    """The interfaces of this network namespace. `interface` "": the one whose network an address is in."""

    def __init__(self, *, interface: str, clock: Clock) -> None:
        self._interface = interface
        self._clock = clock
        self._places: dict[str, str] = {}
        self._ports: dict[tuple[str, int], _Port] = {}
        self._fresh: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._lost: set[str] = set()

    def answer_for(self, addresses: Collection[str]) -> None:
        gone = self._places.keys() - set(addresses)
        for address in gone:
            del self._places[address]
            self._fresh.pop(address, None)
        new = [address for address in addresses if address not in self._places]
        if new:
            try:
                self._locate(new)
            except OSError as error:
                log.warning("this machine's addresses cannot be read, nothing new is answered for: %s", error)
        self._changed.set()

    async def run(self) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                self._open()
                while self._fresh:
                    self._announce()
                    await self._clock.sleep(PAUSE_SECONDS)
        finally:
            for port in self._ports.values():
                port.close()
            self._ports.clear()

    def _locate(self, new: Collection[str]) -> None:
        found = locate(new, host.interface_addresses(), chosen=self._interface)
        for address in new:
            if address in found:
                self._places[address] = found[address]
                self._fresh[address] = ANNOUNCEMENTS
                self._lost.discard(address)
            elif address not in self._lost:
                self._lost.add(address)
                log.warning("%s is in no interface's network: name one (LoadBalancerConfiguration.interface)", address)

    def _open(self) -> None:
        for address, interface in self._places.items():
            kind = neighbours.IPV6 if ":" in address else neighbours.ARP
            port = self._ports.get((interface, kind))
            try:
                if port is None:
                    self._ports[interface, kind] = port = _Port(interface, kind, self._asked)
                if kind == neighbours.IPV6:
                    port.join(neighbours.solicited_group(address))
            except OSError as error:
                log.warning("%s cannot be answered for on %s: %s", address, interface, error)

    def _announce(self) -> None:
        for address in list(self._fresh):
            kind = neighbours.IPV6 if ":" in address else neighbours.ARP
            port = self._ports.get((self._places.get(address, ""), kind))
            if port is not None:
                port.send(neighbours.announcement(address, port.mac))
            self._fresh[address] -= 1
            if not self._fresh[address]:
                del self._fresh[address]

    def _asked(self, port: "_Port", frame: bytes) -> None:
        asked = neighbours.question(frame)
        if asked is not None and self._places.get(asked.address) == port.interface:
            port.send(neighbours.answer(asked, port.mac))


class _Port:
    """A raw socket of one interface, read by the running loop."""

    def __init__(self, interface: str, kind: int, asked: "Callable[[_Port, bytes], None]") -> None:
        self.interface = interface
        self._asked = asked
        self._groups: set[bytes] = set()
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.htons(kind)
        )
        try:
            if kind == neighbours.IPV6:
                _filter(self._socket)
            self._socket.bind((interface, kind))
            self.mac = fcntl.ioctl(self._socket, GET_MAC, struct.pack("256s", interface.encode()[:15]))[18:24]
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def join(self, group: bytes) -> None:
        """Has the interface take frames to a group."""
        if group not in self._groups:
            request = struct.pack("iHH8s", socket.if_nametoindex(self.interface), MULTICAST, 6, group)
            self._socket.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, request)
            self._groups.add(group)

    def send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # the asker asks again
            self._socket.send(frame)

    def _readable(self) -> None:
        for _ in range(READS_AT_ONCE):
            try:
                frame = self._socket.recv(FRAME_BYTES)
            except OSError:
                return
            self._asked(self, frame)


def locate(wanted: Collection[str], present: Collection[tuple[str, str]], *, chosen: str) -> Mapping[str, str]:
    """Address -> interface; `present` are (interface, `address/prefix`) of this machine. PURE."""
    found = {}
    for text in wanted:
        address = ip_address(text)
        if chosen:
            found[text] = chosen
            continue
        for interface, held in present:
            network = ip_interface(held).network
            if network.version == address.version and address in network and network.prefixlen < network.max_prefixlen:
                found[text] = interface
                break
    return found


def _filter(opened: socket.socket) -> None:
    """Only solicitations reach us, not all of the machine's IPv6 traffic."""
    code = b"".join(struct.pack("HBBI", *step) for step in SOLICITATIONS)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(SOLICITATIONS), ctypes.addressof(buffer))
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
