"""The effects of the CNI plugin on interfaces: making, checking and removing an attachment in the kernel.

Owns the order of netlink batches. Must not know leases, CNI's wire format or the cluster. Blocking: use it from a
thread.
"""

import contextlib
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Collection, Sequence
from typing import Protocol

from cni import errors, netns, sysctls
from cni.attachment import Attachment, Bridge, Made, host_mac, shaper_name
from cni.capabilities import Bandwidth
from cni.netlink import addresses, connection, interfaces, routes, shaping, wire
from cni.removals import Removals

log = logging.getLogger(__name__)

ADVERTISEMENT, OVERRIDE = 136, 0x20000000
MINIMAL_BURST_BYTES = 32 * 1024
PORT_SECONDS, PORT_POLL_SECONDS = 2.0, 0.001


class Links(Protocol):
    """What a pod's attachment needs of the kernel."""

    def attach(self, attachment: Attachment, *, netns_path: str) -> Made:
        """Makes bridge (if missing), pair, addresses and routes; undoes what it made when a step fails."""
        ...

    def detach(self, host_name: str) -> None:
        """Removes the pair; none there is no error."""
        ...

    def shape(self, host_name: str, limits: Bandwidth, *, shaper: str) -> None:
        """Puts limits on a pair's host end: what goes to the pod waits there, what it sends in the device `shaper`."""
        ...

    def problems(self, attachment: Attachment, *, netns_path: str) -> Sequence[str]:
        """What of the attachment is missing in the kernel, in words; empty when all is there."""
        ...

    def host_names(self, bridge: str) -> Sequence[str]:
        """The host ends that are ports of the bridge."""
        ...


class KernelLinks:
    """Links by rtnetlink: two batches for one pod, one in the host's namespace and one in the pod's.

    To be used in one network namespace, which is the host's.
    """

    def __init__(self) -> None:
        self._removals = Removals()

    def attach(self, attachment: Attachment, *, netns_path: str) -> Made:
        descriptor = netns.open_path(netns_path)
        try:
            with connection.Socket() as host:
                bridge = ensure_bridge(host, attachment.bridge)
                made = _make_pair(host, attachment, netns=descriptor, bridge=bridge)
                try:
                    name = shaper_name(attachment.host_name)
                    _limit(host, attachment.host_name, attachment.bandwidth, shaper=name)
                    _configure_pod(attachment, netns_descriptor=descriptor)
                    _wait_for_port(host, attachment.host_name)
                except BaseException:
                    _delete(host, attachment.host_name)
                    raise
                return made
        except wire.NetlinkError as error:
            raise errors.CniError(errors.LINK_FAILURE, "cannot set up the pod interface", details=str(error)) from error
        except OSError as error:
            raise errors.CniError(errors.IO_FAILURE, "netlink failed", details=str(error)) from error
        finally:
            os.close(descriptor)

    def detach(self, host_name: str) -> None:
        try:
            self._removals.remove([host_name, shaper_name(host_name)])
        except (wire.NetlinkError, OSError) as error:
            raise errors.CniError(errors.LINK_FAILURE, f"cannot remove {host_name}", details=str(error)) from error

    def shape(self, host_name: str, limits: Bandwidth, *, shaper: str) -> None:
        try:
            with connection.Socket() as host:
                _limit(host, host_name, limits, shaper=shaper)
        except (wire.NetlinkError, OSError) as error:
            raise errors.CniError(errors.LINK_FAILURE, f"cannot limit {host_name}", details=str(error)) from error

    def problems(self, attachment: Attachment, *, netns_path: str) -> Sequence[str]:
        descriptor = netns.open_path(netns_path)
        try:
            with connection.Socket() as host:
                found = _host_problems(host, attachment)
            with netns.entered(descriptor), connection.Socket() as pod:
                return [*found, *_pod_problems(pod, attachment)]
        except (wire.NetlinkError, OSError) as error:
            raise errors.CniError(
                errors.LINK_FAILURE, "cannot inspect the pod interface", details=str(error)
            ) from error
        finally:
            os.close(descriptor)

    def rejoin(self, bridge: Bridge, names: Collection[str]) -> int:
        """Mends the bridge, and makes those of these host ends its ports again that are not; how many there were."""
        try:
            with connection.Socket() as host:
                links = map(interfaces.parse_link, host.ask(interfaces.dump_links()))
                ports = [link for link in links if link.name in names]
                if not ports:
                    return 0
                sysctls.prepare_host(gateway.version for gateway in bridge.gateways)
                master = ensure_bridge(host, bridge).index
                lost = [link for link in ports if link.master != master or not link.up]
                host.apply([interfaces.join(port.index, master=master) for port in lost])
                host.apply([interfaces.set_hairpin(port.name) for port in lost])
                return len(lost)
        except (wire.NetlinkError, OSError) as error:
            raise errors.CniError(errors.LINK_FAILURE, f"cannot mend {bridge.name}", details=str(error)) from error

    def host_names(self, bridge: str) -> Sequence[str]:
        with connection.Socket() as host:
            master = host.link(bridge)
            if master is None:
                return []
            links = map(interfaces.parse_link, host.ask(interfaces.dump_links()))
            return [link.name for link in links if link.master == master.index]


