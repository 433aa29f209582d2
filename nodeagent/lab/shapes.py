"""The shapes an underlay can have, as `ip -batch` lines: one link, two links, routers. Pure.

One link: all machines on one bridge. Two links: before it another one, on which every machine has the same address and
its default route, as virtual machines behind a translating host have. Routers: no machine hears another one; each has
its address alone and sends everything to the router. Must not know what the machines run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface

ONE_LINK, TWO_LINKS, ROUTED = "one-link", "two-links", "routed"
SHAPES = (ONE_LINK, TWO_LINKS, ROUTED)
BRIDGE, SECOND_BRIDGE = "underlay", "nat"
SAME_EVERYWHERE, SECOND_GATEWAY = "10.0.2.15/24", "10.0.2.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A machine's interfaces, and what is done to them from inside."""

    interfaces: tuple[str, ...]
    lines: tuple[str, ...]


def network(shape: str, address: IPv4Interface, *, gateway: str) -> Network:
    """The network of one machine."""
    own, held = cluster_interface(shape), f"{address.ip}/32" if shape == ROUTED else str(address)
    lines = ["link set lo up", f"address add {held} dev {own}", f"link set {own} up"]
    if shape == TWO_LINKS:
        lines += [f"address add {SAME_EVERYWHERE} dev eth0", "link set eth0 up"]
        return Network(interfaces=("eth0", own), lines=(*lines, f"route add default via {SECOND_GATEWAY}"))
    return Network(interfaces=(own,), lines=(*lines, f"route add default via {gateway} dev {own} onlink"))


def cluster_interface(shape: str) -> str:
    """The machine's interface on which the others are."""
    return "eth1" if shape == TWO_LINKS else "eth0"


def bridges(shape: str) -> Sequence[str]:
    """What the shape needs beside the bridge that there always is."""
    if shape != TWO_LINKS:
        return ()
    return (
        f"link add {SECOND_BRIDGE} type bridge forward_delay 0 stp_state 0",
        f"address add {SECOND_GATEWAY}/24 dev {SECOND_BRIDGE}",
        f"link set {SECOND_BRIDGE} up",
    )


def cable(shape: str, *, name: str, port: str, hardware: str, pid: int) -> Sequence[str]:
    """The links to one machine, whose network namespace is that of `pid`; `port` is the bridge's end."""
    own = cluster_interface(shape)
    lines = [
        f"link add {port} type veth peer name {own} address {hardware} netns {pid}",
        f"link set {port} master {BRIDGE} up",
    ]
    if shape == ROUTED:
        lines.append(f"link set {port} type bridge_slave isolated on")
    if shape == TWO_LINKS:
        lines += [
            f"link add nat-{name} type veth peer name eth0 netns {pid}",
            f"link set nat-{name} master {SECOND_BRIDGE} up",
            f"link set nat-{name} type bridge_slave isolated on",
        ]
    return lines
