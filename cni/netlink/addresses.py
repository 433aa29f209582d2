"""Addresses of interfaces over rtnetlink (numbers from linux/if_addr.h). PURE."""

import errno
import socket
import struct

from cni.netlink.wire import CREATE, DUMP, REPLACE, Message, attribute, attributes, number
from cni.result import Interface

NEWADDR, DELADDR, GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x2
SCOPE_UNIVERSE = 0
GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})


def new_address(interface: Interface, *, index: int) -> Message:
    """Gives an interface an address; IPv6 without duplicate detection, which would delay the pod by a second."""
    raw = interface.ip.packed
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, interface.network.prefixlen, 0, SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    if interface.version == 4 and interface.network.prefixlen < 31:
        body += attribute(IFA_BROADCAST, interface.network.broadcast_address.packed)
    elif interface.version == 6:
        body += number(IFA_FLAGS, IFA_F_NODAD)
    return Message(NEWADDR, CREATE | REPLACE, body, f"add address {interface}")


def delete_address(interface: Interface, *, index: int) -> Message:
    """Takes an address from an interface; one that is gone is no failure."""
    raw = interface.ip.packed
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, interface.network.prefixlen, 0, SCOPE_UNIVERSE, index)
    return Message(DELADDR, 0, body + attribute(IFA_LOCAL, raw), f"delete address {interface}", GONE)


def dump_addresses() -> Message:
    """Asks for all addresses of both families."""
    return Message(GETADDR, DUMP, struct.pack("=BBBBI", 0, 0, 0, 0, 0), "list addresses")


def parse_address(body: bytes) -> tuple[int, str]:
    """A RTM_NEWADDR reply as (interface index, `address/prefix`)."""
    family, prefix, _, _, index = struct.unpack_from("=BBBBI", body)
    found = attributes(body[8:])
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")
    return index, f"{socket.inet_ntop(family, raw)}/{prefix}"