def ensure_bridge(host: connection.Socket, bridge: Bridge) -> interfaces.LinkState:
    """The bridge, made with its gateway addresses when it is not there or lost them."""
    found = host.link(bridge.name)
    if found is None:
        sysctls.prepare_host(gateway.version for gateway in bridge.gateways)
        try:
            host.apply([interfaces.new_bridge(bridge.name, mtu=bridge.mtu, mac=bridge.mac)])
        except wire.NetlinkError as error:
            if error.errno != errno.EEXIST:  # two pods at once: the other one made it
                raise
        found = host.link(bridge.name)
    if found is None:
        raise wire.NetlinkError(errno.ENODEV, f"find bridge {bridge.name}")
    if any(gateway.version == 6 for gateway in bridge.gateways):
        sysctls.quiet_ipv6(bridge.name)
    present = {
        text
        for index, text in map(addresses.parse_address, host.ask(addresses.dump_addresses()))
        if index == found.index
    }
    missing = [
        addresses.new_address(gateway, index=found.index) for gateway in bridge.gateways if str(gateway) not in present
    ]
    if not found.up:
        missing.append(interfaces.link_up(found.index))
    if missing:
        host.apply(missing)
    return found


def _make_pair(host: connection.Socket, attachment: Attachment, *, netns: int, bridge: interfaces.LinkState) -> Made:
    pair = interfaces.new_veth(
        attachment.host_name,
        mac=host_mac(attachment.host_name),
        peer=attachment.pod_name,
        peer_mac=attachment.pod_mac,
        peer_netns=netns,
        master=bridge.index,
        mtu=attachment.mtu,
    )
    try:
        host.apply([pair, *([interfaces.set_hairpin(attachment.host_name)] if attachment.hairpin else [])])
    except wire.NetlinkError as error:
        if error.errno == errno.EEXIST and error.wanted == pair.wanted:
            raise errors.CniError(
                errors.LINK_FAILURE,
                f"interface {attachment.pod_name} or {attachment.host_name} already exists",
                details="DEL the old attachment first",
            ) from error
        _delete(host, attachment.host_name)
        raise
    return Made(bridge_mac=bridge.mac, host_mac=host_mac(attachment.host_name))


def _configure_pod(attachment: Attachment, *, netns_descriptor: int) -> None:
    with netns.entered(netns_descriptor), connection.Socket() as pod:
        index = socket.if_nametoindex(attachment.pod_name)
        if any(address.version == 6 for address in attachment.addresses):
            sysctls.quiet_ipv6(attachment.pod_name)
        sysctls.announce_ipv4(attachment.pod_name)
        pod.apply(
            [
                interfaces.link_up(1),
                *(addresses.new_address(address, index=index) for address in attachment.addresses),
                interfaces.link_up(index),
                *(routes.new_route(route, gateway=gateway, index=index) for route, gateway in attachment.routes),
            ]
        )
        _announce(attachment)


