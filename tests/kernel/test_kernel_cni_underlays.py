"""Pods of two nodes over every shape of underlay, in every IP version, by packets.

One link; two links, of which the first has the same address on every machine, as with virtual machines; and routers
between the nodes. Pods are made by the plugin from the configuration that the node's part has written.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni import netns
from cni.config import CNIConfiguration
from cni.network import Network
from cni.overlay.kernel import KernelFabric
from cni.plugin import Plugin
from fakes.apiserver import FakeApiServer
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.types import Node

ROLES = ("a", "b")
VERSIONS = {"IPv4": (4,), "IPv6": (6,), "dual": (4, 6)}
PODS = {("a", 4): "10.88.1.0/24", ("b", 4): "10.88.2.0/24", ("a", 6): "fd00:88:1::/64", ("b", 6): "fd00:88:2::/64"}
SHARED = {("a", 4): "192.0.2.1/24", ("b", 4): "192.0.2.2/24", ("a", 6): "fd00:2::1/64", ("b", 6): "fd00:2::2/64"}
APART = {
    ("a", 4): "192.0.2.2/24",
    ("b", 4): "198.51.100.2/24",
    ("a", 6): "fd00:2::2/64",
    ("b", 6): "fd00:98::2/64",
}
SAME_EVERYWHERE = "10.0.2.15/24"
HEADERS = {4: 50, 6: 70}


def run(name: str, *argv: str, check: bool = True, stdin: str = "") -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", name, *argv], check=check, capture_output=True, text=True, timeout=30, input=stdin
    )
    return done.stdout if done.returncode == 0 else ""


class Underlay:
    """Two machines in one shape; `node` is a machine's addresses in the cluster."""

    def __init__(self, shape: str, versions: Sequence[int], make: Callable[[str], str]) -> None:
        self.shape, self.versions = shape, versions
        self.paths = {role: make(role) for role in ROLES}
        self.names = {role: path.rsplit("/", 1)[1] for role, path in self.paths.items()}
        self.node = APART if shape == "routed" else SHARED
        for name in self.names.values():
            run(name, "ip", "link", "set", "lo", "up")
            run(name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        (self._routers if shape == "routed" else self._link)(make)

    def _link(self, make: Callable[[str], str]) -> None:
        a, b = (self.names[role] for role in ROLES)
        if self.shape == "two links":
            for name in (a, b):
                run(name, "ip", "link", "add", "nat0", "type", "veth", "peer", "name", "nat0-far")
                run(name, "ip", "-batch", "-", stdin=f"address add {SAME_EVERYWHERE} dev nat0\nlink set nat0 up\n")
                run(name, "ip", "-batch", "-", stdin="link set nat0-far up\nroute add default via 10.0.2.2\n")
        run(a, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", b)
        for role in ROLES:
            self._address(role)
            if self.shape == "one link":  # a route to anywhere, as services need it
                run(self.names[role], "ip", "route", "add", "default", "dev", "up0")

    def _routers(self, make: Callable[[str], str]) -> None:
        router = make("router").rsplit("/", 1)[1]
        run(router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run(router, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        for role in ROLES:
            run(router, "ip", "link", "add", f"to-{role}", "type", "veth", "peer", "up0", "netns", self.names[role])
            self._address(role)
            run(router, "ip", "link", "set", f"to-{role}", "up")
            for version in self.versions:
                own = ip_interface(self.node[role, version])
                gateway = own.ip - 1
                run(router, "ip", "address", "add", f"{gateway}/{own.network.prefixlen}", "dev", f"to-{role}")
                run(self.names[role], "ip", f"-{version}", "route", "add", "default", "via", str(gateway))

    def _address(self, role: str) -> None:
        for version in self.versions:
            run(self.names[role], "ip", "address", "add", self.node[role, version], "dev", "up0")
        run(self.names[role], "ip", "link", "set", "up0", "up")


class Nodes:
    """A scripted API server with both machines as nodes."""

    def __init__(self, underlay: Underlay, folder: Path, mode: str) -> None:
        self.underlay, self.folder, self.mode = underlay, folder, mode
        self.server = FakeApiServer()
        self.notes: dict[str, dict[str, str | None]] = {role: {} for role in ROLES}
        for role in ROLES:
            self.put(role)

    def put(self, role: str) -> None:
        cidrs = [PODS[role, version] for version in self.underlay.versions]
        found = [str(ip_interface(self.underlay.node[role, version]).ip) for version in self.underlay.versions]
        notes = {key: value for key, value in self.notes[role].items() if value is not None}
        addresses = [{"type": "InternalIP", "address": address} for address in found]
        spec = {"podCIDR": cidrs[0], "podCIDRs": cidrs}
        body = {"metadata": {"name": role, "annotations": notes}, "spec": spec, "status": {"addresses": addresses}}
        self.server.put(scheme.NODES, body)

    def settle(self, role: str) -> None:
        """Lets our part of one machine do all it has to do."""
        with open(self.underlay.paths[role]) as namespace, netns.entered(namespace.fileno()):
            asyncio.run(self._settle(role))

    async def _settle(self, role: str) -> None:
        async def ignore(_: object = None) -> None:
            return None

        async def annotate(notes: Any) -> None:
            self.notes[role] = dict(notes)
            self.put(role)

        informers = Informers(self.server.client(), clock=SystemClock())
        network = Network(
            CNIConfiguration(conf_dir=str(self.folder / role), data_dir=str(self.folder / role), overlay=self.mode),
            node_name=role,
            node_ip=str(ip_interface(self.underlay.node[role, self.underlay.versions[0]]).ip),
            nodes=informers.get(scheme.NODES, Node),
            fabric=KernelFabric(),
            apply_rules=ignore,
            annotate=annotate,
            accept_forwarding=ignore,
            mend_bridge=ignore,
            report=ignore,
        )
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (informers, network)]
            while network.ready() is not None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()

    def conflist(self, role: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / role / "10-nodeagent.conflist").read_text())
        return found

    def pod(self, role: str, path: str) -> list[str]:
        """The addresses of a new pod of this node."""
        written = self.conflist(role)
        config = {"cniVersion": "1.0.0", "name": written["name"], **written["plugins"][0]}
        variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": role, "CNI_NETNS": path, "CNI_IFNAME": "eth0"}
        with open(self.underlay.paths[role]) as namespace, netns.entered(namespace.fileno()):
            code, body = Plugin().call(variables, json.dumps(config).encode())
        assert code == 0, body
        return [str(ip["address"]).split("/")[0] for ip in json.loads(body)["ips"]]


def answers(path: str, address: str, *, size: int) -> bool:
    """Whether a packet of this size, which nobody may cut, comes back."""
    family = ["-6"] if ":" in address else []
    payload = str(size - (48 if family else 28))
    argv = ["busybox", "ping", *family, "-c1", "-W5", "-s", payload, address]
    with suppress(subprocess.TimeoutExpired):
        return bool(run(path.rsplit("/", 1)[1], *argv, check=False))
    return False


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize(
    ("shape", "mode", "encapsulated"),
    [
        ("one link", "auto", False),
        ("one link", "vxlan", True),
        ("two links", "auto", False),
        ("two links", "vxlan", True),
        ("routed", "auto", True),
    ],
)
def test_pods_of_two_nodes_reach_each_other_with_packets_of_full_size(
    new_namespace: Callable[[str], str], tmp_path: Path, shape: str, mode: str, encapsulated: bool, versions: str
) -> None:
    underlay = Underlay(shape, VERSIONS[versions], new_namespace)
    nodes = Nodes(underlay, tmp_path, mode)
    for role in ("a", "b", "a"):
        nodes.settle(role)
    pods = {role: new_namespace(f"pod-{role}") for role in ROLES}
    mtu = 1500 - (max(HEADERS[version] for version in underlay.versions) if encapsulated else 0)
    for role in ROLES:
        assert nodes.conflist(role)["plugins"][0]["mtu"] == mtu
    addresses = {role: nodes.pod(role, pods[role]) for role in ROLES}
    for source, target in (("a", "b"), ("b", "a")):
        assert len(addresses[target]) == len(underlay.versions)
        for address in addresses[target]:
            assert answers(pods[source], address, size=mtu), (source, address)
    for version in underlay.versions:
        routes = run(underlay.names["a"], "ip", f"-{version}", "route", "show", "proto", "110")
        assert ("dev nodeagent" in routes) is encapsulated, routes
        wanted = str(ip_interface(underlay.node["a", version]).ip)
        assert nodes.notes["a"]["flannel.alpha.coreos.com/public-ip" + ("v6" if version == 6 else "")] == wanted
