"""The two halves of a connection's way, each walked on one machine: leaving the source's, arriving at the target's.

A leg opens the one connection that is followed, looks at what the machine made of it, and stops at the first hop that
does. Plain documents in and out, so that it can be walked by another process. Must not know the API.
"""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kube.hop import Hop
from nodeagent.trace import sockets
from nodeagent.trace.parts import Parts

CONNECT_SECONDS = 2.0
KUBELET_PORT = 10250
SILENCE = "no answer"
PAYLOAD = b"nodeagent trace\n"
Document = Mapping[str, Any]


def depart(asked: Document, parts: Parts) -> dict[str, Any]:
    """From the source to the machine's edge: `uid` ("" for the machine itself), `name` or `ip`, `port`, `protocol`.

    Answers `hops`, `end` (address:port the connection goes to after translation) and `outcome` of the attempt.
    """
    hops: list[Hop] = []
    pid = process_of(asked["uid"]) if asked["uid"] else 0
    if asked["uid"]:
        hops.append(_sandbox(asked["uid"], pid))
        if not pid:
            return _answer(hops)
    with contextlib.ExitStack() as stack:
        address = asked["ip"]
        with parts.inside(pid) if pid else contextlib.nullcontext():
            if not address:
                server, search = resolver(pid)
                hops += parts.name(asked["name"], server=server, search=search, version=4)
                address = next(iter(hops[-1].onward), "")
            if not address:
                return _answer(hops)
            tried = stack.enter_context(connection(address, asked["port"], asked["protocol"]))
        rule = parts.service(address, asked["port"], asked["protocol"])
        hops.append(rule)
        if rule.stops:
            return _answer(hops, outcome=tried.outcome)
        known = parts.tracked(tried.source, (address, asked["port"]), asked["protocol"])
        end = next(iter((*known.onward, *rule.onward)), _text(address, asked["port"]))
        hops += [known, *(parts.out_of_pod(pid, address) if pid else [])]
        hops += [] if stopped(hops) else parts.onward(host(end))
        if tried.outcome.startswith(SILENCE) and not stopped(hops) and hops[-1].onward:
            hops.append(next_machine(hops[-1].onward[0]))
        return _answer(hops, end=end, outcome=tried.outcome)


def arrive(asked: Document, parts: Parts) -> dict[str, Any]:
    """From the target machine's edge to the socket: `uid` ("" for the machine itself), `ip`, `port`, `protocol`."""
    hops: list[Hop] = []
    pid = process_of(asked["uid"]) if asked["uid"] else 1
    if asked["uid"]:
        hops.append(_sandbox(asked["uid"], pid))
        if not pid:
            return _answer(hops)
        hops += parts.into_pod(asked["ip"])
    if not stopped(hops):
        bound = sockets.listening(sockets.tables(pid, asked["protocol"]))
        hops.append(sockets.hop(bound, pid=pid, to=asked["ip"], port=asked["port"], protocol=asked["protocol"]))
    return _answer(hops)


def stopped(hops: list[Hop]) -> bool:
    """Whether the last hop goes no further; names are asked for in several forms, so earlier ones may have failed."""
    return bool(hops and hops[-1].stops)


def next_machine(address: str) -> Hop:
    """Whether the machine that packets are handed to is alive, asked at its kubelet's port: a refusal is an answer."""
    with connection(address, KUBELET_PORT, "tcp") as tried:
        command = f"nc -z -w {CONNECT_SECONDS:.0f} {address} {KUBELET_PORT}"
        silent = tried.outcome.startswith(SILENCE) or "route" in tried.outcome
        stops = f"the machine {address} does not answer: the wire to it is cut, or it is down" if silent else ""
        return Hop(place="next machine", found=f"{address}: {tried.outcome}", command=command, stops=stops)


class Tried:
    """The connection that is followed: the source it got, and how it went."""

    def __init__(self, source: tuple[str, int], outcome: str) -> None:
        self.source, self.outcome = source, outcome


@contextlib.contextmanager
def connection(address: str, port: int, protocol: str) -> Iterator[Tried]:
    """Open it, and keep it open while the body looks at what became of it."""
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            probe.connect((address, port))
            if protocol == "udp":
                probe.send(PAYLOAD)
                probe.recv(65536)
            outcome = "reached"
        except TimeoutError:
            outcome = f"{SILENCE} within {CONNECT_SECONDS:.0f} s"
        except OSError as error:
            outcome = (error.strerror or str(error)).lower()
        own = probe.getsockname()
        yield Tried((str(own[0]), int(own[1])), outcome)


def process_of(uid: str) -> int:
    """A process of the pod with this uid on this machine, by its cgroup's name in either driver's form; 0 for none.

    One with files of its own comes before the sandbox's.
    """
    names = (f"pod{uid}", f"pod{uid.replace('-', '_')}")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if any(name in (entry / "cgroup").read_text() for name in names):
                    found.append(int(entry.name))
    return max(found, default=0)


def resolver(pid: int) -> tuple[str, list[str]]:
    """The first name server and the search list of a process; of this machine for 0."""
    server, search = "", []
    root = f"/proc/{pid}/root" if pid else ""
    with contextlib.suppress(OSError):
        for line in Path(f"{root}/etc/resolv.conf").read_text().splitlines():
            words = line.split()
            if words[:1] == ["nameserver"] and not server:
                server = words[1]
            elif words[:1] == ["search"]:
                search = words[1:]
    return server or "127.0.0.1", search


def host(end: str) -> str:
    """The address of `address:port`."""
    return end.rpartition(":")[0].strip("[]")


def _text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _sandbox(uid: str, pid: int) -> Hop:
    command = f"grep -l pod{uid} /proc/[0-9]*/cgroup"
    if not pid:
        return Hop(
            place="sandbox", found="no process of the pod is here", command=command, stops="it does not run here"
        )
    return Hop(place="sandbox", found=f"process {pid}, in a network namespace of its own", command=command)


def _answer(hops: list[Hop], *, end: str = "", outcome: str = "") -> dict[str, Any]:
    return {"hops": [asdict(hop) for hop in hops], "end": end, "outcome": outcome}
