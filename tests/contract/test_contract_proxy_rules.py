"""One suite for the proxy's backends, in packets: who answers a pod, seen from whom.

It runs on the fake, which follows packets through the rules' text, and in the kernel, where pods in namespaces really
connect. A backend that is added later is one more parameter.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from fakes.nft import FakeNft
from proxy.backends.nftables import NftablesBackend
from proxy.backends.protocol import Backend, BackendError
from proxy.rules import plan
from proxy.rules.plan import Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

PODS = {"a": "10.66.0.2", "b": "10.66.0.3", "c": "10.66.0.4"}
WEB = ServiceKey("default", "web")
ADDRESS = "10.96.0.10"
TRIES = 24


class World(Protocol):
    """Three pods on one node, and a backend that serves it."""

    backend: Backend

    def reach(self, pod: str, address: str, protocol: str, port: int) -> set[tuple[str, bool]]:
        """How connections of a pod end: (pod that answered, "refused" or "silence"; masqueraded)."""
        ...


class FakeWorld:
    """Packets followed through text."""

    def __init__(self) -> None:
        self.nft = FakeNft()
        self.backend: Backend = NftablesBackend(self.nft)

    def reach(self, pod: str, address: str, protocol: str, port: int) -> set[tuple[str, bool]]:
        names = {ip: name for name, ip in PODS.items()}
        ends = self.nft.connect(source=PODS[pod], to=address, protocol=protocol, port=port)
        return {
            (names.get(e.address, e.address) if e.verdict == "delivered" else e.verdict, e.masqueraded) for e in ends
        }


SERVER = """
import socket, sys, threading
def tcp(port):
    listener = socket.create_server(("0.0.0.0", port))
    while True:
        connection, peer = listener.accept()
        connection.sendall(f"{sys.argv[1]} {peer[0]}".encode())
        connection.close()
def udp(port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("0.0.0.0", port))
    while True:
        _, peer = listener.recvfrom(100)
        listener.sendto(f"{sys.argv[1]} {peer[0]}".encode(), peer)
for target in (tcp, udp):
    for port in (8080, 9090):
        threading.Thread(target=target, args=(port,)).start()
print("ready", flush=True)
"""
CLIENT = """
import socket, sys
address, protocol, port, tries = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(tries):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(1.0)
        try:
            client.connect((address, port))
            if protocol == "udp":
                client.send(b"?")
            print(client.recv(100).decode(), client.getsockname()[0])
        except ConnectionRefusedError:
            print("refused - -")
            break
        except TimeoutError:
            print("silence - -")
            break
        except OSError:
            print("unreachable - -")
            break
"""


class KernelWorld:
    """Pods in namespaces behind a bridge of a namespace that plays the node."""

    def __init__(self, node: str, new_namespace: Callable[[str], str]) -> None:
        self.backend: Backend = NftablesBackend()
        self.namespaces: dict[str, str] = {}
        self.servers: list[subprocess.Popen[str]] = []
        _ip("link", "add", "br0", "type", "bridge")
        _ip("address", "add", "10.66.0.1/24", "dev", "br0")
        _ip("link", "set", "br0", "up")
        # As on any node: without a default route a packet to a cluster address ends before it meets a rule.
        _ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
        for name in ("up0", "up1"):
            _ip("link", "set", name, "up")
        _ip("address", "add", "192.0.2.1/24", "dev", "up0")
        _ip("route", "add", "default", "via", "192.0.2.2")
        for name, value in (("ip_forward", "1"), ("conf/all/rp_filter", "0")):
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")
        for pod, address in PODS.items():
            self._pod(pod, address, new_namespace(pod).rsplit("/", 1)[1], node)

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait(timeout=10)

    def reach(self, pod: str, address: str, protocol: str, port: int) -> set[tuple[str, bool]]:
        argv = [sys.executable, "-c", CLIENT, address, protocol, str(port), str(TRIES)]
        done = _in(self.namespaces[pod], *argv)
        ends = set()
        for line in done.stdout.splitlines():
            who, seen, own = line.split()
            ends.add((who, seen not in (own, "-")))
        return ends

    def _pod(self, pod: str, address: str, name: str, node: str) -> None:
        self.namespaces[pod] = name
        _ip("link", "add", f"v{pod}", "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", f"v{pod}", "master", "br0")
        _ip("link", "set", f"v{pod}", "type", "bridge_slave", "hairpin", "on")
        _ip("link", "set", f"v{pod}", "up")
        for words in ("link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"):
            _ip("-n", name, *words.split())
        _ip("-n", name, "route", "add", "default", "via", "10.66.0.1")
        argv = ["ip", "netns", "exec", name, sys.executable, "-c", SERVER, pod]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=10)


def _in(namespace: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *argv], check=True, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(params=["nftables-fake", "nftables-kernel"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "nftables-fake":
        yield FakeWorld()
        return
    node = request.getfixturevalue("inside_host")
    kernel = KernelWorld(node, request.getfixturevalue("new_namespace"))
    try:
        yield kernel
    finally:
        kernel.close()


class Cluster:
    """Applies Services one change at a time, as the syncer does."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.applied = RuleSet()

    async def start(self) -> "Cluster":
        await self.backend.replace(self.applied)
        return self

    async def serve(self, key: ServiceKey, *ports: tuple[str, int, int, str], drop: bool = False) -> None:
        """Each port: protocol, port, target port, names of the pods behind it."""
        before = self.applied.services.get(key, {})
        rules = {}
        for protocol, port, target, pods in ports:
            frontend = Frontend(ADDRESS, protocol, port)
            old = before.get(frontend)
            wanted = {plan.Backend(PODS[pod], target) for pod in pods}
            rules[frontend] = PortRules(
                backends=plan.stable(old.backends if old else (), wanted),
                drop=drop,
                hairpins=frozenset(PODS[pod] for pod in pods),
            )
        await self.backend.change(plan.difference(self.applied, {key: rules}))
        self.applied.replace(key, rules)


