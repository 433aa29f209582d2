"""The one rule that nft's language cannot carry for IPv6: noting which endpoint a client got. PURE.

nft 1.0.6 gives both sides of `update @map { key : data }` sixteen bytes of registers; the kernel has enough for forty
and twenty. So this rule is made of the kernel's expressions (linux/netfilter/nf_tables.h), for both IP versions.
In nft's words: `update @affinity { ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst timeout Ns :
ip daddr . th dport }`.
"""

import struct
from collections.abc import Sequence

from kube.runtime.netlink import APPEND, CREATE, NESTED, attribute, text
from kube.runtime.nfelements import SUBSYSTEM_NFTABLES, Step
from proxy.backends import elements

NEW_CHAIN, NEW_RULE = (SUBSYSTEM_NFTABLES << 8) | 3, (SUBSYSTEM_NFTABLES << 8) | 6
CHAIN_NAME = 3
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
LIST_ELEMENT, EXPRESSION_NAME, EXPRESSION_DATA = 1, 1, 2
FIRST_REGISTER = 8
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
ORIGINAL = 0
CT_PROTO_DST = 12
CT_DESTINATION = {4: 20, 6: 22}
META_L4PROTO = 16
UPDATE = 1
WIDTH = {4: 4, 6: 16}
SOURCE_OFFSET, DESTINATION_OFFSET = {4: 12, 6: 8}, {4: 16, 6: 24}


def remember(version: int, *, table: str, seconds: int) -> Step:
    """The rule of a `remember-N` chain."""
    width = WIDTH[version]
    words = width // 4
    key, data = FIRST_REGISTER, FIRST_REGISTER + 2 * words + 2
    found = (
        _payload(key, NETWORK_HEADER, SOURCE_OFFSET[version], width),
        _expression(
            "ct", _number(1, key + words), _number(2, CT_DESTINATION[version]), attribute(3, bytes([ORIGINAL]))
        ),
        _expression("meta", _number(1, key + 2 * words), _number(2, META_L4PROTO)),
        _expression("ct", _number(1, key + 2 * words + 1), _number(2, CT_PROTO_DST), attribute(3, bytes([ORIGINAL]))),
        _payload(data, NETWORK_HEADER, DESTINATION_OFFSET[version], width),
        _payload(data + words, TRANSPORT_HEADER, 2, 2),
        _expression(
            "dynset",
            attribute(1, text(elements.AFFINITY)),
            _number(3, UPDATE),
            _number(4, key),
            _number(5, data),
            attribute(6, struct.pack(">Q", seconds * 1000)),
        ),
    )
    return _rule(version, table, elements.remember_chain(seconds), found)


def mark(version: int, *, table: str, chain: str) -> Step:
    """An empty chain whose name says that the table is complete, and how it is made."""
    body = attribute(RULE_TABLE, text(table)) + attribute(CHAIN_NAME, text(chain))
    return Step(kind=NEW_CHAIN, flags=CREATE, version=version, body=body, wanted=f"chain {chain}")


def _rule(version: int, table: str, chain: str, expressions: Sequence[bytes]) -> Step:
    body = attribute(RULE_TABLE, text(table)) + attribute(RULE_CHAIN, text(chain))
    body += attribute(RULE_EXPRESSIONS | NESTED, b"".join(expressions))
    return Step(kind=NEW_RULE, flags=CREATE | APPEND, version=version, body=body, wanted=f"rule of {chain}")


def _expression(name: str, *parts: bytes) -> bytes:
    body = attribute(EXPRESSION_NAME, text(name)) + attribute(EXPRESSION_DATA | NESTED, b"".join(parts))
    return attribute(LIST_ELEMENT | NESTED, body)


def _payload(register: int, base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _number(1, register), _number(2, base), _number(3, offset), _number(4, length))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))
