"""One suite for `cni.ports.publisher.Ports`: what holds for the fake holds for the kernel."""

import json
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from cni import errors
from cni.capabilities import PortMapping
from cni.ports import ruleset
from cni.ports.publisher import NftPorts, Ports
from cni.ports.ruleset import Record
from fakes.ports import FakePorts


class Checked:
    """The real one; after every change the kernel must hold exactly what the records say."""

    def __init__(self, folder: Path) -> None:
        self.ports = NftPorts(folder)

    def __getattr__(self, name: str) -> object:
        method = getattr(self.ports, name)

        def call(*args: object, **kwargs: object) -> object:
            result = method(*args, **kwargs)
            expected = {
                (e.host, e.protocol, e.port): target
                for e, target in ruleset.elements(self.ports.published()).items()
                if e.version == 4
            }
            assert in_kernel() == expected
            return result

        return call


def in_kernel() -> dict[tuple[str, str, int], tuple[str, int]]:
    done = subprocess.run(["nft", "-j", "list", "ruleset"], check=True, capture_output=True, timeout=10)
    found: dict[tuple[str, str, int], tuple[str, int]] = {}
    for item in json.loads(done.stdout)["nftables"]:
        table = item.get("map", {})
        if table.get("table") == ruleset.TABLE and table["family"] == "ip":
            for key, value in table.get("elem", []):
                *host, protocol, port = key["concat"]
                found[host[0] if host else "", protocol, port] = tuple(value["concat"])
    return found


@pytest.fixture(params=["fake", "kernel"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Ports:
    if request.param == "fake":
        return FakePorts()
    request.getfixturevalue("inside_host")
    subprocess.run(["ip", "link", "add", "cni0", "type", "bridge"], check=True, timeout=10)
    checked: Ports = Checked(tmp_path / "ports")  # type: ignore[assignment]
    return checked


def record(container: str, address: str, *ports: PortMapping) -> Record:
    return Record(container_id=container, ifname="eth0", addresses=(ip_address(address),), ports=ports)


def test_what_was_published_is_there_until_it_is_withdrawn(ports: Ports) -> None:
    one = record("one", "10.1.0.2", PortMapping("tcp", 8080, 80), PortMapping("sctp", 8080, 81))
    ports.publish(one, bridge="cni0")
    assert list(ports.published()) == [one]
    ports.withdraw(container_id="one", ifname="eth0")
    assert list(ports.published()) == []


def test_withdrawing_twice_is_no_error(ports: Ports) -> None:
    ports.withdraw(container_id="one", ifname="eth0")
    ports.withdraw(container_id="one", ifname="eth0")
    assert list(ports.published()) == []


def test_a_port_that_another_sandbox_holds_is_refused_by_name_and_stays_with_it(ports: Ports) -> None:
    one = record("one", "10.1.0.2", PortMapping("tcp", 8080, 80))
    ports.publish(one, bridge="cni0")
    with pytest.raises(errors.CniError, match="8080/tcp by sandbox one"):
        ports.publish(record("two", "10.1.0.3", PortMapping("tcp", 8080, 80)), bridge="cni0")
    assert list(ports.published()) == [one]


def test_one_port_on_two_addresses_or_protocols_belongs_to_two_sandboxes(ports: Ports) -> None:
    first = ip_address("192.0.2.1")
    second = ip_address("192.0.2.2")
    ports.publish(record("one", "10.1.0.2", PortMapping("tcp", 8080, 80, first)), bridge="cni0")
    ports.publish(record("two", "10.1.0.3", PortMapping("tcp", 8080, 80, second)), bridge="cni0")
    ports.publish(record("three", "10.1.0.4", PortMapping("udp", 8080, 80, first)), bridge="cni0")
    assert len(ports.published()) == 3


def test_everything_but_what_is_valid_is_taken_back(ports: Ports) -> None:
    one = record("one", "10.1.0.2", PortMapping("tcp", 1, 80))
    ports.publish(one, bridge="cni0")
    ports.publish(record("two", "10.1.0.3", PortMapping("tcp", 2, 80)), bridge="cni0")
    ports.keep_only({("one", "eth0")})
    assert list(ports.published()) == [one]