def _wait_for_port(host: connection.Socket, name: str) -> None:
    """The bridge hears of a port's carrier a moment later, and until then drops the pod's first packets."""
    deadline = time.monotonic() + PORT_SECONDS
    while (port := host.link(name)) and not port.forwarding:
        if time.monotonic() > deadline:
            log.warning("%s forwards no packets after %g s", name, PORT_SECONDS)
            return
        time.sleep(PORT_POLL_SECONDS)


def _limit(host: connection.Socket, host_name: str, limits: Bandwidth, *, shaper: str) -> None:
    if not (limits.ingress_rate or limits.egress_rate):
        return
    port = host.link(host_name)
    if port is None:
        raise wire.NetlinkError(errno.ENODEV, f"find interface {host_name!r} to limit")
    if limits.ingress_rate:
        host.apply([_bucket(port.index, limits.ingress_rate, limits.ingress_burst)])
    if limits.egress_rate:
        host.apply([interfaces.delete_link(shaper), shaping.new_ifb(shaper, mtu=port.mtu)])
        ifb = host.link(shaper)
        if ifb is None:
            raise wire.NetlinkError(errno.ENODEV, f"find {shaper}")
        host.apply(
            [
                _bucket(ifb.index, limits.egress_rate, limits.egress_burst),
                shaping.ingress(port.index),
                shaping.redirect(port.index, to=ifb.index),
            ]
        )


def _bucket(index: int, rate: int, burst: int) -> wire.Message:
    """From bits to bytes; a burst that nobody chose is a tenth of a second, and never less than a few packets."""
    return shaping.token_bucket(index, rate=max(rate // 8, 1), burst=burst // 8 or max(rate // 80, MINIMAL_BURST_BYTES))


def _announce(attachment: Attachment) -> None:
    """Neighbours may know an address from a pod that is gone; of IPv4 addresses the kernel itself has told them."""
    mac = wire.mac_bytes(attachment.pod_mac)
    for address in attachment.addresses:
        if address.version == 6:
            _advertise(attachment.pod_name, address.ip.packed, mac)


def _advertise(ifname: str, address: bytes, mac: bytes) -> None:
    """RFC 4861, 4.4: type 136, override flag, target, target link-layer address; the kernel adds the checksum."""
    body = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, OVERRIDE) + address + bytes([2, 1]) + mac
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = socket.if_nametoindex(ifname)
        with contextlib.suppress(OSError):  # the link may need a moment for its own address
            raw.bind((socket.inet_ntop(socket.AF_INET6, address), 0, 0, 0))
            raw.sendto(body, ("ff02::1", 0, 0, index))


def _delete(host: connection.Socket, name: str) -> None:
    host.apply([interfaces.delete_link(name), interfaces.delete_link(shaper_name(name))])


def _host_problems(host: connection.Socket, attachment: Attachment) -> list[str]:
    bridge, port = host.link(attachment.bridge.name), host.link(attachment.host_name)
    if bridge is None:
        return [f"bridge {attachment.bridge.name} is missing"]
    if port is None:
        return [f"host interface {attachment.host_name} is missing"]
    if port.master != bridge.index:
        return [f"{attachment.host_name} is not a port of {attachment.bridge.name}"]
    return [] if port.up else [f"{attachment.host_name} is down"]


def _pod_problems(pod: connection.Socket, attachment: Attachment) -> list[str]:
    link = pod.link(attachment.pod_name)
    if link is None:
        return [f"interface {attachment.pod_name} is missing in the pod"]
    found = [] if link.up else [f"{attachment.pod_name} is down"]
    present = {
        text for index, text in map(addresses.parse_address, pod.ask(addresses.dump_addresses())) if index == link.index
    }
    found += [f"address {address} is missing" for address in attachment.addresses if str(address) not in present]
    for version in {address.version for address in attachment.addresses}:
        states = filter(None, map(routes.parse_route, pod.ask(routes.dump_routes(version))))
        reached = {state.destination for state in states}
        found += [
            f"route to {route} is missing"
            for route, _ in attachment.routes
            if route.version == version and route not in reached
        ]
    return found
