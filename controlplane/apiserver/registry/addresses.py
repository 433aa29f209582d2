"""IP addresses and blocks: which text is legal in a new object.

Owns the strict reading of addresses (no leading zeros, no IPv4-mapped IPv6, no bits beyond the prefix).
Must not know fields' meaning.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from controlplane.apiserver.registry import field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NOT_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_LEADING_ZERO = re.compile(r"(^|\.)0[0-9]")


@lru_cache(4096)
def parse(text: str) -> Address | None:
    """The address, or None for anything else; leading zeros and zones are refused."""
    try:
        return ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def ip(path: str, text: str) -> field.Errors:
    """Faults of an address of either family."""
    address = parse(text)
    if address is None:
        zeros = _LEADING_ZERO.search(text) and parse(_LEADING_ZERO.sub(r"\g<1>1", text))
        return [field.invalid(path, text, "must not have leading 0s" if zeros else _NOT_IP)]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return [field.invalid(path, text, "must not be an IPv4-mapped IPv6 address")]
    return []


def ip_of_family(path: str, text: str, version: int) -> field.Errors:
    """Faults of an address that must be IPv4 (4) or IPv6 (6)."""
    address = parse(text)
    if address is None or address.version != version:
        return [field.invalid(path, text, f"must be a valid IPv{version} address")]
    return []


def cidr(path: str, text: str) -> field.Errors:
    """Faults of an address block."""
    try:
        interface = ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        interface = None
    if interface is None:
        return [field.invalid(path, text, _NOT_CIDR)]
    if interface.ip != interface.network.network_address:
        return [field.invalid(path, text, "must not have bits set beyond the prefix length")]
    return []


def ordinary(path: str, text: str) -> field.Errors:
    """Faults of an address that traffic is sent to: unspecified, loopback and link-local are refused."""
    address = parse(text)
    if address is None:
        return [field.invalid(path, text, "must be a valid IP address")]
    errors: field.Errors = []
    if address.is_unspecified:
        errors.append(field.invalid(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback:
        errors.append(field.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        errors.append(field.invalid(path, text, why))
    if _link_local_multicast(address):
        why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(field.invalid(path, text, why))
    return errors


def _link_local_multicast(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.packed[:3] == b"\xe0\x00\x00"
    return address.packed[:2] == b"\xff\x02"


def one_of_each_family(texts: list[str]) -> bool:
    """True when all parse and both families are present."""
    versions = {address.version for text in texts if (address := parse(text))}
    return len(versions) == 2


def inside(inner: str, outer: str) -> bool:
    """True when a valid block is a real part of another."""
    small, large = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    if small.version != large.version or small.prefixlen <= large.prefixlen:
        return False
    return large.network_address <= small.network_address <= large.broadcast_address  # type: ignore[operator]