async def test_pod_a_to_the_cluster_address_reaches_each_endpoint_with_its_own_address(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"))
    assert world.reach("a", ADDRESS, "tcp", 80) == {("b", False), ("c", False)}


async def test_a_pod_that_reaches_itself_through_its_service_is_masqueraded(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "a"))
    assert world.reach("a", ADDRESS, "tcp", 80) == {("a", True)}
    assert world.reach("b", ADDRESS, "tcp", 80) == {("a", False)}


async def test_udp_is_served_beside_tcp_on_the_same_port_number(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 53, 8080, "b"), ("udp", 53, 9090, "c"))
    assert world.reach("a", ADDRESS, "tcp", 53) == {("b", False)}
    assert world.reach("a", ADDRESS, "udp", 53) == {("c", False)}


async def test_every_port_of_a_service_leads_to_its_own_target(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"), ("tcp", 81, 9090, "c"))
    assert world.reach("a", ADDRESS, "tcp", 80) == {("b", False)}
    assert world.reach("a", ADDRESS, "tcp", 81) == {("c", False)}


async def test_a_service_without_endpoints_refuses(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, ""), ("udp", 80, 8080, ""))
    assert world.reach("a", ADDRESS, "tcp", 80) == {("refused", False)}
    assert world.reach("a", ADDRESS, "udp", 80) == {("refused", False)}


async def test_a_port_that_the_service_does_not_have_is_refused(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    assert world.reach("a", ADDRESS, "tcp", 99) == {("refused", False)}


async def test_a_local_policy_without_local_endpoints_is_silent(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, ""), drop=True)
    assert world.reach("a", ADDRESS, "tcp", 80) == {("silence", False)}


async def test_endpoints_come_and_go_one_by_one(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    for pods in ("b", "bc", "abc", "ac", "c", "", "b"):
        await cluster.serve(WEB, ("tcp", 80, 8080, pods))
        answers = {who for who, _ in world.reach("a", ADDRESS, "tcp", 80)}
        assert answers == (set(pods) or {"refused"})


async def test_a_deleted_service_is_nobodys_address(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    await cluster.serve(WEB)
    assert "b" not in {who for who, _ in world.reach("a", ADDRESS, "tcp", 80)}


async def test_writing_everything_anew_changes_nothing_for_clients(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    await cluster.serve(WEB, ("tcp", 80, 8080, "bc"))
    await world.backend.replace(cluster.applied)
    assert world.reach("a", ADDRESS, "tcp", 80) == {("b", False), ("c", False)}
    await cluster.serve(WEB, ("tcp", 80, 8080, "c"))
    assert world.reach("a", ADDRESS, "tcp", 80) == {("c", False)}


async def test_a_change_that_does_not_fit_is_refused_whole(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    wrong = RuleSet()
    wrong.replace(WEB, {Frontend(ADDRESS, "tcp", 80): PortRules(backends=(plan.Backend(PODS["b"], 8080),))})
    with pytest.raises(BackendError):
        await world.backend.change(plan.difference(wrong, {WEB: {}}))
    await cluster.serve(WEB, ("tcp", 80, 8080, "b"))
    assert world.reach("a", ADDRESS, "tcp", 80) == {("b", False)}


async def test_more_endpoints_than_prepared_for_ask_for_a_full_write(world: World) -> None:
    cluster = await Cluster(world.backend).start()
    many = tuple(plan.Backend(f"10.67.{n // 250}.{n % 250 + 1}", 80) for n in range(100))
    rules = {WEB: {Frontend(ADDRESS, "tcp", 80): PortRules(backends=many)}}
    with pytest.raises(BackendError):
        await world.backend.change(plan.difference(cluster.applied, rules))
    cluster.applied.replace(WEB, rules[WEB])
    await world.backend.replace(cluster.applied)


async def test_what_is_cleaned_up_is_not_present(world: World) -> None:
    await Cluster(world.backend).start()
    assert await world.backend.present()
    await world.backend.cleanup()
    assert not await world.backend.present()
