"""What the proxy needs of its own node: the Node object's zone and addresses, the machine's addresses, kernel settings.

The decisions are pure; reading the machine's addresses is one netlink dump (linux/rtnetlink.h, linux/if_addr.h).
"""

import logging
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from pathlib import Path

from kube.runtime.duration import parse_duration
from kube.runtime.netlink import attributes, messages
from kube.types import Node, ServiceCIDR
from proxy.config import PRIMARY, Conntrack
from proxy.services.model import ZONE_LABEL, ThisNode

log = logging.getLogger(__name__)

Block = IPv4Network | IPv6Network
NETLINK_ROUTE = 0
GET_ADDRESS, NEW_ADDRESS, DONE = 22, 20, 3
REQUEST_DUMP = 0x301
ADDRESS, LOCAL = 1, 2
TIMEOUT_SECONDS = 5.0
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"
# Without them a pod that reaches a pod of its own node through a cluster address gets an answer from a stranger.
BRIDGE_SYSCTLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
CONNTRACK_MAX = 1048576
LOOPBACK = "127.0.0.1"


def this_node(
    name: str, node: Node | None, *, blocks: Iterable[str], addresses: Iterable[str], ip: str, loopback: bool = False
) -> ThisNode:
    """Our node as the rules need it; `addresses` are the machine's, `ip` stands in until there is a Node. PURE.

    `loopback`: NodePorts are served on 127.0.0.1 as well, when it is in the blocks.
    """
    wanted = tuple(blocks) or (PRIMARY,)
    chosen = primary(node) or (ip,) if wanted == (PRIMARY,) else within(addresses, wanted, loopback=loopback)
    zone = node.metadata.labels.get(ZONE_LABEL, "") if node else ""
    return ThisNode(name=name, zone=zone, node_port_addresses=tuple(chosen))


def default_blocks(mode: str) -> tuple[str, ...]:
    """Where NodePorts are served when nobody says: with iptables everywhere, as upstream does. PURE."""
    return ("0.0.0.0/0", "::/0") if mode == "iptables" else (PRIMARY,)


def primary(node: Node | None) -> tuple[str, ...]:
    """The Node object's first address of each IP version, internal ones before external ones. PURE."""
    found: dict[int, str] = {}
    for wanted in ("InternalIP", "ExternalIP"):
        for each in node.status.addresses if node else ():
            try:
                address = ip_address(each.address)
            except ValueError:
                continue
            if each.type == wanted:
                found.setdefault(address.version, str(address))
    return tuple(found[version] for version in sorted(found))


def within(addresses: Iterable[str], blocks: Iterable[str], *, loopback: bool = False) -> tuple[str, ...]:
    """The addresses in these blocks without link-local ones; of loopback ones 127.0.0.1 or none. PURE."""
    networks = [ip_network(block, strict=False) for block in blocks]
    parsed = {ip_address(address) for address in addresses}
    kept = {
        a
        for a in parsed
        if not a.is_link_local
        and (not a.is_loopback or (loopback and str(a) == LOOPBACK))
        and any(a in network for network in networks)
    }
    return tuple(sorted(map(str, kept)))


def ranges(found: Iterable[ServiceCIDR]) -> tuple[str, ...]:
    """The blocks that cluster addresses are taken from, without those inside others. PURE."""
    by_version: dict[int, list[Block]] = {4: [], 6: []}
    for text in (text for each in found for text in each.spec.cidrs):
        try:
            block = ip_network(text, strict=False)
        except ValueError:
            continue
        by_version[block.version].append(block)
    return tuple(str(block) for blocks in by_version.values() for block in collapse_addresses(blocks))  # type: ignore[type-var]


def leaving(node: Node | None) -> bool:
    """Whether the node is being deleted: load balancers shall send it nothing new. PURE."""
    if node is None:
        return False
    return node.metadata.deletion_timestamp is not None or any(t.key == DELETION_TAINT for t in node.spec.taints)


def machine_addresses() -> tuple[str, ...]:
    """The addresses of this network namespace's interfaces. Blocking, a millisecond; raises OSError."""
    return tuple(held.partition("/")[0] for _, held in interface_addresses())


def interface_addresses() -> list[tuple[str, str]]:
    """(interface, `address/prefix`) of this network namespace. Blocking, a millisecond; raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE) as opened:
        opened.settimeout(TIMEOUT_SECONDS)
        opened.bind((0, 0))
        opened.send(struct.pack("=IHHII", 24, GET_ADDRESS, REQUEST_DUMP, 1, 0) + bytes(8))
        found: list[tuple[str, str]] = []
        while True:
            for kind, _, body in messages(opened.recv(1 << 17)):
                if kind == DONE:
                    return found
                if kind == NEW_ADDRESS:
                    fields, prefix, index = attributes(body[8:]), body[1], int.from_bytes(body[4:8], sys.byteorder)
                    packed = fields.get(LOCAL) or fields.get(ADDRESS)
                    found += [(socket.if_indextoname(index), f"{ip_address(packed)}/{prefix}")] if packed else []


def prepare_kernel(
    root: Path = Path("/proc/sys/net"), *, cores: int, conntrack: Conntrack, loopback: bool = False
) -> None:
    """Turns on what Services need of the kernel; says what is missing where it cannot.

    `loopback`: packets from 127.0.0.1 may leave, for NodePorts there.
    """
    for name in BRIDGE_SYSCTLS:
        _set(root / "bridge" / name, "1", "load the module br_netfilter")
    _set(root / "ipv4/ip_forward", "1", "pods cannot be reached through this node")
    if loopback:
        _set(root / "ipv4/conf/all/route_localnet", "1", "NodePorts are not served on 127.0.0.1")
    if conntrack.max_per_core:
        wanted = min(max(conntrack.max_per_core * cores, conntrack.min), CONNTRACK_MAX)
        _raise(root / "netfilter/nf_conntrack_max", wanted)
    timeouts = {"established": conntrack.tcp_established_timeout, "close_wait": conntrack.tcp_close_wait_timeout}
    for state, text in timeouts.items():
        _raise(root / f"netfilter/nf_conntrack_tcp_timeout_{state}", int(parse_duration(text)))
    if conntrack.tcp_be_liberal:
        _set(root / "netfilter/nf_conntrack_tcp_be_liberal", "1", "late TCP packets are dropped")


def _set(setting: Path, value: str, advice: str) -> None:
    try:
        if setting.read_text().strip() != value:
            setting.write_text(value)
    except OSError as error:
        log.warning("%s cannot be set to %s, %s: %s", setting, value, advice, error.strerror)


def _raise(setting: Path, wanted: int) -> None:
    """A larger value of the host's is left alone; inside a network namespace some cannot be set, which is fine."""
    try:
        if int(setting.read_text()) < wanted:
            setting.write_text(str(wanted))
    except (OSError, ValueError) as error:
        log.info("%s stays as it is: %s", setting, error)
