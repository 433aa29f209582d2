"""What a Node object tells about its part in the pod network, and what ours tells the others. PURE.

The annotations are flannel's (its pkg/subnet/kube/annotations.go), so that nodes running flannel and ours reach each
other. `nodeagent/overlay`, which flannel lacks, says how a node of ours chooses: flannel's own nodes expect VXLAN even
on a shared link.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from cni import attachment
from cni.netlink.wire import IPAddress, Network
from kube.types import Node

PREFIX = "flannel.alpha.coreos.com/"
OVERLAY = "nodeagent/overlay"
DATA = {4: PREFIX + "backend-data", 6: PREFIX + "backend-v6-data"}
PUBLIC = {4: PREFIX + "public-ip", 6: PREFIX + "public-ipv6"}
OVERWRITE = {4: PREFIX + "public-ip-overwrite", 6: PREFIX + "public-ipv6-overwrite"}
BACKEND = PREFIX + "backend-type"
VNI = 1
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A node as the overlay sees it; addresses and VXLAN MACs by IP version."""

    name: str
    networks: tuple[Network, ...] = ()
    addresses: Mapping[int, IPAddress] = field(default_factory=dict)
    macs: Mapping[int, str] = field(default_factory=dict)
    backend: str = ""
    overlay: str = ""


def pod_cidrs(node: Node) -> tuple[str, ...]:
    """A node's pod ranges: `spec.podCIDRs`, else `spec.podCIDR`."""
    return tuple(node.spec.pod_cidrs) or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())


def internal_addresses(node: Node) -> Mapping[int, IPAddress]:
    """The first InternalIP of each IP version."""
    found = [ip_address(a.address) for a in node.status.addresses if a.type == "InternalIP"]
    return {address.version: address for address in reversed(found)}


def read(node: Node) -> Peer:
    """The peer that a Node describes; an annotation that cannot be read counts as missing."""
    notes = node.metadata.annotations
    announced = {version: _address(notes.get(key, ""), version=version) for version, key in PUBLIC.items()}
    macs = {version: _mac(notes.get(key, "")) for version, key in DATA.items()}
    return Peer(
        name=node.metadata.name,
        networks=tuple(map(ip_network, pod_cidrs(node))),
        addresses={**internal_addresses(node), **{version: a for version, a in announced.items() if a}},
        macs={version: mac for version, mac in macs.items() if mac},
        backend=notes.get(BACKEND, ""),
        overlay=notes.get(OVERLAY, ""),
    )


def own(node: Node) -> Peer:
    """Our own node: the addresses on its interfaces count, whatever is announced to the others."""
    return Peer(
        name=node.metadata.name,
        networks=tuple(map(ip_network, pod_cidrs(node))),
        addresses=internal_addresses(node),
    )


def annotations(node: Node, *, mode: str, devices: Mapping[int, str]) -> Mapping[str, str | None]:
    """What our own Node is to say; `devices` are the MACs of our VXLAN devices by IP version. None removes a word."""
    notes: dict[str, str | None] = {
        BACKEND: "vxlan" if devices else "host-gw",
        PREFIX + "kube-subnet-manager": "true",
        OVERLAY: mode,
    }
    for version, address in internal_addresses(node).items():
        notes[PUBLIC[version]] = node.metadata.annotations.get(OVERWRITE[version]) or str(address)
    for version, key in DATA.items():
        mac = devices.get(version)
        notes[key] = mac and json.dumps({"VNI": VNI, "VtepMAC": mac}, separators=(",", ":"))
    return notes


def vtep_address(network: Network) -> IPAddress:
    """A node's own address in the overlay: the first of its range, which no pod gets."""
    return network.network_address


def vtep_mac(network: Network) -> str:
    """The MAC of a node's VXLAN device: it follows from the range, so a restart changes nothing.

    Ranges of IPv6 all end in zeros, which is where they differ in IPv4.
    """
    address = vtep_address(network)
    if address.version == 4:
        return attachment.mac_for(address)
    return f"{attachment.MAC_PREFIX}:" + hashlib.sha256(address.packed).digest()[:4].hex(":")


def _address(text: str, *, version: int) -> IPAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if address.version == version else None


def _mac(text: str) -> str:
    try:
        data = json.loads(text or "null")
    except ValueError:
        return ""
    if not isinstance(data, dict) or data.get("VNI") != VNI:
        return ""
    mac = str(data.get("VtepMAC", "")).lower()
    return mac if MAC.match(mac) else ""
