"""Limits of bandwidth over rtnetlink: token buckets, and the turn of incoming packets to an ifb device. PURE.

Numbers and structures from linux/pkt_sched.h, linux/pkt_cls.h and linux/tc_act/tc_mirred.h.
"""

import struct

from cni.netlink.interfaces import IFLA_IFNAME, IFLA_LINKINFO, IFLA_MTU, INFO_KIND, NEWLINK, interface_head
from cni.netlink.wire import CREATE, EXCL, REPLACE, Message, attribute, nested, number, text

NEWQDISC, NEWTFILTER = 36, 44
TCA_KIND, TCA_OPTIONS = 1, 2
TBF_PARMS, TBF_RATE64, TBF_BURST = 1, 4, 6
U32_SELECTOR, U32_ACT, ACT_KIND, ACT_OPTIONS, MIRRED_PARMS = 5, 7, 1, 2, 2
ROOT, INGRESS, INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
ACTION_STOLEN, EGRESS_REDIRECT = 4, 1
ETHERNET = 1
ALL_PROTOCOLS = 0x0003
# A u32 selector that ends the search (flag 1), with one key that matches always; not every kernel has `matchall`.
EVERYTHING = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
PRIORITY = 1
HEAD = struct.Struct("=BBHiIII")
# cell_log, linklayer, overhead, cell_align, mpu, rate
RATE = struct.Struct("=BBHhHI")
TICK_NANOSECONDS = 64
# How long a packet may wait for tokens before it is dropped.
LATENCY_SECONDS = 0.025


def new_ifb(name: str, *, mtu: int) -> Message:
    """Creates the device that packets of a pod pass, so that a queue can hold them."""
    parts = interface_head(up=True) + text(IFLA_IFNAME, name) + (number(IFLA_MTU, mtu) if mtu else b"")
    parts += nested(IFLA_LINKINFO, text(INFO_KIND, "ifb"))
    return Message(NEWLINK, CREATE | EXCL, parts, f"create ifb {name}")


def token_bucket(index: int, *, rate: int, burst: int) -> Message:
    """Lets `rate` bytes a second out of an interface, and `burst` bytes at once."""
    limit = min(int(rate * LATENCY_SECONDS) + burst, 0xFFFFFFFF)
    whole = RATE.pack(0, ETHERNET, 0, 0, 0, min(rate, 0xFFFFFFFF))
    buffer = min(burst * 1_000_000_000 // rate // TICK_NANOSECONDS, 0xFFFFFFFF)
    parameters = whole + RATE.pack(0, 0, 0, 0, 0, 0) + struct.pack("=III", limit, buffer, 0)
    options = attribute(TBF_PARMS, parameters) + number(TBF_BURST, burst)
    options += attribute(TBF_RATE64, struct.pack("=Q", rate)) if rate > 0xFFFFFFFF else b""
    body = HEAD.pack(0, 0, 0, index, 0, ROOT, 0) + text(TCA_KIND, "tbf") + attribute(TCA_OPTIONS, options)
    return Message(NEWQDISC, CREATE | REPLACE, body, f"limit interface {index} to {rate} bytes/s")


def ingress(index: int) -> Message:
    """Makes the packets that come from an interface visible to filters."""
    body = HEAD.pack(0, 0, 0, index, INGRESS_HANDLE, INGRESS, 0) + text(TCA_KIND, "ingress")
    return Message(NEWQDISC, CREATE | EXCL, body, f"add ingress queue to interface {index}")


def redirect(index: int, *, to: int) -> Message:
    """Sends everything that comes from an interface through another one first."""
    mirred = struct.pack("=IIiiiiI", 0, 0, ACTION_STOLEN, 0, 0, EGRESS_REDIRECT, to)
    action = text(ACT_KIND, "mirred") + nested(ACT_OPTIONS, attribute(MIRRED_PARMS, mirred))
    options = attribute(U32_SELECTOR, EVERYTHING) + nested(U32_ACT, nested(1, action))
    info = (PRIORITY << 16) | (ALL_PROTOCOLS << 8)  # the protocol travels in network byte order
    body = HEAD.pack(0, 0, 0, index, 0, INGRESS_HANDLE, info) + text(TCA_KIND, "u32")
    return Message(
        NEWTFILTER, CREATE | EXCL, body + nested(TCA_OPTIONS, options), f"redirect interface {index} to {to}"
    )
