"""Answering for an address on a real link: a neighbour finds it, and follows it when it moves."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from kube.runtime.clock import SystemClock
from proxy.balancer.link import RawLink

NETS = {4: ("192.0.2.{}", 24), 6: ("fd00::{}", 64)}
TRIES = 40
SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(b"?", (sys.argv[1], 9))
"""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10).stdout


@pytest.fixture
def neighbour(inside_host: str, new_namespace: Callable[[str], str]) -> str:
    """A namespace on a link with us; we are .1, it is .2; there is a second link of ours in its bridge."""
    name = new_namespace("neighbour").rsplit("/", 1)[1]
    ip("-n", name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    ip("-n", name, "link", "set", "br0", "up")
    for link in ("up0", "up1"):
        ip("link", "add", link, "type", "veth", "peer", "name", f"peer-{link}", "netns", name)
        ip("link", "set", link, "up")
        ip("-n", name, "link", "set", f"peer-{link}", "master", "br0", "up")
    for pattern, length in NETS.values():
        quick = ["nodad"] if ":" in pattern else []
        ip("address", "add", f"{pattern.format(1)}/{length}", "dev", "up0", *quick)
        ip("-n", name, "address", "add", f"{pattern.format(2)}/{length}", "dev", "br0", *quick)
    return name


def found_at(neighbour: str, address: str) -> str:
    """The link address under which a neighbour knows an address: sending to it makes the kernel ask."""
    subprocess.run(["ip", "netns", "exec", neighbour, sys.executable, "-c", SEND, address], check=True, timeout=10)
    for _ in range(TRIES):
        words = ip("-n", neighbour, "neighbour", "show", address).split()
        if "lladdr" in words:
            return words[words.index("lladdr") + 1]
        time.sleep(0.03)
    return ""


def mac(link: str) -> str:
    return ip("-o", "link", "show", link).partition("link/ether ")[2].split()[0]


@pytest.mark.parametrize("version", [4, 6])
async def test_a_neighbour_finds_an_address_and_follows_it_when_it_moves(neighbour: str, version: int) -> None:
    address = NETS[version][0].format(9)
    here, there = (RawLink(interface=link, clock=SystemClock()) for link in ("", "up1"))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(each.run()) for each in (here, there)]
        assert await asyncio.to_thread(found_at, neighbour, address) == ""
        here.answer_for([address])
        assert await asyncio.to_thread(found_at, neighbour, address) == mac("up0")
        here.answer_for([])
        there.answer_for([address])
        for _ in range(TRIES):  # nobody asks: the announcement is enough
            if mac("up1") in ip("-n", neighbour, "neighbour", "show", address):
                break
            await asyncio.sleep(0.05)
        assert mac("up1") in ip("-n", neighbour, "neighbour", "show", address)
        for task in running:
            task.cancel()
