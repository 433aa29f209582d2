"""A node with three pods and the world outside it, as the proxy's contract suite sees it: traced, and in the kernel."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fakes.iptables import FakeXtables
from fakes.nft import FakeNft
from proxy.backends.iptables import HostXtables, IptablesBackend
from proxy.backends.nftables import KernelNft, NftablesBackend
from proxy.backends.protocol import Backend

TRIES = 24
KINDS = {"iptables": "nft", "legacy": "legacy"}


@dataclass(frozen=True, kw_only=True)
class Net:
    """The addresses of one IP version."""

    version: int
    pods: dict[str, str]
    gateway: str
    node: str
    outside: str
    pod_range: str
    service: str
    other_service: str
    balancer: str
    near: str
    """A block with the client outside."""
    far: str
    """A block without it."""
    length: int

    def names(self) -> dict[str, str]:
        """Who has which address."""
        return {ip: name for name, ip in self.pods.items()} | {self.node: "node", self.outside: "outside"}


NETS = {
    4: Net(
        version=4,
        pods={"a": "10.66.0.2", "b": "10.66.0.3", "c": "10.66.0.4"},
        gateway="10.66.0.1",
        node="192.0.2.1",
        outside="192.0.2.2",
        pod_range="10.66.0.0/16",
        service="10.96.0.10",
        other_service="10.96.0.11",
        balancer="198.51.100.7",
        near="192.0.2.0/25",
        far="203.0.113.0/24",
        length=24,
    ),
    6: Net(
        version=6,
        pods={"a": "fd66::2", "b": "fd66::3", "c": "fd66::4"},
        gateway="fd66::1",
        node="fd00:2::1",
        outside="fd00:2::2",
        pod_range="fd66::/48",
        service="fd96::10",
        other_service="fd96::11",
        balancer="fd98::7",
        near="fd00:2::/65",
        far="fd00:3::/64",
        length=64,
    ),
}


class World(Protocol):
    """Three pods on one node, somebody outside, and a backend that serves them."""

    net: Net
    backend: Backend
    mode: str
    counted: int
    """What one call of `reach` adds to the counter of the only endpoint."""

    def reach(self, who: str, address: str, protocol: str, port: int) -> set[tuple[str, bool]]:
        """How connections of `a`, `b`, `c`, `node` or `outside` end: (who answered, or how not; masqueraded)."""
        ...

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        ...

    def flush(self) -> None:
        """Somebody removes all rules of the machine."""
        ...

    def shut(self, port: int) -> None:
        """The host's own firewall lets nobody in to a TCP port (iptables modes)."""
        ...


class FakeWorld:
    """Packets followed through text; nobody counts them."""

    counted = 0

    def __init__(self, net: Net, mode: str) -> None:
        self.net, self.mode = net, mode
        local = frozenset({net.node, net.gateway})
        self.rules: FakeNft | FakeXtables
        self.backend: Backend
        if mode == "nftables":
            self.rules = nft = FakeNft(local=local)
            self.backend = NftablesBackend(nft, cluster_cidrs=(net.pod_range,))
        else:
            self.rules = xtables = FakeXtables(local=local, telling=mode != "legacy")
            self.backend = IptablesBackend(xtables, cluster_cidrs=(net.pod_range,))

    def reach(self, who: str, address: str, protocol: str, port: int) -> set[tuple[str, bool]]:
        names = self.net.names()
        source = self.net.pods.get(who) or {"node": self.net.node, "outside": self.net.outside}[who]
        source = address if address == "127.0.0.1" else source
        ends = self.rules.connect(source=source, to=address, protocol=protocol, port=port, from_node=who == "node")
        return {
            (names.get(e.address, e.address) if e.verdict == "delivered" else e.verdict, e.masqueraded) for e in ends
        }

    async def wait(self, seconds: float) -> None:
        self.rules.now += int(seconds * 1000)

    def flush(self) -> None:
        self.rules.flush()

    def shut(self, port: int) -> None:
        assert isinstance(self.rules, FakeXtables)
        self.rules.chains[self.net.version]["filter", "INPUT"].append(f"-p tcp -m tcp --dport {port} -j DROP")


SERVER = """
import socket, sys, threading
def plain(peer):
    return peer.removeprefix("::ffff:")
def tcp(port):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, peer = listener.accept()
        connection.sendall(f"{sys.argv[1]} {plain(peer[0])}".encode())
        connection.close()
def udp(address, port):
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, port))
    while True:
        _, peer = listener.recvfrom(100)
        listener.sendto(f"{sys.argv[1]} {plain(peer[0])}".encode(), peer)
for port in (8080, 9090):
    threading.Thread(target=tcp, args=(port,)).start()
    for address in sys.argv[2:]:
        threading.Thread(target=udp, args=(address, port)).start()
print("ready", flush=True)
"""
CLIENT = """
import socket, sys
address, protocol, port, tries = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(tries):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as client:
        client.settimeout(1.5)  # a refusal over IPv6 is heard only when the first packet is repeated, after 1 s
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


SENDER = """
import socket, sys
sender = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sender.settimeout(1.0)
for _ in sys.stdin:
    sender.sendto(b"?", (sys.argv[1], int(sys.argv[2])))
    try:
        print(sender.recv(100).decode().split()[0], flush=True)
    except OSError:
        print("nobody", flush=True)
