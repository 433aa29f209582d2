"""Interfaces removed together, by callers that come at once."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from cni import netns, removals
from cni.netlink import connection, interfaces, wire
from cni.removals import Removals


def names() -> set[str]:
    with connection.Socket() as host:
        return {interfaces.parse_link(body).name for body in host.ask(interfaces.dump_links())}


def make(name: str) -> None:
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"p{name}"], check=True, timeout=10)


def test_those_named_are_gone_and_nothing_else(inside_host: str) -> None:
    for name in ("one", "two", "kept"):
        make(name)
    Removals().remove(["one", "missing", "two"])
    assert names() == {"lo", "kept", "pkept"}
    Removals().remove(["missing"])
    assert names() == {"lo", "kept", "pkept"}


def test_callers_at_once_are_all_served(inside_host: str) -> None:
    every = [f"v{number}" for number in range(24)]
    for name in every:
        make(name)
    together = Removals()

    def enter() -> None:
        with open(inside_host) as namespace:
            netns._setns(namespace.fileno())

    def remove(name: str) -> bool:
        together.remove([name])
        return name in names()

    with ThreadPoolExecutor(8, initializer=enter) as threads:
        assert not any(threads.map(remove, every))
    assert names() == {"lo"}


def test_what_cannot_be_removed_is_told_to_who_asked(inside_host: str) -> None:
    with pytest.raises(wire.NetlinkError):
        Removals().remove(["lo"])


def test_each_interface_is_named_once() -> None:
    assert [message.wanted for message in removals.plan(["a", "b", "a"])] == [
        f"put a into group {removals.GROUP}",
        f"put b into group {removals.GROUP}",
        f"delete group {removals.GROUP}",
    ]
