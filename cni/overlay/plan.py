"""How each peer's pods are reached, and what must change in the kernel. PURE.

Peers on the same link get a plain route by their node address; others are reached through VXLAN as flannel lays it
out: a route onto the device, a permanent neighbour for the peer's end, a forwarding entry for its MAC.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cni.netlink.wire import IPAddress, Network
from cni.overlay import peers
from cni.overlay.peers import Peer

AUTO, VXLAN, HOST_GW = "auto", "vxlan", "host-gw"
MODES = (AUTO, VXLAN, HOST_GW)
PORT = 8472
DEVICES = {4: "nodeagent.1", 6: "nodeagent-v6.1"}
# The outer headers in bytes: Ethernet, IP, UDP, VXLAN.
OVERHEAD = {4: 50, 6: 70}


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to `destination` go to `gateway`: a node on the link, or a peer's end behind a VXLAN `device`."""

    destination: Network
    gateway: IPAddress
    device: str = ""

    @property
    def key(self) -> object:
        """What the kernel has one of."""
        return self.destination


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The peer's end `address` on `device` has this MAC."""

    address: IPAddress
    mac: str
    device: str

    @property
    def key(self) -> object:
        """What the kernel has one of."""
        return self.device, self.address


@dataclass(frozen=True, slots=True)
class Forward:
    """Frames for `mac` on `device` travel to the node at `remote`."""

    mac: str
    remote: IPAddress
    device: str

    @property
    def key(self) -> object:
        """What the kernel has one of."""
        return self.device, self.mac


Entry = Route | Neighbour | Forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What turns the observed entries into the desired ones; additions also replace."""

    add: tuple[Entry, ...] = ()
    remove: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The interface that holds one of the node's addresses; index 0 where none does."""

    index: int = 0
    mtu: int = 1500
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Our VXLAN device for one IP version of the underlay."""

    name: str
    mac: str
    address: IPAddress
    local: IPAddress
    parent: int
    mtu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The entries that lead to one peer, and why some of its pods cannot be reached."""

    entries: frozenset[Entry] = frozenset()
    missing: tuple[str, ...] = ()


def devices(own: Peer, parents: Mapping[int, Parent], *, mode: str) -> tuple[Device, ...]:
    """The VXLAN devices this node needs: one per IP version in which it has an address and a range."""
    if mode == HOST_GW:
        return ()
    ranges = {network.version: network for network in reversed(own.networks)}
    return tuple(
        Device(
            name=DEVICES[version],
            mac=peers.vtep_mac(ranges[version]),
            address=peers.vtep_address(ranges[version]),
            local=own.addresses[version],
            parent=parent.index,
            mtu=parent.mtu - OVERHEAD[version],
        )
        for version, parent in sorted(parents.items())
        if version in ranges and parent.index
    )


def way_to(peer: Peer, *, mode: str, parents: Mapping[int, Parent], present: Collection[str]) -> Way:
    """How a peer's pods are reached; `present` names the VXLAN devices that there are."""
    entries: set[Entry] = set()
    missing: list[str] = []
    for network in peer.networks:
        address = peer.addresses.get(network.version)
        if address is None:
            missing.append(f"{network}: the node has no IPv{network.version} address")
        elif _direct(peer, address, mode=mode, parents=parents):
            entries.add(Route(network, address))
        elif reason := _no_vxlan(peer, network.version, mode=mode, present=present):
            missing.append(f"{network}: {reason}")
        else:
            entries |= _encapsulated(peer, network, remote=address)
    return Way(entries=frozenset(entries), missing=tuple(missing))


def _direct(peer: Peer, address: IPAddress, *, mode: str, parents: Mapping[int, Parent]) -> bool:
    parent = parents.get(address.version, Parent())
    if mode == VXLAN or not any(address in network for network in parent.networks):
        return False
    # A flannel node (no word about its overlay) that announces VXLAN expects it of everybody.
    return mode == HOST_GW or peer.backend != VXLAN or peer.overlay == AUTO


def _no_vxlan(peer: Peer, version: int, *, mode: str, present: Collection[str]) -> str:
    if mode == HOST_GW:
        return "the node is not on this link, and the overlay is host-gw only"
    if peer.backend == HOST_GW:
        return "the node takes direct routes only, and is not on this link or this one takes VXLAN only"
    if version not in peer.macs:
        return "the node has not announced a VXLAN MAC yet"
    return "" if DEVICES[version] in present else "this node has no VXLAN device"


def _encapsulated(peer: Peer, network: Network, *, remote: IPAddress) -> set[Entry]:
    device, mac, end = DEVICES[network.version], peer.macs[network.version], peers.vtep_address(network)
    return {Route(network, end, device), Neighbour(end, mac, device), Forward(mac, remote, device)}


def pod_mtu(parents: Mapping[int, Parent], entries: Iterable[Entry], *, mode: str) -> int:
    """The MTU of pods in bytes: the parent's, less the outer headers where VXLAN is in use."""
    used = {entry.device for entry in entries if isinstance(entry, Route)}
    sizes = [
        parent.mtu - (OVERHEAD[version] if mode == VXLAN or DEVICES[version] in used else 0)
        for version, parent in parents.items()
    ]
    return min(sizes, default=1500)


def change(wanted: Iterable[Entry], observed: Iterable[Entry]) -> Change:
    """Entries to add and to remove. One that only changes its value is replaced, never removed."""
    goal, present = frozenset(wanted), frozenset(observed)
    kept = {entry.key for entry in goal}
    return Change(
        add=tuple(sorted(goal - present, key=_order)),
        remove=tuple(sorted((e for e in present - goal if e.key not in kept), key=_order)),
    )


def _order(entry: Entry) -> tuple[bool, str]:
    return isinstance(entry, Route), str(entry)  # the route last: it sends packets
