"""The overlay without a kernel: entries by what a kernel has one of, devices by name; refusals on order."""

import errno
from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from cni.netlink import wire
from cni.netlink.wire import IPAddress
from cni.overlay.plan import Change, Device, Entry, Parent, Route


class FakeFabric:
    """`cni.overlay.kernel.Fabric` in memory. `link` is the network of the node's own interface."""

    def __init__(self, link: str = "192.0.2.0/24") -> None:
        self.link = ip_network(link)
        self.present: dict[object, Entry] = {}
        self.devices: dict[str, Device] = {}
        self.failures = 0
        self.without_vxlan = False
        self.writes = 0

    def parents(self, own: Mapping[int, IPAddress]) -> Mapping[int, Parent]:
        return {version: Parent(index=2, mtu=1400, networks=(self.link,)) for version in own}

    def ensure(self, devices: Sequence[Device]) -> frozenset[int]:
        if self.without_vxlan and devices:
            raise wire.NetlinkError(errno.EOPNOTSUPP, "create VXLAN device")
        wanted = {device.name: device for device in devices}
        for name, device in list(self.devices.items()):
            if wanted.get(name) != device:
                del self.devices[name]
                self.present = {key: entry for key, entry in self.present.items() if entry.device != name}
        self.devices |= wanted
        return frozenset(range(3, 3 + len(wanted)))

    def observe(self) -> frozenset[Entry]:
        return frozenset(self.present.values())

    def apply(self, change: Change) -> None:
        if self.failures:
            self.failures -= 1
            raise wire.NetlinkError(101, "add a route")
        if change.add or change.remove:
            self.writes += 1
        for entry in change.remove:
            if self.present.get((type(entry), entry.key)) == entry:
                del self.present[type(entry), entry.key]
        for entry in change.add:
            if entry.device and entry.device not in self.devices:
                raise wire.NetlinkError(errno.ENODEV, f"use VXLAN device {entry.device}")
            self.present[type(entry), entry.key] = entry

    def table(self) -> dict[str, str]:
        """Gateways by destination."""
        routes = [entry for entry in self.present.values() if isinstance(entry, Route)]
        return {str(route.destination): str(route.gateway) for route in routes}
