"""Pods with two IP versions, and pods with limited bandwidth, by packets."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cni import attachment, netns
from cni.plugin import Plugin

RATE_BITS = 16_000_000
PAYLOAD_BYTES = 3_000_000


@contextmanager
def inside(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with netns.entered(descriptor):
            yield
    finally:
        os.close(descriptor)


class Host:
    """A host namespace with the plugin; pods are namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def call(self, command: str, container: str, pod: str, **more: Any) -> dict[str, Any]:
        subnets = ["10.88.1.0/24", "fd00:88:1::/64"]
        ipam = {"dataDir": str(self.folder), "ranges": [[{"subnet": subnet}] for subnet in subnets]}
        config = {"cniVersion": "1.1.0", "name": "net", "ipam": ipam} | more
        variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}
        code, body = Plugin().call(variables, json.dumps(config).encode())
        assert code == 0, body
        return json.loads(body) if body else {}


@pytest.fixture
def host(inside_host: str, tmp_path: Path) -> Host:
    return Host(tmp_path)


def addresses(result: dict[str, Any]) -> list[str]:
    return [str(ip["address"]).split("/")[0] for ip in result["ips"]]


def pings(path: str, address: str) -> bool:
    argv = ["ip", "netns", "exec", path.rsplit("/", 1)[1], "busybox", "ping", "-c1", "-W5", address]
    return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0


def test_two_pods_reach_each_other_and_their_gateways_in_both_versions(
    host: Host, new_namespace: Callable[[str], str]
) -> None:
    a, b = new_namespace("a"), new_namespace("b")
    host.call("ADD", "a", a)
    result = host.call("ADD", "b", b)
    assert addresses(result) == ["10.88.1.3", "fd00:88:1::3"]
    for address in (*addresses(result), "10.88.1.1", "fd00:88:1::1"):
        assert pings(a, address), address
    for address in addresses(result):
        assert pings("host/" + host_name(), address), address


def host_name() -> str:
    return subprocess.run(["ip", "netns", "identify"], capture_output=True, text=True, check=True).stdout.strip()


def test_the_host_forwards_both_versions_and_addresses_are_usable_at_once(
    host: Host, new_namespace: Callable[[str], str]
) -> None:
    pod = new_namespace("a")
    host.call("ADD", "a", pod)
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        assert Path(f"/proc/sys/net/{key}").read_text().strip() == "1"
    shown = json.loads(
        subprocess.run(["ip", "-n", pod.rsplit("/", 1)[1], "-j", "address", "show", "eth0"], capture_output=True).stdout
    )
    globals_ = [a for a in shown[0]["addr_info"] if a["scope"] == "global"]
    assert len(globals_) == 2
    assert not any(a.get("tentative") for a in globals_)


def test_check_passes_for_both_versions_and_del_frees_both(host: Host, new_namespace: Callable[[str], str]) -> None:
    pod = new_namespace("a")
    result = host.call("ADD", "a", pod)
    host.call("CHECK", "a", pod, prevResult=result)
    host.call("DEL", "a", pod)
    left = {path.name for path in (host.folder / "net").iterdir()}
    assert left == {"lock", "last_reserved_ip.0", "last_reserved_ip.1"}


def seconds(sender: str, receiver: str, address: str) -> float:
    """How long the payload takes from one namespace to an address in the other."""
    with inside(receiver):
        server = socket.create_server(("", 5001))
    with inside(sender):
        client = socket.create_connection((address, 5001), timeout=10)
    peer, _ = server.accept()
    with server, client, peer:
        begin = time.monotonic()
        writing = threading.Thread(target=client.sendall, args=(b"x" * PAYLOAD_BYTES,))
        writing.start()
        left = PAYLOAD_BYTES
        peer.settimeout(20)
        while left:
            left -= len(peer.recv(1 << 16))
        writing.join()
        return time.monotonic() - begin


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_limit_holds_in_its_direction_only_and_goes_with_the_pod(
    host: Host, new_namespace: Callable[[str], str], inside_host: str, direction: str
) -> None:
    pod = new_namespace("a")
    limits = {f"{direction}Rate": RATE_BITS, f"{direction}Burst": 800_000}
    address = addresses(host.call("ADD", "a", pod, runtimeConfig={"bandwidth": limits}))[0]
    incoming = seconds(inside_host, pod, address)
    outgoing = seconds(pod, inside_host, "10.88.1.1")
    limited, free = (incoming, outgoing) if direction == "ingress" else (outgoing, incoming)
    assert limited > PAYLOAD_BYTES * 8 / RATE_BITS * 0.8
    assert free < limited / 2
    host.call("DEL", "a", pod)
    shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert attachment.shaper_name(attachment.host_name("a", "eth0")) not in shown
