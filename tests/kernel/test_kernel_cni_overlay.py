"""Nodes behind a router: ours on one side; on the other ours again, or what flannel lays out, built with `ip`.

The API server is a scripted one; everything from the Node object down to the packet is the product.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni import daemon, netns
from cni.config import CNIConfiguration
from cni.links import KernelLinks
from cni.network import Network
from cni.overlay import plan
from cni.overlay.kernel import KernelFabric
from cni.overlay.watch import Watch
from cni.plugin import Plugin
from fakes.apiserver import FakeApiServer
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.types import Node

NETWORKD = Path("/lib/systemd/systemd-networkd")
FLANNEL_MAC = "ee:11:22:33:44:55"
ADDRESS = {"a": "192.0.2.2", "b": "198.51.100.2"}
CIDR = {"a": "10.88.1.0/24", "b": "10.88.2.0/24"}
END = {"a": "10.88.1.0", "b": "10.88.2.0"}
POD = {"a": "10.88.1.1", "b": "10.88.2.1"}
PREFIX = "flannel.alpha.coreos.com/"


def run(name: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", "netns", "exec", name, *argv], check=check, capture_output=True, text=True, timeout=20)


class Sides:
    """Two machines and the router between them; a pod is an address on a machine's `lo`, which serves as well."""

    def __init__(self, new_namespace: Callable[[str], str]) -> None:
        self.paths = {role: new_namespace(role) for role in ("a", "b", "router")}
        self.names = {role: path.rsplit("/", 1)[1] for role, path in self.paths.items()}
        router = self.names["router"]
        for role, address in ADDRESS.items():
            gateway, name = address[:-1] + "1", self.names[role]
            run(router, "ip", "link", "add", f"to-{role}", "type", "veth", "peer", "name", "up0", "netns", name)
            run(router, "ip", "address", "add", f"{gateway}/24", "dev", f"to-{role}")
            run(router, "ip", "link", "set", f"to-{role}", "up")
            for argv in (
                ["link", "set", "lo", "up"],
                ["address", "add", f"{address}/24", "dev", "up0"],
                ["link", "set", "up0", "up"],
                ["route", "add", "default", "via", gateway],
                ["address", "add", f"{POD[role]}/32", "dev", "lo"],
            ):
                run(name, "ip", *argv)
        run(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def reaches(self, source: str, target: str) -> bool:
        argv = ("busybox", "ping", "-c1", "-W1", "-I", POD[source], POD[target])
        return run(self.names[source], *argv, check=False).returncode == 0

    def flannel(self, role: str, *, peer: str, peer_mac: str) -> None:
        """The device, routes and entries that flannel's VXLAN backend makes for one peer."""
        name = self.names[role]
        for argv in (
            "link add flannel.1 type vxlan id 1 dev up0 dstport 8472 nolearning local " + ADDRESS[role],
            f"link set flannel.1 address {FLANNEL_MAC}",
            f"address add {END[role]}/32 dev flannel.1",
            "link set flannel.1 up",
            f"neighbour add {END[peer]} lladdr {peer_mac} dev flannel.1 nud permanent",
            f"route add {CIDR[peer]} via {END[peer]} dev flannel.1 onlink",
        ):
            run(name, "ip", *argv.split())
        run(name, *f"bridge fdb append {peer_mac} dev flannel.1 dst {ADDRESS[peer]} self permanent".split())


class Cluster:
    """A scripted API server, and our network part on chosen machines."""

    def __init__(self, sides: Sides, folder: Path) -> None:
        self.sides, self.folder = sides, folder
        self.mended = 0
        self.server = FakeApiServer()

    def node(self, role: str, notes: Mapping[str, str | None] | None = None) -> None:
        spec = {"podCIDR": CIDR[role], "podCIDRs": [CIDR[role]]}
        status = {"addresses": [{"type": "InternalIP", "address": ADDRESS[role]}]}
        kept = {key: value for key, value in (notes or {}).items() if value is not None}
        self.server.put(scheme.NODES, {"metadata": {"name": role, "annotations": kept}, "spec": spec, "status": status})

    @asynccontextmanager
    async def running(self, role: str, **config: Any) -> AsyncIterator[Network]:
        """Our part on one machine. The calling thread is in that machine's namespace, and its threads follow."""

        async def ignore(_: object = None) -> None:
            return None

        async def annotate(notes: Mapping[str, str | None]) -> None:
            self.node(role, notes)

        async def mend() -> None:
            self.mended += 1
            await asyncio.to_thread(daemon.mend_bridge, chosen, KernelLinks())

        chosen = CNIConfiguration(
            conf_dir=str(self.folder / role), data_dir=str(self.folder / role / "leases"), **config
        )
        informers = Informers(self.server.client(), clock=SystemClock())
        network = Network(
            chosen,
            node_name=role,
            node_ip=ADDRESS[role],
            nodes=informers.get(scheme.NODES, Node),
            fabric=KernelFabric(),
            apply_rules=ignore,
            annotate=annotate,
            accept_forwarding=ignore,
            mend_bridge=mend,
            report=ignore,
        )
        watch = Watch(interest=network.interest, changed=network.recheck)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (informers, network, watch)]
            await until(lambda: network.ready() is None)
            yield network
            for task in tasks:
                task.cancel()


