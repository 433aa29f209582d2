"""Two nodes in namespaces: pods by the real plugin, routes by the real overlay, packets by ping and TCP."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from cni import attachment, forward, install, masquerade, netns
from cni.config import CNIConfiguration
from cni.overlay.kernel import KernelFabric
from cni.overlay.plan import Change, Entry, Route
from cni.plugin import Plugin


def run(*argv: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=20, input=stdin)


class Machine:
    """One node: a namespace, an address on the shared link, a pod range, the plugin."""

    def __init__(self, path: str, folder: Path, number: int) -> None:
        self.path, self.number = path, number
        self.name = path.rsplit("/", 1)[1]
        self.folder = folder / str(number)
        self.address = f"192.0.2.{number}"
        self.cidr = f"10.88.{number}.0/24"

    def exec(self, *argv: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run("ip", "netns", "exec", self.name, *argv, check=check, stdin=stdin)

    def attach(self, pod: str, container: str) -> str:
        return str(self._call("ADD", pod, container)["ips"][0]["address"]).split("/")[0]

    def detach(self, pod: str, container: str) -> None:
        self._call("DEL", pod, container)

    def routes(self, change: Change) -> frozenset[Entry]:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            with netns.entered(descriptor):
                KernelFabric().apply(change)
                return KernelFabric().observe()
        finally:
            os.close(descriptor)

    def accept_forwarding(self) -> str:
        """What `iptables -S` says afterwards."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            with netns.entered(descriptor):
                asyncio.run(forward.accept([self.cidr]))
        finally:
            os.close(descriptor)
        return self.exec("iptables", "-S").stdout

    def _call(self, command: str, pod: str, container: str) -> dict[str, list[dict[str, str]]]:
        ipam = {"dataDir": str(self.folder), "ranges": [[{"subnet": self.cidr}]]}
        config = {"cniVersion": "1.0.0", "name": "net", "mtu": 1400, "ipam": ipam}
        variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            with netns.entered(descriptor):
                code, body = Plugin().call(variables, json.dumps(config).encode())
        finally:
            os.close(descriptor)
        assert code == 0, body
        return json.loads(body) if body else {}


@pytest.fixture
def machines(new_namespace: Callable[[str], str], tmp_path: Path) -> Iterator[list[Machine]]:
    """Two nodes on one link, forwarding, with routes to each other's pods."""
    pair = [Machine(new_namespace(f"node{n}"), tmp_path, n) for n in (1, 2)]
    first, second = pair
    first.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", second.name)
    for machine in pair:
        machine.exec("ip", "link", "set", "lo", "up")
        machine.exec("ip", "address", "add", f"{machine.address}/24", "dev", "up0")
        machine.exec("ip", "link", "set", "up0", "up")
        machine.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for machine, other in ((first, second), (second, first)):
        machine.routes(Change(add=(Route(ip_network(other.cidr), ip_address(other.address)),)))
    yield pair


def reaches(source: str, address: str) -> bool:
    name = source.rsplit("/", 1)[1]
    return run("ip", "netns", "exec", name, "busybox", "ping", "-c1", "-W2", address, check=False).returncode == 0


def test_pods_of_one_node_and_of_two_nodes_reach_each_other(
    machines: list[Machine], new_namespace: Callable[[str], str]
) -> None:
    first, second = machines
    a, b, c = new_namespace("a"), new_namespace("b"), new_namespace("c")
    first.attach(a, "a")
    address_b, address_c = first.attach(b, "b"), second.attach(c, "c")
    assert reaches(a, address_b)
    assert reaches(a, address_c)
    assert reaches(first.path, address_c)


def test_a_pod_has_the_mtu_and_its_loopback(machines: list[Machine], new_namespace: Callable[[str], str]) -> None:
    pod = new_namespace("a")
    machines[0].attach(pod, "a")
    links = json.loads(run("ip", "-n", pod.rsplit("/", 1)[1], "-j", "link").stdout)
    assert {link["ifname"]: link["mtu"] for link in links}["eth0"] == 1400
    assert "UP" in next(link["flags"] for link in links if link["ifname"] == "lo")


def test_the_host_end_has_the_mac_that_the_result_says_and_nobody_chose_it(
    machines: list[Machine], new_namespace: Callable[[str], str]
) -> None:
    machines[0].attach(new_namespace("a"), "a")
    links = json.loads(machines[0].exec("ip", "-j", "link", "show", "type", "veth", "master", "cni0").stdout)
    (link,) = [link for link in links if link]
    assert link["address"] == attachment.host_mac(link["ifname"])
    assigned = machines[0].exec("cat", f"/sys/class/net/{link['ifname']}/addr_assign_type").stdout.strip()
    assert assigned == "3"  # set by a person or program: udev leaves such a MAC alone


