"""Frames of ARP (RFC 826) and of neighbour discovery (RFC 4861): the question for an address, and our answer. PURE."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ARP, IPV6 = 0x0806, 0x86DD
ETHERNET = struct.Struct("!6s6sH")
ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6
NOBODY = b"\0" * 6
ICMP6, SOLICITATION, ADVERTISEMENT = 58, 135, 136
SOURCE_LINK, TARGET_LINK = 1, 2
SOLICITED, OVERRIDE = 0x40000000, 0x20000000
ALL_NODES = IPv6Address("ff02::1")
HOPS = 255
"""Neighbours' messages have travelled no hop; others are forged."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks (link and network address, the latter unspecified while it is being tried), and for which address."""

    mac: bytes
    asker: IPv4Address | IPv6Address
    address: str


def question(frame: bytes) -> Question | None:
    """What a frame asks; None for anything else, malformed ones too."""
    if len(frame) < ETHERNET.size:
        return None
    _, sender, kind = ETHERNET.unpack_from(frame)
    body = frame[ETHERNET.size :]
    try:
        if kind == ARP:
            return _arp(body)
        return _solicitation(sender, body) if kind == IPV6 else None
    except (struct.error, ValueError):
        return None


def answer(asked: Question, mac: bytes) -> bytes:
    """Our link address for the address that was asked for."""
    if isinstance(asked.asker, IPv4Address):
        target = ip_address(asked.address).packed
        body = ARP_BODY.pack(1, 0x0800, 6, 4, REPLY, mac, target, asked.mac, asked.asker.packed)
        return ETHERNET.pack(asked.mac, mac, ARP) + body
    trying = asked.asker.is_unspecified
    to = ALL_NODES if trying else asked.asker
    flags = OVERRIDE if trying else OVERRIDE | SOLICITED
    return _advertisement(
        IPv6Address(asked.address), mac, to=to, mac_to=multicast(to) if trying else asked.mac, flags=flags
    )


def announcement(address: str, mac: bytes) -> bytes:
    """To all: this address is here from now on (gratuitous ARP, unsolicited advertisement)."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        body = ARP_BODY.pack(1, 0x0800, 6, 4, REQUEST, mac, parsed.packed, NOBODY, parsed.packed)
        return ETHERNET.pack(BROADCAST, mac, ARP) + body
    return _advertisement(parsed, mac, to=ALL_NODES, mac_to=multicast(ALL_NODES), flags=OVERRIDE)


def multicast(address: IPv6Address) -> bytes:
    """The link address of an IPv6 group (RFC 2464)."""
    return b"\x33\x33" + address.packed[-4:]


def solicited_group(address: str) -> bytes:
    """The link address that questions for an IPv6 address are sent to."""
    return b"\x33\x33\xff" + ip_address(address).packed[-3:]


def _arp(body: bytes) -> Question | None:
    hardware, network, _, _, operation, mac, asker, _, target = ARP_BODY.unpack_from(body)
    if (hardware, network, operation) != (1, 0x0800, REQUEST) or asker == target:
        return None
    return Question(mac, IPv4Address(asker), str(IPv4Address(target)))


def _solicitation(sender: bytes, body: bytes) -> Question | None:
    if len(body) < 64 or body[0] >> 4 != 6 or body[6] != ICMP6 or body[7] != HOPS or body[40] != SOLICITATION:
        return None
    asker, message = IPv6Address(body[8:24]), body[40 : 40 + int.from_bytes(body[4:6], "big")]
    if checksum(body[8:24], body[24:40], message):
        return None
    mac = sender
    if message[24:26] == bytes((SOURCE_LINK, 1)) and len(message) >= 32:
        mac = message[26:32]
    return Question(mac, asker, str(IPv6Address(message[8:24])))


def _advertisement(address: IPv6Address, mac: bytes, *, to: IPv6Address, mac_to: bytes, flags: int) -> bytes:
    message = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, flags) + address.packed + bytes((TARGET_LINK, 1)) + mac
    found = checksum(address.packed, to.packed, message)
    message = message[:2] + found.to_bytes(2, "big") + message[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), ICMP6, HOPS) + address.packed + to.packed
    return ETHERNET.pack(mac_to, mac, IPV6) + head + message


def checksum(source: bytes, to: bytes, message: bytes) -> int:
    """ICMPv6's, over the pseudo header; 0 for a message whose own is right."""
    data = source + to + struct.pack("!II", len(message), ICMP6) + message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
