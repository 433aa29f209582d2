"""The whole way: what the API knows of both ends, the leg on the source's machine, policies, the leg on the target's.

`follow` joins hops and stops at the first that does; how a leg is walked on a machine is the caller's `walk`. Must not
know the command line.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kube.hop import Hop
from nodeagent.trace import legs, question
from nodeagent.trace.parts import Objects, Parts
from nodeagent.trace.question import ADDRESS, NODE, POD, End, Question

DEPART, ARRIVE = "depart", "arrive"
# (machine, leg, document) -> the leg's answer; None where the machine cannot be looked into from here.
Walk = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The hops, each with the machine it was seen on, and how the connection itself went."""

    hops: tuple[tuple[str, Hop], ...]
    outcome: str = ""

    @property
    def stops(self) -> str:
        """Why it goes no further; "" when the connection came about."""
        return self.hops[-1][1].stops if self.hops else ""


def follow(asked: Question, objects: Objects, parts: Parts, *, walk: Walk) -> Way:
    """Walk the way. Never raises for what it finds: where it ends is in the last hop."""
    hops: list[tuple[str, Hop]] = [("", of_end(asked.source))]
    if hops[-1][1].stops:
        return Way(hops=tuple(hops))
    source, target = asked.source, asked.target
    document = {"uid": _uid(source), "name": target.name, "ip": target.ip, "port": asked.port}
    left = walk(source.node, DEPART, document | {"protocol": asked.protocol})
    if left is None:
        return Way(hops=(*hops, ("", _elsewhere(source.node))))
    hops += _at(source.node, left)
    outcome = str(left["outcome"])
    if not hops[-1][1].stops and left["end"]:
        hops += _arrival(asked, str(left["end"]), objects, parts, walk=walk)
    if outcome and not hops[-1][1].stops:
        hops.append((source.node, _verdict(asked, outcome)))
    return Way(hops=_until_stop(hops), outcome=outcome)


def _arrival(asked: Question, end: str, objects: Objects, parts: Parts, *, walk: Walk) -> list[tuple[str, Hop]]:
    address, port = legs.host(end), int(end.rpartition(":")[2])
    there = question.by_address(objects, address)
    hops = [("", of_end(there))]
    if asked.source.kind == POD and there.kind != NODE:
        verdict = parts.policy(objects, source=asked.source.ip, to=address, port=port, protocol=asked.protocol)
        hops.append((there.node, verdict))
    if there.kind == ADDRESS or hops[-1][1].stops:
        return hops
    document = {"uid": _uid(there), "ip": address, "port": port, "protocol": asked.protocol}
    arrived = walk(there.node, ARRIVE, document)
    return [*hops, *(_at(there.node, arrived) if arrived is not None else [("", _elsewhere(there.node))])]


def _uid(end: End) -> str:
    return end.uid if end.kind == POD else ""


def _at(machine: str, answer: Mapping[str, Any]) -> list[tuple[str, Hop]]:
    return [(machine, Hop(**{**found, "onward": tuple(found["onward"])})) for found in answer["hops"]]


def _until_stop(hops: list[tuple[str, Hop]]) -> tuple[tuple[str, Hop], ...]:
    """A name that is asked for in several forms may fail in the first ones: only what ends the way is a stop."""
    last = max((at for at, (_, hop) in enumerate(hops) if hop.stops), default=-1)
    ended = last >= 0 and not any(hop.onward for _, hop in hops[last + 1 :])
    return tuple(hops[: last + 1] if ended else hops)


def of_end(end: End) -> Hop:
    """What the API says of an end."""
    if end.kind == POD:
        command = f"kubectl -n {end.namespace} get pod {end.name} -o wide"
        found = f"{end.phase} on {end.node or 'no node'}, address {end.ip or 'none'}"
        stops = "" if end.phase == "Running" and end.ip else "the pod is not running"
        return Hop(place=str(end), found=found, command=command, stops=stops)
    if end.kind == NODE:
        return Hop(place=str(end), found=f"address {end.ip}", command=f"kubectl get node {end.name} -o wide")
    command = f"kubectl get pods -A -o wide | grep {end.ip}"
    return Hop(place=str(end), found="no pod and no node of this cluster", command=command)


def _elsewhere(machine: str) -> Hop:
    found = f"{machine} cannot be looked into from here"
    return Hop(place=f"machine {machine}", found=found, command=f"ssh {machine} nodeagent trace ...")


def _verdict(asked: Question, outcome: str) -> Hop:
    tool = "nc -z" if asked.protocol == "tcp" else "nc -u"
    command = f"{tool} -w 2 {asked.target.ip or asked.target.name} {asked.port}"
    silent = asked.protocol == "udp" and outcome.startswith(legs.SILENCE)
    found = "sent; nobody must answer a datagram, and nobody did" if silent else outcome
    return Hop(
        place="connection", found=found, command=command, stops="" if silent or outcome == "reached" else outcome
    )


def document(way: Way) -> dict[str, Any]:
    """The way for a program."""
    hops = [{"machine": machine, **asdict(hop)} for machine, hop in way.hops]
    return {"hops": hops, "outcome": way.outcome, "stops": way.stops}


def text(way: Way) -> str:
    """The way for a person: a line for each hop, and below it the command that shows the same."""
    lines = []
    for machine, hop in way.hops:
        lines.append(f"{machine or 'API':<8} {hop.place}: {hop.found}")
        lines.append(f"{'':<8}   $ {hop.command}")
        if hop.stops and (machine, hop) == way.hops[-1]:
            lines.append(f"{'':<8}   STOPS: {hop.stops}")
    return "\n".join(lines)
