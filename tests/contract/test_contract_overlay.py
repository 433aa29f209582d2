"""One suite for `cni.overlay.kernel.Fabric`: what holds for the fake holds for the kernel."""

import subprocess
from ipaddress import ip_address, ip_network

import pytest

from cni.netlink import wire
from cni.overlay.kernel import Fabric, KernelFabric
from cni.overlay.plan import DEVICES, Change, Device, Entry, Forward, Neighbour, Route
from fakes.fabric import FakeFabric

VXLAN = DEVICES[4]
OWN = ip_address("192.0.2.1")
MAC, OTHER_MAC = "0a:58:0a:f4:01:00", "0a:58:0a:f4:01:99"


@pytest.fixture(params=["fake", "kernel"])
def fabric(request: pytest.FixtureRequest) -> Fabric:
    if request.param == "fake":
        return FakeFabric()
    request.getfixturevalue("inside_host")
    for argv in (
        ["link", "add", "up0", "mtu", "1400", "type", "veth", "peer", "name", "up1"],
        ["link", "set", "up1", "up"],
        ["address", "add", "192.0.2.1/24", "dev", "up0"],
        ["address", "add", "2001:db8::1/64", "dev", "up0", "nodad"],
        ["link", "set", "up0", "up"],
    ):
        subprocess.run(["ip", *argv], check=True, timeout=10)
    return KernelFabric()


def device(fabric: Fabric, **changes: str) -> Device:
    parent = fabric.parents({4: OWN})[4]
    address = ip_address(changes.get("address", "10.244.0.0"))
    mac = changes.get("mac", "0a:58:0a:f4:00:00")
    return Device(name=VXLAN, mac=mac, address=address, local=OWN, parent=parent.index, mtu=parent.mtu - 50)


def entries(mac: str = MAC, remote: str = "198.51.100.2") -> tuple[Entry, ...]:
    end = ip_address("10.244.1.0")
    return (
        Neighbour(end, mac, VXLAN),
        Forward(mac, ip_address(remote), VXLAN),
        Route(ip_network("10.244.1.0/24"), end, VXLAN),
    )


def test_the_parent_is_the_interface_that_holds_the_nodes_address(fabric: Fabric) -> None:
    parent = fabric.parents({4: OWN})[4]
    assert parent.index
    assert (parent.mtu, parent.networks) == (1400, (ip_network("192.0.2.0/24"),))


def test_what_was_added_is_observed_until_it_is_removed(fabric: Fabric) -> None:
    fabric.ensure([device(fabric)])
    direct = Route(ip_network("10.244.2.0/24"), ip_address("192.0.2.2"))
    fabric.apply(Change(add=(*entries(), direct)))
    assert fabric.observe() == {*entries(), direct}
    fabric.apply(Change(remove=(*entries(), direct)))
    assert fabric.observe() == frozenset()


def test_removing_what_is_gone_is_no_error_and_the_rest_is_done(fabric: Fabric) -> None:
    fabric.ensure([device(fabric)])
    fabric.apply(Change(remove=entries(), add=(Route(ip_network("10.244.2.0/24"), ip_address("192.0.2.2")),)))
    assert len(fabric.observe()) == 1


def test_adding_replaces_the_value_of_what_there_is_one_of(fabric: Fabric) -> None:
    fabric.ensure([device(fabric)])
    fabric.apply(Change(add=entries()))
    moved = entries(remote="198.51.100.3")
    fabric.apply(Change(add=moved))
    assert fabric.observe() == set(moved)
    _, forward, _ = moved
    other = Neighbour(ip_address("10.244.1.0"), OTHER_MAC, VXLAN)
    fabric.apply(Change(add=(other,)))
    assert other in fabric.observe()
    assert forward in fabric.observe()


def test_ensuring_the_same_device_again_keeps_its_entries(fabric: Fabric) -> None:
    indexes = fabric.ensure([device(fabric)])
    fabric.apply(Change(add=entries()))
    assert fabric.ensure([device(fabric)]) == indexes
    assert fabric.observe() == set(entries())


def test_a_device_with_another_mac_is_made_anew(fabric: Fabric) -> None:
    fabric.ensure([device(fabric)])
    fabric.apply(Change(add=entries()))
    fabric.ensure([device(fabric, mac="0a:58:0a:f4:09:00", address="10.244.9.0")])
    assert fabric.observe() == frozenset()


def test_a_device_that_is_not_wanted_goes_with_its_entries(fabric: Fabric) -> None:
    fabric.ensure([device(fabric)])
    fabric.apply(Change(add=entries()))
    assert fabric.ensure([]) == frozenset()
    assert fabric.observe() == frozenset()


def test_an_entry_on_a_missing_device_is_refused_by_name(fabric: Fabric) -> None:
    with pytest.raises(wire.NetlinkError, match=VXLAN.replace(".", r"\.")):
        fabric.apply(Change(add=entries()))


def test_an_ipv6_underlay_has_a_device_of_its_own(fabric: Fabric) -> None:
    own, name = ip_address("2001:db8::1"), DEVICES[6]
    parent = fabric.parents({6: own})[6]
    assert parent.index
    first = device(fabric)
    second = Device(
        name=name,
        mac="0a:58:00:00:00:01",
        address=ip_address("fd00:10:0::"),
        local=own,
        parent=parent.index,
        mtu=parent.mtu - 70,
    )
    assert len(fabric.ensure([first, second])) == 2
    end = ip_address("fd00:10:1::")
    wanted: set[Entry] = {
        Neighbour(end, MAC, name),
        Forward(MAC, ip_address("2001:db8:1::2"), name),
        Route(ip_network("fd00:10:1::/64"), end, name),
        Route(ip_network("fd00:10:2::/64"), ip_address("2001:db8::2")),
        *entries(),
    }
    fabric.apply(Change(add=tuple(sorted(wanted, key=lambda e: (isinstance(e, Route), str(e))))))
    assert fabric.observe() == wanted
    assert fabric.ensure([first, second])
    assert fabric.observe() == wanted
    fabric.apply(Change(remove=tuple(wanted)))
    assert fabric.observe() == frozenset()