async def until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the kernel tells this test nothing
            await asyncio.sleep(0.02)


@pytest.fixture
def cluster(new_namespace: Callable[[str], str], tmp_path: Path) -> Cluster:
    return Cluster(Sides(new_namespace), tmp_path)


def on(cluster: Cluster, role: str, story: Callable[[Network], Awaitable[None]], **config: Any) -> None:
    """Runs our part on one machine, and a story beside it."""

    async def told() -> None:
        async with cluster.running(role, **config) as network:
            await story(network)

    descriptor = os.open(cluster.sides.paths[role], os.O_RDONLY)
    try:
        with netns.entered(descriptor):
            asyncio.run(told())
    finally:
        os.close(descriptor)


def flannel_notes(role: str) -> dict[str, str]:
    return {
        PREFIX + "backend-type": "vxlan",
        PREFIX + "backend-data": json.dumps({"VNI": 1, "VtepMAC": FLANNEL_MAC}),
        PREFIX + "public-ip": ADDRESS[role],
        PREFIX + "kube-subnet-manager": "true",
    }


def entries(cluster: Cluster, role: str) -> str:
    name = cluster.sides.names[role]
    return "".join(
        run(name, *argv.split(), check=False).stdout
        for argv in (
            "ip route show proto 110",
            "ip neighbour show dev nodeagent.1 nud permanent",
            "bridge fdb show dev nodeagent.1",
        )
    )


def test_a_node_of_ours_and_a_flannel_node_reach_each_other_both_ways(cluster: Cluster) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))

    async def story(_: Network) -> None:
        own = cluster.server.find(scheme.NODES, "a") or {}
        mac = json.loads(own["metadata"]["annotations"][PREFIX + "backend-data"])["VtepMAC"]
        cluster.sides.flannel("b", peer="a", peer_mac=mac)
        assert cluster.sides.reaches("a", "b")
        assert cluster.sides.reaches("b", "a")

    on(cluster, "a", story)


def test_two_nodes_of_ours_behind_a_router_reach_each_other(cluster: Cluster) -> None:
    cluster.node("a")
    cluster.node("b")

    async def nothing(_: Network) -> None:
        await asyncio.sleep(0)

    async def story(_: Network) -> None:
        await until(lambda: cluster.sides.reaches("a", "b"))
        assert cluster.sides.reaches("b", "a")

    on(cluster, "a", nothing)
    on(cluster, "b", nothing)
    on(cluster, "a", story)


def test_a_node_that_left_leaves_no_entry(cluster: Cluster) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))

    async def story(_: Network) -> None:
        before = entries(cluster, "a")
        assert before.count(FLANNEL_MAC) == 2
        assert CIDR["b"] in before
        cluster.server.remove(scheme.NODES, "b")
        await until(lambda: not entries(cluster, "a"))

    on(cluster, "a", story)


@pytest.mark.parametrize(
    "harm",
    [
        "bridge fdb del ee:11:22:33:44:55 dev nodeagent.1 dst 198.51.100.2 self",
        "ip neighbour flush dev nodeagent.1 nud permanent",
        "ip route flush proto 110",
        "ip route replace 10.88.2.0/24 via 192.0.2.9",
        "ip link delete nodeagent.1",
        "ip link set nodeagent.1 down",
        "ip address flush dev nodeagent.1",
    ],
)
def test_harm_done_by_others_is_mended_within_a_second(cluster: Cluster, harm: str) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))
    device = "ip -o address show dev nodeagent.1 up"

    async def story(_: Network) -> None:
        name = cluster.sides.names["a"]

        def state() -> str:
            addresses = run(name, *device.split(), check=False).stdout
            return entries(cluster, "a") + str("10.88.1.0/32" in addresses)

        before = state()
        await asyncio.sleep(0.3)
        run(name, *harm.split())
        assert state() != before
        await until(lambda: sorted(state().split()) == sorted(before.split()), seconds=1.0)

    on(cluster, "a", story)


