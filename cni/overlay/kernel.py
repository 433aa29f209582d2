"""The overlay in the kernel: our VXLAN devices, and routes, neighbours and forwarding entries, ours alone.

Routes carry our protocol number and the other entries lie on our devices, so nobody else's are touched. Must not know
nodes. Blocking: use it from a thread.
"""

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Protocol

from cni import sysctls
from cni.netlink import addresses, connection, interfaces, neighbours, routes, wire
from cni.netlink.interfaces import LinkState, Vxlan
from cni.netlink.wire import IPAddress, Message
from cni.overlay import checksum, peers, plan
from cni.overlay.plan import Change, Device, Entry, Forward, Neighbour, Parent, Route
from cni.result import Interface

# Marks our routes in `ip route` as `proto 110`; below it are the numbers that iproute2 has names for.
PROTOCOL = 110
NAMES = frozenset(plan.DEVICES.values())
LOOSE = "2"


class Fabric(Protocol):
    """What the overlay needs of the kernel."""

    def parents(self, own: Mapping[int, IPAddress]) -> Mapping[int, Parent]:
        """The interfaces that hold the node's addresses, by IP version."""
        ...

    def ensure(self, devices: Sequence[Device]) -> frozenset[int]:
        """Makes or mends our VXLAN devices, removes those not named; their indexes. Raises wire.NetlinkError."""
        ...

    def observe(self) -> frozenset[Entry]:
        """Our entries that are there now."""
        ...

    def apply(self, change: Change) -> None:
        """Adds and removes in one batch; raises wire.NetlinkError naming the first entry that was refused."""
        ...


class KernelFabric:
    """The overlay by rtnetlink."""

    def parents(self, own: Mapping[int, IPAddress]) -> Mapping[int, Parent]:
        with connection.Socket() as host:
            holders = [
                (index, ip_interface(text))
                for index, text in map(addresses.parse_address, host.ask(addresses.dump_addresses()))
            ]
            links = {link.index: link for link in map(interfaces.parse_link, host.ask(interfaces.dump_links()))}
        return {version: _parent(address, holders, links) for version, address in own.items()}

    def ensure(self, devices: Sequence[Device]) -> frozenset[int]:
        wanted = {device.name for device in devices}
        with connection.Socket() as host:
            present = {link.name: link for link in map(interfaces.parse_link, host.ask(interfaces.dump_links()))}
            host.apply([interfaces.delete_link(name) for name in sorted(NAMES & present.keys() - wanted)])
            return frozenset([_ensure(host, device, present) for device in devices])

    def observe(self) -> frozenset[Entry]:
        with connection.Socket() as host:
            names = _indexes(host)
            ours = {index: name for name, index in names.items()}
            found: list[Entry] = []
            for version in (4, 6):
                for state in map(routes.parse_route, host.ask(routes.dump_routes(version))):
                    if state and state.protocol == PROTOCOL and state.gateway:
                        found.append(Route(state.destination, state.gateway, ours.get(state.interface, "")))
                if ours:
                    found += _neighbours(host.ask(neighbours.dump_neighbours(version)), ours)
            if ours:
                found += _neighbours(host.ask(neighbours.dump_forwards()), ours)
        return frozenset(found)

    def apply(self, change: Change) -> None:
        with connection.Socket() as host:
            index = _indexes(host)
            messages = [m for entry in change.remove if (m := _removal(entry, index))]
            host.apply([*messages, *(_addition(entry, index) for entry in change.add)])


def _parent(address: IPAddress, holders: Sequence[tuple[int, Interface]], links: Mapping[int, LinkState]) -> Parent:
    index = next((index for index, held in holders if held.ip == address), 0)
    link = links.get(index)
    if link is None or link.name == "lo":  # an address of the node alone: any interface may carry it
        return Parent()
    networks = {held.network for number, held in holders if number == index and held.version == address.version}
    return Parent(index=index, mtu=link.mtu, networks=tuple(sorted(networks, key=str)))


