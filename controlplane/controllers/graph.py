"""The graph of owners and dependents, by UID, and what follows from it for one object. Pure: no calls, no caches.

Follows upstream's garbage collector: an object goes when no owner of it is left; an owner waiting in foreground goes
after the dependents that block it; an orphaning owner first lets its dependents go.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from controlplane.projection import LeanMeta, OwnerReference
from kube.scheme import Resource

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(slots=True)
class Node:
    """One object, as far as ownership goes."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    version: str
    owners: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deleting: bool = False

    @property
    def waits_for_dependents(self) -> bool:
        """Being deleted in foreground."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        """Being deleted with its dependents to be kept."""
        return self.deleting and ORPHAN in self.finalizers


@dataclass(slots=True)
class Graph:
    """Every object seen, and who depends on whom."""

    nodes: dict[str, Node] = field(default_factory=dict)
    dependents: dict[str, set[str]] = field(default_factory=dict)

    def put(self, resource: Resource, meta: LeanMeta) -> Node:
        """Add or update an object."""
        self._unlink(meta.uid)
        node = Node(
            resource,
            meta.namespace,
            meta.name,
            meta.uid,
            meta.resource_version,
            meta.owner_references,
            meta.finalizers,
            bool(meta.deletion_timestamp),
        )
        self.nodes[meta.uid] = node
        for ref in meta.owner_references:
            self.dependents.setdefault(ref.uid, set()).add(meta.uid)
        return node

    def remove(self, uid: str) -> None:
        """Forget an object that is gone; its dependents keep pointing at it."""
        self._unlink(uid)
        self.nodes.pop(uid, None)

    def dependents_of(self, uid: str) -> list[Node]:
        """Objects that name this UID as an owner."""
        return [self.nodes[one] for one in self.dependents.get(uid, ()) if one in self.nodes]

    def _unlink(self, uid: str) -> None:
        node = self.nodes.get(uid)
        for ref in node.owners if node else ():
            known = self.dependents.get(ref.uid)
            if known:
                known.discard(uid)
                if not known:
                    del self.dependents[ref.uid]


class Owner(Enum):
    """What is known of one owner reference."""

    SOLID = "solid"  # exists and stays
    WAITING = "waiting"  # exists, but waits for its dependents to go
    ABSENT = "absent"  # does not exist
    UNKNOWN = "unknown"  # not seen: to be asked for
    FOREIGN = "foreign"  # in another namespace, which counts as absent


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with one object. ask: owners to look for live before deciding again."""

    ask: tuple[OwnerReference, ...] = ()
    delete: str | None = None  # propagation policy
    drop_owners: tuple[str, ...] = ()
    unblock: bool = False  # its owners shall no longer wait for it
    drop_finalizer: str | None = None
    orphan: tuple[Node, ...] = ()
    visit: tuple[str, ...] = ()
    foreign: tuple[OwnerReference, ...] = ()


NOTHING = Verdict()


def judge(graph: Graph, node: Node, *, is_absent: Callable[[str], bool]) -> Verdict:
    """Decide about one object. is_absent tells which UIDs were asked for and not found."""
    if node.orphans_dependents:
        return Verdict(orphan=tuple(graph.dependents_of(node.uid)), drop_finalizer=ORPHAN)
    if node.waits_for_dependents:
        return _judge_waiting(graph, node)
    if node.deleting or not node.owners:
        return NOTHING
    state = {ref.uid: _state(graph, node, ref, is_absent) for ref in node.owners}
    unknown = tuple(ref for ref in node.owners if state[ref.uid] is Owner.UNKNOWN)
    if unknown:
        return Verdict(ask=unknown)
    foreign = tuple(ref for ref in node.owners if state[ref.uid] is Owner.FOREIGN)
    waiting = [uid for uid, known in state.items() if known is Owner.WAITING]
    gone = [uid for uid, known in state.items() if known in (Owner.ABSENT, Owner.FOREIGN)]
    if Owner.SOLID in state.values():
        return Verdict(drop_owners=tuple(gone + waiting), foreign=foreign)
    if waiting and graph.dependents.get(node.uid):
        if _in_circle(graph, node) and any(ref.block_owner_deletion for ref in node.owners):
            return Verdict(unblock=True, foreign=foreign)
        # Its own dependents first, or the waiting owner would go before its grandchildren.
        return Verdict(delete="Foreground", foreign=foreign)
    return Verdict(delete=_policy(node), foreign=foreign)


def _in_circle(graph: Graph, node: Node) -> bool:
    """Whether one that depends on it waits as its owners do: then they may wait for each other for ever."""
    return any(dependent.waits_for_dependents for dependent in graph.dependents_of(node.uid))


def _judge_waiting(graph: Graph, node: Node) -> Verdict:
    dependents = graph.dependents_of(node.uid)
    blocking = [d for d in dependents if any(r.uid == node.uid and r.block_owner_deletion for r in d.owners)]
    if not blocking:
        return Verdict(drop_finalizer=FOREGROUND)
    return Verdict(visit=tuple(d.uid for d in dependents if not d.deleting))


def _state(graph: Graph, node: Node, ref: OwnerReference, is_absent: Callable[[str], bool]) -> Owner:
    owner = graph.nodes.get(ref.uid)
    if owner is None:
        return Owner.ABSENT if is_absent(ref.uid) else Owner.UNKNOWN
    if owner.namespace and owner.namespace != node.namespace:
        return Owner.FOREIGN
    return Owner.WAITING if owner.waits_for_dependents else Owner.SOLID


def _policy(node: Node) -> str:
    if ORPHAN in node.finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in node.finalizers else "Background"
