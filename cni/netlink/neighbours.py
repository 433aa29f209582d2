"""Neighbours (address -> MAC) and forwarding entries of a VXLAN device (MAC -> node). PURE.

Numbers from linux/neighbour.h. Both kinds travel in the same message, told apart by their family.
"""

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from cni.netlink.wire import CREATE, DUMP, REPLACE, IPAddress, Message, attribute, attributes, mac_bytes

NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NDA_DST, NDA_LLADDR = 1, 2
PERMANENT = 0x80
NTF_SELF = 0x02
HEAD = struct.Struct("=BBHiHBB")
GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourState:
    """An entry as the kernel reports it; `bridge` tells a forwarding entry from a neighbour."""

    interface: int
    bridge: bool
    address: IPAddress | None
    mac: str
    permanent: bool


def new_neighbour(address: IPAddress, *, mac: str, index: int) -> Message:
    """Adds or replaces a permanent neighbour: nobody is asked for the MAC."""
    return Message(
        NEWNEIGH, CREATE | REPLACE, _neighbour(address, mac=mac, index=index), f"add neighbour {address} at {mac}"
    )


def delete_neighbour(address: IPAddress, *, index: int) -> Message:
    """Removes a neighbour; one that is gone is no failure."""
    return Message(DELNEIGH, 0, _neighbour(address, mac="", index=index), f"delete neighbour {address}", GONE)


def new_forward(mac: str, *, remote: IPAddress, index: int) -> Message:
    """Adds or replaces a forwarding entry: frames for `mac` travel to the node at `remote`."""
    return Message(
        NEWNEIGH, CREATE | REPLACE, _forward(mac, remote=remote, index=index), f"add forwarding of {mac} to {remote}"
    )


def delete_forward(mac: str, *, remote: IPAddress, index: int) -> Message:
    """Removes a forwarding entry; one that is gone is no failure."""
    return Message(
        DELNEIGH, 0, _forward(mac, remote=remote, index=index), f"delete forwarding of {mac} to {remote}", GONE
    )


def dump_neighbours(version: int) -> Message:
    """Asks for the neighbours of one IP version."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Message(GETNEIGH, DUMP, HEAD.pack(family, 0, 0, 0, 0, 0, 0), "list neighbours")


def dump_forwards() -> Message:
    """Asks for all forwarding entries."""
    return Message(GETNEIGH, DUMP, HEAD.pack(socket.AF_BRIDGE, 0, 0, 0, 0, 0, 0), "list forwarding entries")


def parse_neighbour(body: bytes) -> NeighbourState:
    """A RTM_NEWNEIGH or RTM_DELNEIGH message."""
    family, _, _, index, state, _, _ = HEAD.unpack_from(body)
    found = attributes(body[HEAD.size :])
    raw = found.get(NDA_DST)
    return NeighbourState(
        interface=index,
        bridge=family == socket.AF_BRIDGE,
        address=ip_address(raw) if raw else None,
        mac=found.get(NDA_LLADDR, b"").hex(":"),
        permanent=bool(state & PERMANENT),
    )


def _neighbour(address: IPAddress, *, mac: str, index: int) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = HEAD.pack(family, 0, 0, index, PERMANENT, 0, 0) + attribute(NDA_DST, address.packed)
    return body + (attribute(NDA_LLADDR, mac_bytes(mac)) if mac else b"")


def _forward(mac: str, *, remote: IPAddress, index: int) -> bytes:
    head = HEAD.pack(socket.AF_BRIDGE, 0, 0, index, PERMANENT, NTF_SELF, 0)
    return head + attribute(NDA_LLADDR, mac_bytes(mac)) + attribute(NDA_DST, remote.packed)
