"""Filters: which nodes a pod can run on, and why not on the others. Pure, with upstream's plugin names and texts.

Each filter answers None or a `Refusal`. `prepare` leaves out those that cannot refuse a given pod, so that the
common pod costs little on each node.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controlplane import tolerations
from controlplane.projection import Taint
from controlplane.scheduler import affinity, interpod, spread, volumes
from controlplane.scheduler.resources import PODS
from controlplane.scheduler.snapshot import HostPort, NodeInfo, PodInfo, Snapshot

NODE_UNSCHEDULABLE, NODE_NAME, TAINT_TOLERATION = "NodeUnschedulable", "NodeName", "TaintToleration"
NODE_AFFINITY, NODE_PORTS, FIT = "NodeAffinity", "NodePorts", "NodeResourcesFit"
_UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_REFUSING = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node will not do. curable: whether removing pods from it could help."""

    plugin: str
    reasons: tuple[str, ...]
    curable: bool = False


Filter = Callable[[NodeInfo], Refusal | None]

_CORDONED = Refusal(NODE_UNSCHEDULABLE, ("node(s) were unschedulable",))
_OTHER_NAME = Refusal(NODE_NAME, ("node(s) didn't match the requested node name",))
_TAINTED = Refusal(TAINT_TOLERATION, ("node(s) had untolerated taint(s)",))
UNFIT = Refusal(NODE_AFFINITY, ("node(s) didn't match Pod's node affinity/selector",))
_SKEWED = Refusal(spread.PLUGIN, ("node(s) didn't match pod topology spread constraints",), curable=True)
_NO_DOMAIN = Refusal(spread.PLUGIN, ("node(s) didn't match pod topology spread constraints (missing required label)",))
_ALONE = Refusal(interpod.PLUGIN, ("node(s) didn't match pod affinity rules",))
_CROWDED = Refusal(interpod.PLUGIN, ("node(s) didn't match pod anti-affinity rules",), curable=True)
_UNWELCOME = Refusal(interpod.PLUGIN, ("node(s) didn't satisfy existing pods anti-affinity rules",), curable=True)
_PORT_TAKEN = Refusal(NODE_PORTS, ("node(s) didn't have free ports for the requested pod ports",), curable=True)


def prepare(info: PodInfo, world: Snapshot, *, without: frozenset[str] = frozenset()) -> tuple[Filter, ...]:
    """The filters that a pod has to pass, in upstream's order. without: UIDs of placed pods to think away."""
    spec = info.pod.spec
    found: list[Filter] = [_unschedulable(info)]
    if spec.node_name:
        found.append(lambda on: None if on.name == spec.node_name else _OTHER_NAME)
    found.append(_taints(info))
    terms = affinity.required_terms(spec)
    if spec.node_selector or terms is not None:
        found.append(lambda on: None if on.node and affinity.fits(spec, on.node, terms) else UNFIT)
    if info.ports:
        found.append(lambda on: _PORT_TAKEN if _clashes(info.ports, on) else None)
    found.append(_fit(info))
    found += _volumes(info, world)
    found += _spread(info, world, without)
    found += _interpod(info, world, without)
    return tuple(found)


def run(filters: Sequence[Filter], on: NodeInfo) -> Refusal | None:
    """The first refusal of a node, None if it will do."""
    for each in filters:
        refusal = each(on)
        if refusal is not None:
            return refusal
    return None


def _unschedulable(info: PodInfo) -> Filter:
    tolerated = not tolerations.untolerated(info.pod.spec.tolerations, [_UNSCHEDULABLE])

    def check(on: NodeInfo) -> Refusal | None:
        return _CORDONED if on.node and on.node.spec.unschedulable and not tolerated else None

    return check


def _taints(info: PodInfo) -> Filter:
    known = info.pod.spec.tolerations

    def check(on: NodeInfo) -> Refusal | None:
        if on.node is None or not on.node.spec.taints:
            return None
        refusing = [taint for taint in on.node.spec.taints if taint.effect in _REFUSING]
        return _TAINTED if tolerations.untolerated(known, refusing) else None

    return check


def _volumes(info: PodInfo, world: Snapshot) -> list[Filter]:
    wish = volumes.wish(info.pod, world.storage) if info.pod.spec.volumes else None
    if wish is None:
        return []

    def check(on: NodeInfo) -> Refusal | None:
        why = wish.problem or (wish.refuses(on.node) if on.node else "")
        return Refusal(volumes.PLUGIN, (why,)) if why else None

    return [check]


def _spread(info: PodInfo, world: Snapshot, without: frozenset[str]) -> list[Filter]:
    wanted = spread.constraints(info.pod, hard=True)
    if not wanted:
        return []
    domains = spread.count(info.pod, wanted, world.placed(without=without))

    def check(on: NodeInfo) -> Refusal | None:
        labels = on.node.metadata.labels if on.node else {}
        if any(each.constraint.topology_key not in labels for each in domains):
            return _NO_DOMAIN
        fine = all(each.allows(labels[each.constraint.topology_key]) for each in domains)
        return None if fine else _SKEWED

    return [check]


def _interpod(info: PodInfo, world: Snapshot, without: frozenset[str]) -> list[Filter]:
    own, namespaces = info.terms, world.namespaces
    asks = bool(own.with_required or own.away_required)
    if not asks and not world.with_terms:
        return []
    near = world.neighbours(only_with_terms=not own.away_required, without=without)
    ruled_out, refusing = interpod.forbidden(info.pod, own, near, namespaces)
    everyone = world.neighbours(only_with_terms=False, without=without) if own.with_required else ()
    values = interpod.attracting(own, everyone, namespaces)
    free = not values or interpod.is_first(info.pod, own, values, namespaces)

    def check(on: NodeInfo) -> Refusal | None:
        labels = on.node.metadata.labels if on.node else {}
        for term, known in zip(own.with_required, values, strict=True):
            if term.topology_key not in labels or (not free and labels[term.topology_key] not in known):
                return _ALONE
        if interpod.refuses(ruled_out, labels):
            return _CROWDED
        return _UNWELCOME if interpod.refuses(refusing, labels) else None

    return [check] if own.with_required or ruled_out or refusing else []


def _clashes(wanted: Sequence[HostPort], on: NodeInfo) -> bool:
    """0.0.0.0 is every address, so it clashes with each."""
    if not on.ports:
        return False
    for protocol, address, port in wanted:
        for taken_protocol, taken_address, taken_port in on.ports:
            same = protocol == taken_protocol and port == taken_port
            if same and (address == taken_address or "0.0.0.0" in (address, taken_address)):
                return True
    return False


def _fit(info: PodInfo) -> Filter:
    wanted = tuple(sorted(info.request.items()))

    def check(on: NodeInfo) -> Refusal | None:
        allocatable, requested = on.allocatable, on.requested
        full = len(on.pods) + 1 > allocatable.get(PODS, 0)
        if not full:
            for name, amount in wanted:
                if amount > allocatable.get(name, 0) - requested.get(name, 0):
                    break
            else:
                return None
        return _shortage(wanted, on, full=full)

    return check


def _shortage(wanted: Sequence[tuple[str, int]], on: NodeInfo, *, full: bool) -> Refusal:
    """Name everything that is short; if the whole node is too small, removing pods would not help."""
    reasons = ["Too many pods"] if full else []
    curable = True
    for name, amount in wanted:
        has = on.allocatable.get(name, 0)
        if amount > has - on.requested.get(name, 0):
            reasons.append(f"Insufficient {name}")
            curable = curable and amount <= has
    return Refusal(FIT, tuple(reasons), curable)
