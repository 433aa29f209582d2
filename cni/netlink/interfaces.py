"""Interfaces over rtnetlink: bridges, pairs, VXLAN devices (numbers from linux/if_link.h, veth.h). PURE.

Must not know pods or CNI.
"""

import errno
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from cni.netlink.wire import (
    CREATE,
    DUMP,
    EXCL,
    IPAddress,
    Message,
    attribute,
    attributes,
    each_attribute,
    mac_bytes,
    nested,
    number,
    text,
)

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_GROUP, IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 27, 28
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
BRPORT_STATE, BRPORT_HAIRPIN = 1, 4
FORWARDING = 3
IFF_UP = 0x1
VXLAN_ID, VXLAN_LINK, VXLAN_LOCAL, VXLAN_LEARNING, VXLAN_PORT, VXLAN_LOCAL6 = 1, 3, 4, 7, 15, 17
GONE = frozenset({errno.ENODEV, errno.ENOENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Vxlan:
    """What makes a VXLAN device what it is; a change of any of it needs a new device."""

    identifier: int
    parent: int
    local: IPAddress | None
    port: int
    learning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """An interface as the kernel reports it; `forwarding`: a bridge port through which packets go."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    master: int
    kind: str = ""
    vxlan: Vxlan | None = None
    forwarding: bool = False


def interface_head(*, index: int = 0, up: bool = False) -> bytes:
    """The ifinfomsg that begins every message about an interface."""
    flags = IFF_UP if up else 0
    return struct.pack("=BBHiII", 0, 0, 0, index, flags, flags)


def new_bridge(name: str, *, mtu: int, mac: str) -> Message:
    """Creates a bridge that is up, with a fixed MAC (else it changes as ports come and go)."""
    parts = interface_head(up=True) + text(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, mac_bytes(mac))
    parts += number(IFLA_MTU, mtu) if mtu else b""
    parts += nested(IFLA_LINKINFO, text(INFO_KIND, "bridge"))
    return Message(NEWLINK, CREATE | EXCL, parts, f"create bridge {name}")


def new_veth(name: str, *, mac: str, peer: str, peer_mac: str, peer_netns: int, master: int, mtu: int) -> Message:
    """Creates a pair in one message: the host end up and in its bridge, the peer already in the pod's namespace."""
    size = number(IFLA_MTU, mtu) if mtu else b""
    other = interface_head() + text(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, mac_bytes(peer_mac)) + size
    other += number(IFLA_NET_NS_FD, peer_netns)
    parts = interface_head(up=True) + text(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, mac_bytes(mac)) + size
    parts += number(IFLA_MASTER, master)
    parts += nested(IFLA_LINKINFO, text(INFO_KIND, "veth"), nested(INFO_DATA, attribute(VETH_INFO_PEER, other)))
    return Message(NEWLINK, CREATE | EXCL, parts, f"create veth {name}")


def new_vxlan(name: str, *, mac: str, mtu: int, vxlan: Vxlan) -> Message:
    """Creates a VXLAN device that is up and learns nothing: every peer is told to it."""
    local = vxlan.local
    data = number(VXLAN_ID, vxlan.identifier) + number(VXLAN_LINK, vxlan.parent)
    if local:
        data += attribute(VXLAN_LOCAL if local.version == 4 else VXLAN_LOCAL6, local.packed)
    data += attribute(VXLAN_LEARNING, bytes([vxlan.learning])) + attribute(VXLAN_PORT, struct.pack("!H", vxlan.port))
    parts = interface_head(up=True) + text(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, mac_bytes(mac))
    parts += number(IFLA_MTU, mtu) + nested(IFLA_LINKINFO, text(INFO_KIND, "vxlan"), nested(INFO_DATA, data))
    return Message(NEWLINK, CREATE | EXCL, parts, f"create VXLAN device {name}")


def set_mtu(index: int, *, mtu: int) -> Message:
    """Changes an interface's MTU in bytes."""
    return Message(
        NEWLINK, 0, interface_head(index=index) + number(IFLA_MTU, mtu), f"set MTU {mtu} on interface {index}"
    )


def set_hairpin(name: str) -> Message:
    """Lets a bridge port send a frame back where it came from: a pod that reaches itself through its Service."""
    slave = nested(INFO_SLAVE_DATA, attribute(BRPORT_HAIRPIN, b"\x01"))
    parts = interface_head() + text(IFLA_IFNAME, name) + nested(IFLA_LINKINFO, text(INFO_SLAVE_KIND, "bridge"), slave)
    return Message(NEWLINK, 0, parts, f"set hairpin on {name}")


def join(index: int, *, master: int) -> Message:
    """Makes an interface a bridge port that is up; one that is gone meanwhile is no failure."""
    parts = interface_head(index=index, up=True) + number(IFLA_MASTER, master)
    return Message(NEWLINK, 0, parts, f"make interface {index} a bridge port", GONE)


def link_up(index: int) -> Message:
    """Brings an interface up."""
    return Message(NEWLINK, 0, interface_head(index=index, up=True), f"bring up interface {index}")


def delete_link(name: str) -> Message:
    """Removes an interface (and its veth peer); one that is gone is no failure."""
    return Message(DELLINK, 0, interface_head() + text(IFLA_IFNAME, name), f"delete interface {name}", GONE)


def set_group(name: str, *, group: int) -> Message:
    """Puts an interface into a group; one that is gone is no failure."""
    # Not NEWLINK: that one, for an interface that is gone, would change all that are in the group.
    parts = interface_head() + text(IFLA_IFNAME, name) + number(IFLA_GROUP, group)
    return Message(SETLINK, 0, parts, f"put {name} into group {group}", GONE)


def delete_group(group: int) -> Message:
    """Removes all interfaces of a group (and veth peers) together: the kernel waits for the processors once."""
    return Message(DELLINK, 0, interface_head() + number(IFLA_GROUP, group), f"delete group {group}", GONE)


def get_link(name: str) -> Message:
    """Asks for one interface."""
    return Message(GETLINK, 0, interface_head() + text(IFLA_IFNAME, name), f"look up interface {name}")


def dump_links() -> Message:
    """Asks for all interfaces."""
    return Message(GETLINK, DUMP, interface_head(), "list interfaces")


def parse_link(body: bytes) -> LinkState:
    """A RTM_NEWLINK reply."""
    _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", body)
    found = attributes(body[16:])
    information = attributes(found.get(IFLA_LINKINFO, b""))
    kind = information.get(INFO_KIND, b"").rstrip(b"\0").decode()
    return LinkState(
        index=index,
        name=found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=int.from_bytes(found.get(IFLA_MTU, b""), "little"),
        up=bool(flags & IFF_UP),
        master=int.from_bytes(found.get(IFLA_MASTER, b""), "little"),
        kind=kind,
        vxlan=_vxlan(information.get(INFO_DATA, b"")) if kind == "vxlan" else None,
        forwarding=attributes(information.get(INFO_SLAVE_DATA, b"")).get(BRPORT_STATE, b"\0")[0] == FORWARDING,
    )


def link_identity(body: bytes) -> tuple[int, str]:
    """Index and name of a RTM_NEWLINK or RTM_DELLINK, without reading the rest: the name comes first as a rule."""
    index: int = struct.unpack_from("=i", body, 4)[0]
    name = next((value for kind, value in each_attribute(body[16:]) if kind == IFLA_IFNAME), b"")
    return index, name.rstrip(b"\0").decode()


def _vxlan(data: bytes) -> Vxlan:
    found = attributes(data)
    local = found.get(VXLAN_LOCAL) or found.get(VXLAN_LOCAL6)
    return Vxlan(
        identifier=int.from_bytes(found.get(VXLAN_ID, b""), "little"),
        parent=int.from_bytes(found.get(VXLAN_LINK, b""), "little"),
        local=ip_address(local) if local else None,
        port=int.from_bytes(found.get(VXLAN_PORT, b""), "big"),
        learning=bool(found.get(VXLAN_LEARNING, b"\0")[0]),
    )