def test_the_device_carries_what_flannels_does_and_pods_leave_room_for_the_headers(cluster: Cluster) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))

    async def story(_: Network) -> None:
        shown = json.loads(run(cluster.sides.names["a"], "ip", "-j", "-d", "link", "show", "nodeagent.1").stdout)[0]
        data = shown["linkinfo"]["info_data"]
        assert (data["id"], data["port"], data["learning"], data["local"]) == (1, 8472, False, ADDRESS["a"])
        assert shown["mtu"] == 1450
        written = json.loads((cluster.folder / "a" / "10-nodeagent.conflist").read_text())
        assert written["plugins"][0]["mtu"] == 1450

    on(cluster, "a", story)


def test_a_foreign_device_on_the_same_network_is_named_and_direct_routes_go_on(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.node("a")
    rival = "ip link add flannel.1 type vxlan id 1 dev up0 dstport 8472"
    run(cluster.sides.names["a"], *rival.split())

    async def story(network: Network) -> None:
        assert network.ready() is None

    on(cluster, "a", story)
    assert "remove flannel.1" in caplog.text


@pytest.mark.parametrize(
    "harm",
    [
        "ip link delete cni0",
        "ip link set cni0 down",
        "ip address flush dev cni0",
        "ip link set PORT nomaster",
        "ip link set PORT down",
        "sysctl -qw net.ipv4.ip_forward=0",
    ],
)
def test_what_others_take_from_pods_is_theirs_again_within_a_second(
    cluster: Cluster, new_namespace: Callable[[str], str], harm: str
) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))
    pod, name = new_namespace("pod"), cluster.sides.names["a"]
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "one", "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}

    def reached() -> bool:
        argv = ("busybox", "ping", "-c1", "-W1", POD["b"])
        return run(pod.rsplit("/", 1)[1], *argv, check=False).returncode == 0

    def state() -> str:
        bridge = run(name, "ip", "-br", "address", "show", "dev", "cni0", check=False).stdout
        ports = json.loads(run(name, "ip", "-j", "link", "show", "type", "veth").stdout)
        pods = [(p["ifname"], p.get("master"), "UP" in p["flags"]) for p in ports if p["ifname"].startswith("veth")]
        forwards = run(name, "sysctl", "-n", "net.ipv4.ip_forward").stdout
        return f"{'10.88.1.1/24' in bridge} {'DOWN' in bridge} {pods} {forwards}"

    async def story(_: Network) -> None:
        written = json.loads((cluster.folder / "a" / "10-nodeagent.conflist").read_text())
        config = {"cniVersion": "1.0.0", "name": written["name"], **written["plugins"][0]}
        code, body = await asyncio.to_thread(Plugin().call, variables, json.dumps(config).encode())
        assert code == 0, body
        own = cluster.server.find(scheme.NODES, "a") or {}
        mac = json.loads(own["metadata"]["annotations"][PREFIX + "backend-data"])["VtepMAC"]
        cluster.sides.flannel("b", peer="a", peer_mac=mac)
        await until(reached)
        before, port = state(), json.loads(body)["interfaces"][1]["name"]
        await asyncio.sleep(0.5)
        cluster.mended = 0
        run(name, *harm.replace("PORT", port).split())
        await until(lambda: cluster.mended > 0 and state() == before, seconds=1.0)
        await until(reached)

    on(cluster, "a", story)


