"""Published ports by packets: from outside, from the node itself, from the pod to itself, and after they are gone."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni import netns
from cni.plugin import Plugin

NODE, SECOND, CLIENT = "192.0.2.1", "192.0.2.3", "192.0.2.2"


@contextmanager
def inside(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with netns.entered(descriptor):
            yield
    finally:
        os.close(descriptor)


class Node:
    """A node with two addresses, and a client on its link."""

    def __init__(self, new_namespace: Callable[[str], str], folder: Path) -> None:
        self.folder = folder
        self.new_namespace = new_namespace
        self.path, self.client = new_namespace("node"), new_namespace("client")
        self.sockets: list[socket.socket] = []
        names = [path.rsplit("/", 1)[1] for path in (self.path, self.client)]
        subprocess.run(
            ["ip", "-n", names[0], *f"link add up0 type veth peer name up0 netns {names[1]}".split()], check=True
        )
        for name, addresses in zip(names, ((NODE, SECOND), (CLIENT,)), strict=True):
            for argv in (
                ["link", "set", "lo", "up"],
                *(["address", "add", f"{address}/24", "dev", "up0"] for address in addresses),
                ["link", "set", "up0", "up"],
            ):
                subprocess.run(["ip", "-n", name, *argv], check=True, timeout=10)
        with inside(self.path):
            subprocess.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True, timeout=10)

    def call(self, command: str, container: str, pod: str, *ports: dict[str, object]) -> dict[str, object]:
        config = {
            "cniVersion": "1.0.0",
            "name": "net",
            "ipam": {"dataDir": str(self.folder), "ranges": [[{"subnet": "10.88.1.0/24"}]]},
            "runtimeConfig": {"portMappings": list(ports)},
        }
        variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}
        with inside(self.path):
            code, body = Plugin().call(variables, json.dumps(config).encode())
        assert code == 0, body
        return json.loads(body) if body else {}

    def pod(self, name: str, *ports: dict[str, object]) -> str:
        """A pod that answers its name on TCP and UDP port 80."""
        path = self.new_namespace(name)
        self.call("ADD", name, path, *ports)
        with inside(path):
            tcp = socket.create_server(("", 80))
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind(("", 80))
        self.sockets += [tcp, udp]
        threading.Thread(target=_answer_tcp, args=(tcp, name.encode()), daemon=True).start()
        threading.Thread(target=_answer_udp, args=(udp, name.encode()), daemon=True).start()
        return path


def _answer_tcp(server: socket.socket, name: bytes) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        with peer:
            peer.sendall(name)


def _answer_udp(server: socket.socket, name: bytes) -> None:
    while True:
        try:
            _, sender = server.recvfrom(64)
        except OSError:
            return
        server.sendto(name, sender)


@pytest.fixture
def node(new_namespace: Callable[[str], str], tmp_path: Path) -> Iterator[Node]:
    made = Node(new_namespace, tmp_path)
    yield made
    for each in made.sockets:
        if each.type == socket.SOCK_STREAM:
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def ask(path: str, address: str, port: int = 8080) -> str:
    """Who answers on TCP, "" for nobody."""
    with inside(path):
        try:
            with socket.create_connection((address, port), timeout=2) as connection:
                return connection.recv(64).decode()
        except OSError:
            return ""


def mapping(port: int = 8080, protocol: str = "tcp", host: str = "") -> dict[str, object]:
    return {"hostPort": port, "containerPort": 80, "protocol": protocol, **({"hostIP": host} if host else {})}


def test_a_published_port_is_reached_from_outside_from_the_node_and_from_the_pod_itself(node: Node) -> None:
    pod = node.pod("web", mapping())
    assert ask(node.client, NODE) == "web"
    assert ask(node.path, NODE) == "web"
    assert ask(node.path, "127.0.0.1") == "web"
    assert ask(pod, NODE) == "web"


def test_another_pod_of_the_node_reaches_it_too(node: Node) -> None:
    node.pod("web", mapping())
    assert ask(node.pod("other"), NODE) == "web"


def test_a_port_with_a_host_address_answers_there_only(node: Node) -> None:
    node.pod("one", mapping(host=NODE))
    node.pod("two", mapping(host=SECOND))
    assert ask(node.client, NODE) == "one"
    assert ask(node.client, SECOND) == "two"
    assert ask(node.path, "127.0.0.1") == ""


def test_after_del_without_the_mappings_nobody_answers_and_no_table_is_left(node: Node) -> None:
    pod = node.pod("web", mapping())
    node.call("DEL", "web", pod)
    assert ask(node.client, NODE) == ""
    with inside(node.path):
        assert b"nodeagent-ports" not in subprocess.run(["nft", "list", "tables"], capture_output=True).stdout


def test_a_udp_sender_that_never_stops_is_led_to_the_next_pod(node: Node) -> None:
    pod = node.pod("old", mapping(protocol="udp"))
    with inside(node.client):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.settimeout(2)
    with sender:
        sender.sendto(b"?", (NODE, 8080))
        assert sender.recv(64) == b"old"
        node.call("DEL", "old", pod)
        node.pod("new", mapping(protocol="udp"))
        sender.sendto(b"?", (NODE, 8080))
        assert sender.recv(64) == b"new"


def test_pods_do_not_reach_what_listens_on_the_nodes_loopback(node: Node) -> None:
    pod = node.pod("web", mapping())
    with inside(node.path):
        server = socket.create_server(("127.0.0.1", 9999))
    name = pod.rsplit("/", 1)[1]
    subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1"], check=True)
    for argv in (
        ["address", "del", "127.0.0.1/8", "dev", "lo"],
        ["route", "add", "127.0.0.1", "via", "10.88.1.1", "dev", "eth0"],
    ):
        subprocess.run(["ip", "-n", name, *argv], check=True, timeout=10)
    with server:
        assert ask(pod, "127.0.0.1", 9999) == ""
        with inside(node.path):
            subprocess.run(["nft", "flush", "chain", "ip", "nodeagent-ports", "martians"], check=True, timeout=10)
            threading.Thread(target=_answer_tcp, args=(server, b"loopback"), daemon=True).start()
        assert ask(pod, "127.0.0.1", 9999) == "loopback"  # so it was that chain which kept the pod out
        server.shutdown(socket.SHUT_RDWR)