def _ensure(host: connection.Socket, device: Device, present: Mapping[str, LinkState]) -> int:
    vxlan = Vxlan(identifier=peers.VNI, parent=device.parent, local=device.local, port=plan.PORT, learning=False)
    found = present.get(device.name)
    if found and (found.vxlan != vxlan or found.mac != device.mac):
        host.apply([interfaces.delete_link(device.name)])
        found = None
    if found is None:
        _create(host, device, vxlan, present)
        found = host.link(device.name)
    if found is None:
        raise wire.NetlinkError(errno.ENODEV, f"find VXLAN device {device.name}")
    host.apply([*_mended(device, found), *_addresses(host, device, found.index)])
    return found.index


def _create(host: connection.Socket, device: Device, vxlan: Vxlan, present: Mapping[str, LinkState]) -> None:
    try:
        host.apply([interfaces.new_vxlan(device.name, mac=device.mac, mtu=device.mtu, vxlan=vxlan)])
    except wire.NetlinkError as error:
        rivals = [
            link.name
            for link in present.values()
            if link.vxlan and (link.vxlan.identifier, link.vxlan.port) == (vxlan.identifier, vxlan.port)
        ]
        if error.errno == errno.EEXIST and rivals:
            wanted = f"{error.wanted} (remove {', '.join(rivals)}, which uses VNI {peers.VNI} on port {plan.PORT})"
            raise wire.NetlinkError(error.errno, wanted) from error
        raise
    # A peer may answer by the other way, direct or encapsulated.
    sysctls.put(f"ipv4/conf/{device.name}/rp_filter", LOOSE)
    if checksum.is_wrong(os.uname().release):
        with contextlib.suppress(OSError):  # a device without this offload is right already
            checksum.turn_off(device.name)


def _mended(device: Device, found: LinkState) -> list[Message]:
    messages = [] if found.mtu == device.mtu else [interfaces.set_mtu(found.index, mtu=device.mtu)]
    return messages if found.up else [*messages, interfaces.link_up(found.index)]


def _addresses(host: connection.Socket, device: Device, index: int) -> list[Message]:
    own = ip_interface(device.address)
    present = {
        interface
        for holder, text in map(addresses.parse_address, host.ask(addresses.dump_addresses()))
        if holder == index and not (interface := ip_interface(text)).is_link_local
    }
    stale = [addresses.delete_address(interface, index=index) for interface in present - {own}]
    return stale if own in present else [*stale, addresses.new_address(own, index=index)]


def _indexes(host: connection.Socket) -> Mapping[str, int]:
    return {name: link.index for name in sorted(NAMES) if (link := host.link(name))}


def _neighbours(replies: Sequence[bytes], ours: Mapping[int, str]) -> list[Entry]:
    found: list[Entry] = []
    for state in map(neighbours.parse_neighbour, replies):
        device = ours.get(state.interface)
        if device and state.permanent and state.address:
            kind = Forward(state.mac, state.address, device) if state.bridge else None
            found.append(kind or Neighbour(state.address, state.mac, device))
    return found


def _addition(entry: Entry, index: Mapping[str, int]) -> Message:
    if entry.device and entry.device not in index:
        raise wire.NetlinkError(errno.ENODEV, f"use VXLAN device {entry.device}")
    if isinstance(entry, Route):
        return routes.new_route(
            entry.destination,
            gateway=entry.gateway,
            index=index[entry.device] if entry.device else 0,
            protocol=PROTOCOL,
            onlink=bool(entry.device),
        )
    if isinstance(entry, Neighbour):
        return neighbours.new_neighbour(entry.address, mac=entry.mac, index=index[entry.device])
    return neighbours.new_forward(entry.mac, remote=entry.remote, index=index[entry.device])


def _removal(entry: Entry, index: Mapping[str, int]) -> Message | None:
    if entry.device and entry.device not in index:
        return None  # gone with its device
    if isinstance(entry, Route):
        return routes.delete_route(entry.destination, gateway=entry.gateway, protocol=PROTOCOL)
    if isinstance(entry, Neighbour):
        return neighbours.delete_neighbour(entry.address, index=index[entry.device])
    return neighbours.delete_forward(entry.mac, remote=entry.remote, index=index[entry.device])
