"""Elements of the proxy's sets and maps as the kernel's bytes, both ways. PURE.

Must not know netlink: messages, transactions and sockets are `kube.runtime.nfelements`.
"""

import socket
import struct
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from kube.runtime import nfelements
from kube.runtime.nfelements import PROTOCOLS, Held
from proxy.backends import elements
from proxy.backends.elements import Edit, Element

PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


def field(kind: str, value: str | int) -> bytes:
    """One field of a concatenated key or of data, padded to four bytes; kinds are those of `elements.KEYS`.

    A port is big-endian; an index is in host order, as numgen yields it; a block is its first address.
    """
    if kind == elements.PORT:
        return nfelements.port(int(value))
    if kind == elements.INDEX:
        return struct.pack("=I", value)
    if kind == elements.COUNT:
        return struct.pack("=I", elements.COUNT_CLASS << 16 | int(value))
    if kind == elements.PROTOCOL:
        return nfelements.protocol(str(value))
    if kind == elements.BLOCK:
        return elements.bounds(str(value))[0]
    given = str(value)
    return socket.inet_pton(socket.AF_INET6 if ":" in given else socket.AF_INET, given)


def unpack(kinds: Sequence[str], data: bytes, version: int) -> tuple[str | int, ...]:
    """The fields of a concatenation; a block is its first address."""
    values: list[str | int] = []
    offset = 0
    for kind in kinds:
        width = (4 if version == 4 else 16) if kind in (elements.ADDRESS, elements.BLOCK) else 4
        part = data[offset : offset + width]
        offset += width
        if kind == elements.PORT:
            values.append(int.from_bytes(part[:2], "big"))
        elif kind == elements.INDEX:
            values.append(int.from_bytes(part, sys.byteorder))
        elif kind == elements.COUNT:
            values.append(int.from_bytes(part, sys.byteorder) & 0xFFFF)
        elif kind == elements.PROTOCOL:
            values.append(PROTOCOL_NAMES[part[0]])
        else:
            values.append(str(ip_address(part)))
    return tuple(values)


def pack(edit: Edit) -> nfelements.Edit:
    """An edit as the kernel wants it."""
    element = edit.element
    kinds = elements.KEYS[element.set]
    end = b""
    if kinds[-1] == elements.BLOCK:
        end = b"".join(map(field, kinds[:-1], element.key)) + elements.bounds(str(element.key[-1]))[1]
    return nfelements.Edit(
        version=element.table_version,
        set=element.set,
        key=b"".join(map(field, kinds, element.key)),
        end=end,
        data=b"".join(map(field, elements.DATA.get(element.set, elements.ENDPOINT), element.data)),
        verdict=element.verdict if element.chain else "",
        chain=element.chain,
        timeout=element.timeout,
        expires=element.expires,
        delete=edit.delete,
        wanted=element,
    )


def read(name: str, version: int, held: Held) -> Element:
    """An element as the kernel holds it."""
    kinds = elements.KEYS[name]
    key = unpack(kinds, held.key, version)
    if kinds[-1] == elements.BLOCK:
        width = 4 if version == 4 else 16
        key = (*key[:-1], elements.block(held.key[-width:], (held.end or held.key)[-width:]))
    return Element(
        table_version=version,
        set=name,
        key=key,
        data=unpack(elements.DATA.get(name, elements.ENDPOINT), held.data, version) if held.data else (),
        chain=held.chain,
        timeout=held.timeout,
        expires=held.expires,
        connections=held.packets,
    )
