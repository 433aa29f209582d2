"""Why a connection is allowed or denied: which policies isolate either end, and which rule lets it through. PURE.

It judges by the policies themselves, not by the plan of sets and chains, so each can be held against the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cni.policy.model import Pod
from cni.policy.rules import EGRESS, INGRESS, Policy, Rule

Labels = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a connection: its address, and the pod when it is one."""

    address: str
    pod: Pod | None = None

    def __str__(self) -> str:
        return f"pod {self.pod.key} ({self.address})" if self.pod else self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What the policies of one end say. `allowing`: policy and number of the rule (from 0), "" without."""

    direction: str
    end: End
    isolating: tuple[str, ...] = ()
    allowing: str = ""
    rule: int = -1

    @property
    def allowed(self) -> bool:
        """Whether this end lets the connection pass."""
        return not self.isolating or bool(self.allowing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Both ends; `same` when a pod speaks to itself, which always may."""

    egress: Side
    ingress: Side
    same: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the connection passes."""
        return self.same or (self.egress.allowed and self.ingress.allowed)


def decide(
    policies: Iterable[Policy], namespaces: Labels, *, source: End, to: End, protocol: str, port: int
) -> Verdict:
    """The verdict on a new connection; `namespaces` are labels by name, `protocol` is in lower case."""
    known = sorted(policies, key=lambda policy: policy.key)

    def matches(rule: Rule, other: End) -> bool:
        if rule.ports and not any(each.matches(protocol, port, to.pod) for each in rule.ports):
            return False
        if rule.anyone:
            return True
        inside = rule.blocks is not None and rule.blocks.matches(other.address)
        if inside or rule.peers is None or other.pod is None:
            return inside
        return rule.peers.matches(other.pod, namespaces.get(other.pod.namespace))

    def side(direction: str, end: End, other: End) -> Side:
        about = [p for p in known if end.pod is not None and p.selects(end.pod) and p.rules(direction) is not None]
        for policy in about:
            for number, rule in enumerate(policy.rules(direction) or ()):
                if matches(rule, other):
                    isolating = tuple(each.key for each in about)
                    return Side(direction=direction, end=end, isolating=isolating, allowing=policy.key, rule=number)
        return Side(direction=direction, end=end, isolating=tuple(each.key for each in about))

    same = source.pod is not None and to.pod is not None and source.pod.key == to.pod.key
    return Verdict(egress=side(EGRESS, source, to), ingress=side(INGRESS, to, source), same=same)


def words(verdict: Verdict) -> Iterator[str]:
    """The verdict in lines for a reader."""
    yield "allowed" if verdict.allowed else "denied"
    if verdict.same:
        yield "  a pod always reaches itself"
        return
    for side in (verdict.egress, verdict.ingress):
        yield f"  {side.direction} of {side.end}: {_reason(side)}"


def _reason(side: Side) -> str:
    if side.end.pod is None:
        return "allowed, no policy holds for what is not a pod"
    if not side.isolating:
        return "allowed, no policy selects it"
    if side.allowing:
        return f"allowed by networkpolicy {side.allowing}, {side.direction} rule {side.rule}"
    plural = "ies" if len(side.isolating) > 1 else "y"
    return f"denied: isolated by networkpolic{plural} {', '.join(side.isolating)}, and no rule allows it"
