"""TCP throughput of two nodes: our VXLAN against one built by hand with `ip`, our direct routes against the bare link.

Run as root: `python -m tests.bench overlay`. Works in throw-away namespaces. All take turns, since the machine is
noisy. Prints medians and their ratio, and how long 200 peers take.
"""

import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from cni import netns
from cni.overlay import peers, plan
from cni.overlay.kernel import KernelFabric
from cni.overlay.peers import Peer
from cni.overlay.plan import Entry

ROUNDS, SECONDS, CHUNK_BYTES, PEERS = 12, 0.4, 1 << 18, 200
PORT = 5001
BARS = {"vxlan": 0.98, "direct": 0.98}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two machines on one link of their own; a pod is an address on a machine's `lo`."""

    name: str

    def machine(self, number: int) -> str:
        return f"nabench-{self.name}-{number}"

    @contextmanager
    def inside(self, number: int) -> Iterator[None]:
        with open(f"/run/netns/{self.machine(number)}") as namespace, netns.entered(namespace.fileno()):
            yield

    def make(self) -> None:
        for number in (1, 2):
            subprocess.run(["ip", "netns", "add", self.machine(number)], check=True, timeout=10)
        self.ip(1, f"link add up0 type veth peer name up0 netns {self.machine(2)}")
        for number in (1, 2):
            self.ip(
                number,
                "link set lo up",
                f"address add 192.0.2.{number}/24 dev up0",
                "link set up0 up",
                f"address add 10.88.{number}.1/32 dev lo",
            )

    def remove(self) -> None:
        for number in (1, 2):
            subprocess.run(["ip", "netns", "delete", self.machine(number)], check=False, timeout=10)

    def ip(self, number: int, *lines: str) -> None:
        text = "\n".join(lines) + "\n"
        argv = ["ip", "-n", self.machine(number), "-batch", "-"]
        subprocess.run(argv, input=text, text=True, check=True, timeout=20)

    def ours(self, mode: str) -> None:
        """Our part on both machines, as planned for each other."""
        nodes = {number: described(number, mode) for number in (1, 2)}
        for number in (1, 2):
            with self.inside(number):
                fabric, own = KernelFabric(), nodes[number]
                parents = fabric.parents(own.addresses)
                devices = plan.devices(own, parents, mode=mode)
                fabric.ensure(devices)
                present = {device.name for device in devices}
                way = plan.way_to(nodes[3 - number], mode=mode, parents=parents, present=present)
                fabric.apply(plan.change(way.entries, fabric.observe()))

    def by_hand(self) -> None:
        """What somebody would type, with the same numbers."""
        for number, other in ((1, 2), (2, 1)):
            self.ip(
                number,
                f"link add v1 address ee:00:00:00:00:0{number} type vxlan id 1 dev up0 dstport 8472 nolearning "
                f"local 192.0.2.{number}",
                f"address add 10.88.{number}.0/32 dev v1",
                "link set v1 up",
                f"neighbour add 10.88.{other}.0 lladdr ee:00:00:00:00:0{other} dev v1 nud permanent",
                f"route add 10.88.{other}.0/24 via 10.88.{other}.0 dev v1 onlink",
            )
            fdb = f"bridge -n {self.machine(number)} fdb append ee:00:00:00:00:0{other} dev v1 dst 192.0.2.{other} self"
            subprocess.run([*fdb.split(), "permanent"], check=True, timeout=10)

    def gigabits(self, source: str, target: str) -> float:
        """Gbit/s from the first machine to the second, received."""
        with self.inside(2):
            server = socket.create_server((target, PORT))
        child = os.fork()
        if not child:
            self._send(source, target)
        peer, _ = server.accept()
        buffer, received = bytearray(CHUNK_BYTES), 0
        with server, peer:
            begin = time.perf_counter()
            while time.perf_counter() - begin < SECONDS:
                received += peer.recv_into(buffer)
            took = time.perf_counter() - begin
        os.waitpid(child, 0)
        return received * 8 / took / 1e9

    def _send(self, source: str, target: str) -> None:
        try:
            with self.inside(1):
                client = socket.create_connection((target, PORT), timeout=10, source_address=(source, 0))
            data = bytes(CHUNK_BYTES)
            while True:
                client.sendall(data)
        except OSError:
            pass  # the other end has heard enough
        finally:
            os._exit(0)


def described(number: int, mode: str) -> Peer:
    """One machine as the other one knows it."""
    network = ip_network(f"10.88.{number}.0/24")
    return Peer(
        name=str(number),
        networks=(network,),
        addresses={4: ip_address(f"192.0.2.{number}")},
        macs={4: peers.vtep_mac(network)},
        backend=plan.VXLAN,
        overlay=mode,
    )


def compare(name: str, one: Pair, other: Pair, ends: tuple[tuple[str, str], tuple[str, str]]) -> None:
    """Takes turns, and prints both and the ratio."""
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(one.gigabits(*ends[0]))
        theirs.append(other.gigabits(*ends[1]))
        mine.append(one.gigabits(*ends[0]))
        theirs.append(other.gigabits(*ends[1]))
    ratio = statistics.median(mine) / statistics.median(theirs)
    print(
        f"{name}: {statistics.median(mine):5.2f} Gbit/s against {statistics.median(theirs):5.2f}: "
        f"{ratio:.3f}x (bar {BARS[name]}x)",
        flush=True,
    )


def many_peers(pair: Pair) -> None:
    """All entries of 200 peers, in one batch."""
    wanted: list[Entry] = []
    for number in range(PEERS):
        end, mac = ip_address(f"10.90.{number}.0"), f"ee:00:00:00:01:{number:02x}"
        wanted += [
            plan.Route(ip_network(f"{end}/24"), end, plan.DEVICES[4]),
            plan.Neighbour(end, mac, plan.DEVICES[4]),
            plan.Forward(mac, ip_address(f"203.0.113.{number + 1}"), plan.DEVICES[4]),
        ]
    took = []
    with pair.inside(1):
        fabric = KernelFabric()
        for _ in range(5):
            begin = time.perf_counter()
            fabric.apply(plan.change(wanted, fabric.observe()))
            took.append((time.perf_counter() - begin) * 1000)
            fabric.apply(plan.change((), fabric.observe()))
    print(f"{PEERS} peers: {statistics.median(took):.1f} ms (bar 100 ms)")


def main() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    vxlan, hand, direct = (Pair(name) for name in ("ours", "hand", "direct"))
    try:
        for pair in (vxlan, hand, direct):
            pair.make()
        vxlan.ours(plan.VXLAN)
        hand.by_hand()
        direct.ours(plan.AUTO)
        pods, nodes = ("10.88.1.1", "10.88.2.1"), ("192.0.2.1", "192.0.2.2")
        compare("vxlan", vxlan, hand, (pods, pods))
        compare("direct", direct, direct, (pods, nodes))
        many_peers(vxlan)
    finally:
        for pair in (vxlan, hand, direct):
            pair.remove()


if __name__ == "__main__":
    main()
