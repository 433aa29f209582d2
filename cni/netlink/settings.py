"""Settings of interfaces as rtnetlink tells of them (linux/netconf.h). PURE.

Must not know pods or CNI.
"""

import struct

from cni.netlink.wire import attributes

NEWNETCONF = 80
NETCONF_HEADER_BYTES = 4
IFINDEX, FORWARDING = 1, 2
ALL = -1


def stops_forwarding(body: bytes) -> bool:
    """Whether a RTM_NEWNETCONF says that the host as a whole forwards no more."""
    found = attributes(body[NETCONF_HEADER_BYTES:])
    if not {IFINDEX, FORWARDING} <= found.keys():
        return False
    return struct.unpack("=i", found[IFINDEX])[0] == ALL and not any(found[FORWARDING])