"""


class Sender:
    """Somebody who sends datagrams from one port all the time."""

    def __init__(self, inside: list[str], address: str, port: int) -> None:
        argv = [*inside, sys.executable, "-c", SENDER, address, str(port)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self) -> str:
        """Who answers one datagram."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


class KernelWorld:
    """Pods in namespaces behind a bridge of a namespace that plays the node; a namespace beyond it is outside."""

    counted = TRIES

    def __init__(self, net: Net, mode: str, new_namespace: Callable[[str], str]) -> None:
        self.net, self.mode = net, mode
        self.rules: KernelNft | HostXtables
        self.backend: Backend
        if mode == "nftables":
            self.rules = nft = KernelNft()
            self.backend = NftablesBackend(nft, cluster_cidrs=(net.pod_range,))
        else:
            self.rules = xtables = HostXtables(kind=KINDS[mode])
            self.backend = IptablesBackend(xtables, cluster_cidrs=(net.pod_range,))
        self.namespaces: dict[str, str] = {}
        self.servers: list[subprocess.Popen[str]] = []
        self._node()
        self._outside(new_namespace("outside").rsplit("/", 1)[1])
        for pod in net.pods:
            self._pod(pod, new_namespace(pod).rsplit("/", 1)[1])
        self._serve("node", [], [net.node, net.gateway])

    def close(self) -> None:
        self.rules.close()
        for server in self.servers:
            server.kill()
            server.wait(timeout=10)

    def reach(self, who: str, address: str, protocol: str, port: int) -> set[tuple[str, bool]]:
        inside = [] if who == "node" else ["ip", "netns", "exec", self.namespaces[who]]
        argv = [*inside, sys.executable, "-c", CLIENT, address, protocol, str(port), str(TRIES)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
        ends = set()
        for line in done.stdout.splitlines():
            name, seen, own = line.split()
            ends.add((name, seen not in (own, "-")))
        return ends

    @contextlib.contextmanager
    def sender(self, who: str, address: str, port: int) -> Iterator[Sender]:
        made = Sender(["ip", "netns", "exec", self.namespaces[who]], address, port)
        try:
            yield made
        finally:
            made.close()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def flush(self) -> None:
        if self.mode != "legacy":
            subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=10)
            return
        for program in ("iptables-legacy", "ip6tables-legacy"):
            for table in ("nat", "filter"):
                subprocess.run([program, "-t", table, "-F"], check=True, timeout=10)

    def shut(self, port: int) -> None:
        program = f"{'ip6tables' if self.net.version == 6 else 'iptables'}-{KINDS[self.mode]}"
        argv = [program, "-A", "INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"]
        subprocess.run(argv, check=True, timeout=10)

    def _node(self) -> None:
        net = self.net
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
        for family, setting in ((4, "ip_forward"), (6, "conf/all/forwarding")):
            Path(f"/proc/sys/net/ipv{family}/{setting}").write_text("1")
        Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
        _no_detection()
        for name in ("iptables", "ip6tables"):
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}").write_text("1")
        ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        ip("link", "set", "br0", "up")
        self._address(net.gateway, "br0")
        ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
        ip("link", "set", "up0", "up")
        self._address(net.node, "up0")

    def _outside(self, name: str) -> None:
        _no_detection(name)
        self.namespaces["outside"] = name
        ip("link", "set", "up1", "netns", name, "up")
        self._address(self.net.outside, "up1", namespace=name)
        ip("-n", name, "route", "add", "default", "via", self.net.node)
        # As on any node: without a default route a packet to a cluster address ends before it meets a rule.
        ip("route", "add", "default", "via", self.net.outside)

    def _pod(self, pod: str, name: str) -> None:
        _no_detection(name)
        self.namespaces[pod] = name
        ip("link", "add", f"v{pod}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v{pod}", "master", "br0")
        ip("link", "set", f"v{pod}", "type", "bridge_slave", "hairpin", "on")
        ip("link", "set", f"v{pod}", "up")
        for link in ("lo", "eth0"):
            ip("-n", name, "link", "set", link, "up")
        self._address(self.net.pods[pod], "eth0", namespace=name)
        ip("-n", name, "route", "add", "default", "via", self.net.gateway)
        self._serve(pod, ["ip", "netns", "exec", name], [self.net.pods[pod]])

    def _address(self, address: str, link: str, *, namespace: str = "") -> None:
        where = ["-n", namespace] if namespace else []
        quick = ["nodad"] if self.net.version == 6 else []
        ip(*where, "address", "add", f"{address}/{self.net.length}", "dev", link, *quick)

    def _serve(self, name: str, inside: list[str], addresses: list[str]) -> None:
        argv = [*inside, sys.executable, "-c", SERVER, name, *addresses]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"


def _no_detection(namespace: str = "") -> None:
    """Link-local addresses are usable at once: the test does not wait for duplicate address detection."""
    for scope in ("all", "default"):
        ip_sysctl = ["sysctl", "-q", "-w", f"net.ipv6.conf.{scope}.accept_dad=0"]
        where = ["ip", "netns", "exec", namespace] if namespace else []
        subprocess.run([*where, *ip_sysctl], check=True, timeout=10)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=10)
