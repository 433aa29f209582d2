"""The CNI's part of a connection's way: routes, bridge and VXLAN entries, the pair of a pod, and what policies say.

It reads what `ip` and `bridge` print, through `look`, so that each hop is what the command it names would have shown.
Must not know Services or names. Raises nothing: what cannot be read is a hop that stops.
"""

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cni.policy import command, explain
from kube.hop import Hop

Rows = Sequence[Mapping[str, Any]]
Look = Callable[[Sequence[str]], Rows]
SECONDS = 10.0
DEAD = {"FAILED", "INCOMPLETE"}


class Blind(Exception):
    """What a command said instead of an answer."""


def look(argv: Sequence[str]) -> Rows:
    """Run a command that prints JSON. Raises Blind with its stderr."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Blind(str(error)) from error
    if done.returncode != 0:
        raise Blind(done.stderr.strip().removeprefix("RTNETLINK answers: ") or f"exit code {done.returncode}")
    return [row for row in json.loads(done.stdout or "[]") if row]


def out_of_pod(pid: int, destination: str, *, look: Look = look) -> list[Hop]:
    """From the pod of this process into the machine: the pod's route, and where its pair comes out."""
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net")
    route = (*inside, "ip", "-j", "route", "get", destination)
    try:
        row = _one(look(route), "no route")
        hops = [_hop("route in the pod", _route_words(row), route)]
        link = _one(look((*inside, "ip", "-j", "link", "show", str(row["dev"]))), "no such interface")
        return [*hops, _pair(link, look=look)]
    except Blind as error:
        return [_hop("route in the pod", f"{destination}: {error}", route, stops=str(error))]


def _pair(inner: Mapping[str, Any], *, look: Look) -> Hop:
    """The machine's end of a pod's interface."""
    argv = ("ip", "-j", "link", "show", "type", "veth")
    outer = [row for row in look(argv) if row.get("ifindex") == inner.get("link_index")]
    if not outer:
        return _hop("veth pair", f"{inner['ifname']} of the pod has no other end here", argv, stops="no veth pair")
    row = outer[0]
    state = str(row.get("operstate", "UNKNOWN"))
    found = f"{inner['ifname']} of the pod is {row['ifname']} here, a port of {row.get('master', 'no bridge')}, {state}"
    return _hop("veth pair", found, argv, stops="" if state == "UP" else f"the link is {state}")


def onward(destination: str, *, look: Look = look) -> list[Hop]:
    """From this machine towards an address: the route, and the neighbour or VXLAN entry that carries it.

    The last hop's `onward` is the machine it is handed to; empty when the address is here.
    """
    route = ("ip", "-j", "route", "get", destination)
    try:
        row = _one(look(route), "no route")
    except Blind as error:
        return [_hop("route", f"{destination}: {error}", route, stops=str(error))]
    found = _hop("route", _route_words(row), route)
    if row.get("type") in ("unreachable", "blackhole", "prohibit"):
        return [_hop("route", _route_words(row), route, stops=f"the route says {row['type']}")]
    if "gateway" not in row:
        return [found]
    device, gateway = str(row["dev"]), str(row["gateway"])
    try:
        return [found, *_carried(device, gateway, look=look)]
    except Blind as error:
        return [found, _hop("neighbour", str(error), ("ip", "neigh", "show", "dev", device), stops=str(error))]


def _carried(device: str, gateway: str, *, look: Look) -> list[Hop]:
    neighbour = ("ip", "-j", "neigh", "show", gateway, "dev", device)
    entry = next(iter(look(neighbour)), {})
    state = "/".join(entry.get("state", ["NONE"]))
    mac = str(entry.get("lladdr", ""))
    if not mac or state in DEAD:
        stops = f"nobody answers for {gateway} on {device}"
        return [_hop("neighbour", f"{gateway} is {state}", neighbour, stops=stops)]
    hop = _hop("neighbour", f"{gateway} is at {mac} ({state})", neighbour, onward=(gateway,))
    kind = next(iter(look(("ip", "-j", "-d", "link", "show", "dev", device))), {}).get("linkinfo", {}).get("info_kind")
    if kind != "vxlan":
        return [hop]
    table = ("bridge", "-j", "fdb", "show", "dev", device)
    remote = [str(row["dst"]) for row in look(table) if row.get("mac") == mac and "dst" in row]
    if not remote:
        return [hop, _hop("VXLAN entry", f"no entry for {mac}", table, stops=f"{device} knows no machine for {mac}")]
    return [hop, _hop("VXLAN entry", f"{mac} is behind {remote[0]}", table, onward=(remote[0],))]


def into_pod(address: str, *, look: Look = look) -> list[Hop]:
    """On the machine of an address: its route, its neighbour entry, and the port of the bridge it is behind."""
    route = ("ip", "-j", "route", "get", address)
    try:
        row = _one(look(route), "no route")
        hops = [_hop("route", _route_words(row), route)]
        if row.get("type") == "local":
            return hops
        device = str(row["dev"])
        return [*hops, *_port(device, address, look=look)]
    except Blind as error:
        return [_hop("route", f"{address}: {error}", route, stops=str(error))]


def _port(bridge: str, address: str, *, look: Look) -> list[Hop]:
    neighbour = ("ip", "-j", "neigh", "show", address, "dev", bridge)
    entry = next(iter(look(neighbour)), {})
    state, mac = "/".join(entry.get("state", ["NONE"])), str(entry.get("lladdr", ""))
    if state in DEAD:
        return [_hop("neighbour", f"{address} is {state}", neighbour, stops=f"nobody answers for {address}")]
    if not mac:
        return [_hop("neighbour", f"nothing was sent to {address} lately", neighbour)]
    table = ("bridge", "-j", "fdb", "show", "br", bridge)
    ports = [str(row["ifname"]) for row in look(table) if row.get("mac") == mac and row.get("ifname") != bridge]
    hop = _hop("neighbour", f"{address} is at {mac} ({state})", neighbour)
    if not ports:
        return [hop, _hop("bridge entry", f"{bridge} has not seen {mac} lately", table)]
    return [hop, _hop("bridge entry", f"{mac} is behind {ports[0]}, the pod's veth", table)]


def policy(objects: command.Objects, *, source: str, to: str, port: int, protocol: str) -> Hop:
    """What the network policies say of a connection between two addresses. PURE over listed objects."""
    argv = ("nodeagent", "policy", "explain", source, to, f"{port}/{protocol}")
    try:
        verdict = command.judge(objects, source=source, to=to, port=f"{port}/{protocol}")
    except command.UsageError as error:
        return _hop("network policies", f"cannot be said: {error}", argv)
    words = [line.strip() for line in explain.words(verdict)]
    return _hop("network policies", "; ".join(words[1:]), argv, stops="" if verdict.allowed else "a policy denies it")


def _one(rows: Rows, otherwise: str) -> Mapping[str, Any]:
    if not rows:
        raise Blind(otherwise)
    return rows[0]


def _route_words(row: Mapping[str, Any]) -> str:
    via = f" via {row['gateway']}" if "gateway" in row else ""
    kind = f"{row['type']} " if row.get("type") else ""
    return f"{kind}{row.get('dst', '')}{via} dev {row.get('dev', 'none')}"


def _hop(place: str, found: str, argv: Sequence[str], *, onward: tuple[str, ...] = (), stops: str = "") -> Hop:
    return Hop(place=place, found=found, command=shlex.join(argv).replace(" -j", ""), onward=onward, stops=stops)