def started(name: str, *argv: str) -> "subprocess.Popen[bytes]":
    words = ["ip", "netns", "exec", name, *argv]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_systemd_networkd_that_takes_every_interface_for_its_own_breaks_nothing(
    cluster: Cluster, new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    assert NETWORKD.exists(), f"{NETWORKD} is missing; ./dev test brings it"
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))
    (tmp_path / "all.network").write_text("[Match]\nName=*\n[Network]\nLinkLocalAddressing=no\nIPForward=no\n")
    pod, name = new_namespace("pod"), cluster.sides.names["a"]
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "one", "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}
    script = (
        "mount -t tmpfs none /run/systemd && mkdir -p -m 777 /run/systemd/netif/links /run/systemd/netif/leases && "
        f"mkdir /run/systemd/network && cp {tmp_path}/all.network /run/systemd/network && exec {NETWORKD}"
    )

    def reached() -> bool:
        argv = ("busybox", "ping", "-c1", "-W1", POD["b"])
        return run(pod.rsplit("/", 1)[1], *argv, check=False).returncode == 0

    async def story(_: Network) -> None:
        written = json.loads((cluster.folder / "a" / "10-nodeagent.conflist").read_text())
        config = {"cniVersion": "1.0.0", "name": written["name"], **written["plugins"][0]}
        code, body = await asyncio.to_thread(Plugin().call, variables, json.dumps(config).encode())
        assert code == 0, body
        own = cluster.server.find(scheme.NODES, "a") or {}
        mac = json.loads(own["metadata"]["annotations"][PREFIX + "backend-data"])["VtepMAC"]
        cluster.sides.flannel("b", peer="a", peer_mac=mac)
        await until(reached)
        before, cluster.mended = entries(cluster, "a"), 0
        daemon = started(name, "unshare", "--mount", "sh", "-c", script)
        try:
            await until(lambda: cluster.mended > 0, seconds=10.0)
            await asyncio.sleep(2.0)
            assert daemon.poll() is None
            assert reached()
            assert sorted(entries(cluster, "a").split()) == sorted(before.split())
        finally:
            daemon.terminate()
            daemon.wait(10)

    on(cluster, "a", story)


def test_changed_node_addresses_of_both_ends_are_followed_within_a_second(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))
    name = cluster.sides.names["a"]

    def local() -> str:
        shown = json.loads(run(name, "ip", "-j", "-d", "link", "show", "nodeagent.1", check=False).stdout or "[{}]")
        return str(shown[0].get("linkinfo", {}).get("info_data", {}).get("local"))

    async def story(_: Network) -> None:
        assert local() == "192.0.2.2"
        monkeypatch.setitem(ADDRESS, "b", "198.51.100.7")
        cluster.node("b", flannel_notes("b"))
        await until(lambda: "dst 198.51.100.7" in entries(cluster, "a"), seconds=1.0)
        assert "198.51.100.2" not in entries(cluster, "a")

        before = entries(cluster, "a")
        run(name, "ip", "address", "del", "192.0.2.2/24", "dev", "up0")
        run(name, "ip", "address", "add", "192.0.2.7/24", "dev", "up0")
        run(name, "ip", "route", "replace", "default", "via", "192.0.2.1")
        own = cluster.server.find(scheme.NODES, "a") or {}
        monkeypatch.setitem(ADDRESS, "a", "192.0.2.7")
        cluster.node("a", own["metadata"]["annotations"])
        await until(lambda: local() == "192.0.2.7" and sorted(entries(cluster, "a")) == sorted(before), seconds=1.0)
        await until(lambda: _announced(cluster) == "192.0.2.7")

    on(cluster, "a", story)


def _announced(cluster: Cluster) -> str:
    own = cluster.server.find(scheme.NODES, "a") or {}
    return str(own["metadata"]["annotations"][PREFIX + "public-ip"])


def test_a_restart_keeps_device_and_entries(cluster: Cluster) -> None:
    cluster.node("a")
    cluster.node("b", flannel_notes("b"))
    seen: list[str] = []

    async def look(_: Network) -> None:
        index = run(cluster.sides.names["a"], "cat", "/sys/class/net/nodeagent.1/ifindex").stdout
        seen.append(index + entries(cluster, "a"))

    on(cluster, "a", look)
    on(cluster, "a", look)
    assert seen[0] == seen[1]


def test_two_hundred_peers_are_applied_in_a_tenth_of_a_second(cluster: Cluster) -> None:
    wanted: list[plan.Entry] = []
    for number in range(200):
        end, mac = ip_address(f"10.90.{number}.0"), f"ee:00:00:00:00:{number:02x}"
        wanted += [
            plan.Route(ip_network(f"{end}/24"), end, "nodeagent.1"),
            plan.Neighbour(end, mac, "nodeagent.1"),
            plan.Forward(mac, ip_address(f"203.0.113.{number + 1}"), "nodeagent.1"),
        ]
    cluster.node("a")

    async def story(_network: Network) -> None:
        fabric, took = KernelFabric(), []
        for _ in range(3):
            begin = time.perf_counter()
            fabric.apply(plan.change(wanted, fabric.observe()))
            took.append(time.perf_counter() - begin)
            assert len(fabric.observe()) == 600
            fabric.apply(plan.change((), fabric.observe()))
        assert min(took) < 0.1, took

    on(cluster, "a", story)
