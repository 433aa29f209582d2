"""Answering on an address that a proxy translates: the kernel's side, in a throw-away namespace that plays the host."""

import socket
import subprocess
import time

import pytest

from proxy.dns import netlink, nodelocal

CLUSTER, OTHER = "10.96.0.10", "192.0.2.7"
PROXY = f"""
table ip proxy {{
  chain output {{
    type nat hook output priority -100;
    ip daddr {CLUSTER} udp dport 53 dnat to {OTHER}:10053
  }}
}}
"""


@pytest.fixture
def other(inside_host: str) -> socket.socket:
    """Another node's server, to which a proxy leads."""
    subprocess.run(["ip", "address", "add", f"{OTHER}/32", "dev", "lo"], check=True, timeout=10)
    subprocess.run(["ip", "route", "add", "default", "dev", "lo"], check=True, timeout=10)
    subprocess.run(["nft", "-f", "-"], input=PROXY.encode(), check=True, timeout=10)
    return listening(OTHER, 10053)


def listening(address: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(0.3)
    opened.setsockopt(socket.IPPROTO_IP, 15, 1)
    opened.bind((address, port))
    return opened


def reached(*servers: socket.socket) -> list[bool]:
    """Which of the servers a new client of the cluster address reaches."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", (CLUSTER, 53))
    found = []
    for server in servers:
        try:
            found.append(server.recv(100) == b"hello")
        except TimeoutError:
            found.append(False)
    return found


def test_packets_come_here_while_it_is_said_so_and_go_to_the_other_when_the_process_hangs(
    other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodelocal, "KEEP_SECONDS", 1.0)
    with other, listening(CLUSTER, 53) as own:
        assert reached(own, other) == [False, True]
        kernel = nodelocal.Kernel(source=OTHER)
        kernel.take([CLUSTER])
        assert reached(own, other) == [True, False]
        kernel.take([CLUSTER])
        time.sleep(1.3)
        assert reached(own, other) == [False, True]
        kernel.take([CLUSTER])
        assert reached(own, other) == [True, False]
        kernel.release()
        assert reached(own, other) == [False, True]
        shown = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, timeout=10).stdout
        assert shown == b"table ip proxy\n"


def test_the_rules_end_with_the_socket_that_made_them(inside_host: str) -> None:
    table = netlink.Table("nodeagent-dns", [CLUSTER, "fd00::a"], port=53)
    table.keep(seconds=60)
    listed = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, timeout=10).stdout
    assert listed.count(b"notrack") == 16
    table.close()
    assert subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, timeout=10).stdout == b""
