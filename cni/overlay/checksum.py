"""Checksum offload of a VXLAN device, which kernels before 5.7 get wrong for translated packets (63 s of silence).

Owns the ethtool request (numbers from linux/ethtool.h, linux/sockios.h). Must not know peers.
"""

import array
import fcntl
import re
import socket
import struct

SIOCETHTOOL = 0x8946
GET_TX_CHECKSUM, SET_TX_CHECKSUM = 0x16, 0x17
RIGHT_SINCE = (5, 7)


def is_wrong(release: str) -> bool:
    """Whether a kernel of this release (as `uname -r` says it) corrupts such packets. PURE."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) < RIGHT_SINCE


def turn_off(ifname: str) -> None:
    """Lets the processor compute checksums. Raises OSError."""
    _ethtool(ifname, SET_TX_CHECKSUM, 0)


def is_on(ifname: str) -> bool:
    """Whether the device computes checksums. Raises OSError."""
    return bool(_ethtool(ifname, GET_TX_CHECKSUM, 0))


def _ethtool(ifname: str, command: int, value: int) -> int:
    data = array.array("I", [command, value])
    request = struct.pack("16sP16x", ifname.encode(), data.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, SIOCETHTOOL, request)
    return data[1]