def test_an_address_used_anew_is_reached_at_once_by_a_neighbour_that_knew_the_old_pod(
    machines: list[Machine], new_namespace: Callable[[str], str]
) -> None:
    node = machines[0]
    a, old, new = new_namespace("a"), new_namespace("old"), new_namespace("new")
    node.attach(a, "a")
    address = node.attach(old, "old")
    assert reaches(a, address)
    node.detach(old, "old")
    (node.folder / "net" / "last_reserved_ip.0").unlink()
    assert node.attach(new, "new") == address
    assert reaches(a, address)


def test_after_del_nothing_of_the_pod_is_left(machines: list[Machine], new_namespace: Callable[[str], str]) -> None:
    node, pod = machines[0], new_namespace("a")
    node.attach(pod, "a")
    node.detach(pod, "a")
    assert "veth" not in node.exec("ip", "-o", "link", "show", "type", "veth", "master", "cni0").stdout
    assert {path.name for path in (node.folder / "net").iterdir()} == {"lock", "last_reserved_ip.0"}


def test_a_route_of_somebody_else_is_neither_seen_nor_removed(machines: list[Machine]) -> None:
    first, second = machines
    first.exec("ip", "route", "add", "10.99.0.0/24", "via", second.address)
    ours = first.routes(Change())
    assert {str(route.key) for route in ours} == {second.cidr}
    assert first.routes(Change(remove=tuple(ours))) == frozenset()
    assert "10.99.0.0/24" in first.exec("ip", "route").stdout


def test_a_pod_leaves_with_the_nodes_address_but_speaks_to_pods_with_its_own(
    machines: list[Machine], new_namespace: Callable[[str], str]
) -> None:
    first, second = machines
    pod, peer = new_namespace("a"), new_namespace("b")
    own = first.attach(pod, "a")
    address = second.attach(peer, "b")
    first.exec("nft", "-f", "-", stdin=masquerade.ruleset(own=[first.cidr], pods=[first.cidr, second.cidr]))
    # Without the way back to the first node's pods, only a masqueraded packet is answered.
    second.routes(Change(remove=(Route(ip_network(first.cidr), ip_address(first.address)),)))
    assert reaches(pod, second.address)
    second.routes(Change(add=(Route(ip_network(first.cidr), ip_address(first.address)),)))
    seen = f"type filter hook forward priority 0; ip saddr {own} ip daddr {address} counter;"
    counter = f"table ip seen {{ chain c {{ {seen} }}; }}"
    second.exec("nft", "-f", "-", stdin=counter)
    assert reaches(pod, address)
    assert "packets 0" not in second.exec("nft", "list", "table", "ip", "seen").stdout


def test_pods_are_reached_on_hosts_that_drop_what_they_forward(
    machines: list[Machine], new_namespace: Callable[[str], str]
) -> None:
    first, second = machines
    a, b, c = new_namespace("a"), new_namespace("b"), new_namespace("c")
    first.attach(a, "a")
    address_b, address_c = first.attach(b, "b"), second.attach(c, "c")
    first.exec("iptables", "-P", "FORWARD", "DROP")
    first.exec("iptables", "-A", "FORWARD", "-s", "203.0.113.0/24", "-j", "DROP")
    assert not reaches(a, address_c)
    rules = [first.accept_forwarding() for _ in range(2)]
    assert rules[0] == rules[1]
    assert reaches(a, address_b)
    assert reaches(a, address_c)
    first.exec("iptables", "-I", "FORWARD", "1", "-j", "DROP")
    assert not reaches(a, address_c)
    first.accept_forwarding()
    assert reaches(a, address_c)
    assert "203.0.113.0/24" in first.accept_forwarding()


def test_clean_up_takes_the_chain_away_and_leaves_the_hosts_own_rules(machines: list[Machine]) -> None:
    first = machines[0]
    first.exec("iptables", "-P", "FORWARD", "DROP")
    before = first.exec("iptables", "-S").stdout
    assert first.accept_forwarding() != before
    with open(first.path) as namespace, netns.entered(namespace.fileno()):
        asyncio.run(forward.remove())
    assert first.exec("iptables", "-S").stdout == before


def test_a_host_that_drops_nothing_gets_no_chain(machines: list[Machine]) -> None:
    assert "NODEAGENT" not in machines[0].accept_forwarding()


def test_the_installed_shim_speaks_json_errors_when_the_daemon_is_dead(tmp_path: Path) -> None:
    config = CNIConfiguration(socket=str(tmp_path / "none.sock"), bin_dir=str(tmp_path / "bin"))
    program = install.plugin(config)
    environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "x", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0"}
    done = subprocess.run([program], env=environment, input=b"{}", capture_output=True, timeout=20)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 11


def test_the_installed_shim_answers_version_by_itself(tmp_path: Path) -> None:
    config = CNIConfiguration(socket=str(tmp_path / "none.sock"), bin_dir=str(tmp_path / "bin"))
    program = install.plugin(config)
    done = subprocess.run(
        [program], env={"CNI_COMMAND": "VERSION"}, input=b'{"cniVersion":"1.0.0"}', capture_output=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert "1.1.0" in json.loads(done.stdout)["supportedVersions"]
