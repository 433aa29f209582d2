"""One suite for `cni.links.Links`: what holds for the fake holds for the kernel."""

from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni import errors
from cni.attachment import Attachment, Bridge, host_name, mac_for
from cni.links import KernelLinks, Links
from fakes.links import FakeLinks

GATEWAY = ip_interface("10.99.0.1/24")


def attachment(container: str, address: str) -> Attachment:
    return Attachment(
        host_name=host_name(container, "eth0"),
        pod_name="eth0",
        pod_mac=mac_for(ip_address(address)),
        mtu=1450,
        hairpin=True,
        bridge=Bridge(name="cni0", mac=mac_for(GATEWAY.ip), mtu=1450, gateways=(GATEWAY,)),
        addresses=(ip_interface(f"{address}/24"),),
        routes=((ip_network("0.0.0.0/0"), GATEWAY.ip),),
    )


@pytest.fixture(params=["fake", "kernel"])
def world(request: pytest.FixtureRequest) -> tuple[Links, Callable[[str], str]]:
    """Links and a maker of pod namespaces."""
    if request.param == "fake":
        fake = FakeLinks([])

        def make(role: str) -> str:
            fake.namespaces.add(f"/run/netns/{role}")
            return f"/run/netns/{role}"

        return fake, make
    request.getfixturevalue("inside_host")
    return KernelLinks(), request.getfixturevalue("new_namespace")


def test_an_attachment_that_was_made_has_no_problems(world: tuple[Links, Callable[[str], str]]) -> None:
    links, make = world
    pod = make("pod")
    links.attach(attachment("one", "10.99.0.2"), netns_path=pod)
    assert list(links.problems(attachment("one", "10.99.0.2"), netns_path=pod)) == []


def test_what_was_attached_is_a_port_of_the_bridge_until_it_is_detached(
    world: tuple[Links, Callable[[str], str]],
) -> None:
    links, make = world
    wanted = attachment("one", "10.99.0.2")
    links.attach(wanted, netns_path=make("pod"))
    assert list(links.host_names("cni0")) == [wanted.host_name]
    links.detach(wanted.host_name)
    assert list(links.host_names("cni0")) == []


def test_detaching_twice_is_no_error(world: tuple[Links, Callable[[str], str]]) -> None:
    links, make = world
    links.attach(attachment("one", "10.99.0.2"), netns_path=make("pod"))
    links.detach(host_name("one", "eth0"))
    links.detach(host_name("one", "eth0"))


def test_an_interface_name_in_use_is_refused_and_the_first_one_stays(
    world: tuple[Links, Callable[[str], str]],
) -> None:
    links, make = world
    pod = make("pod")
    links.attach(attachment("one", "10.99.0.2"), netns_path=pod)
    with pytest.raises(errors.CniError) as refused:
        links.attach(attachment("two", "10.99.0.3"), netns_path=pod)
    assert refused.value.code == errors.LINK_FAILURE
    assert list(links.host_names("cni0")) == [host_name("one", "eth0")]


def test_an_unknown_namespace_is_an_unknown_container(world: tuple[Links, Callable[[str], str]]) -> None:
    links, _ = world
    with pytest.raises(errors.CniError) as refused:
        links.attach(attachment("one", "10.99.0.2"), netns_path="/run/netns/natest-none")
    assert refused.value.code == errors.UNKNOWN_CONTAINER


def test_a_missing_address_is_a_problem(world: tuple[Links, Callable[[str], str]]) -> None:
    links, make = world
    pod = make("pod")
    links.attach(attachment("one", "10.99.0.2"), netns_path=pod)
    found = list(links.problems(attachment("one", "10.99.0.9"), netns_path=pod))
    assert found == ["address 10.99.0.9/24 is missing"]
