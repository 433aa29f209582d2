"""Which endpoints a connection may go to. PURE.

Follows upstream's choice: ready ones, near ones first where every slice says for whom they are; if none is ready, those
that serve while they terminate; under a Local policy only those of this node. "Nobody at all" and "nobody here"
differ: the first is refused, the second dropped.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.services.model import Endpoint, ThisNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The endpoints to balance over; when empty, `drop` tells silence from refusal."""

    usable: frozenset[Endpoint]
    drop: bool = False


def choose(endpoints: Iterable[Endpoint], *, node: ThisNode, local_only: bool, version: int) -> Choice:
    """The choice for one IP version on this node."""
    ours = frozenset(endpoint for endpoint in endpoints if endpoint.version == version)
    everywhere = _available(ours)
    if not local_only:
        return Choice(usable=_near(everywhere, node))
    here = _available(endpoint for endpoint in ours if endpoint.node == node.name)
    return Choice(usable=here, drop=bool(everywhere) and not here)


def _available(endpoints: Iterable[Endpoint]) -> frozenset[Endpoint]:
    candidates = frozenset(endpoints)
    ready = frozenset(endpoint for endpoint in candidates if endpoint.ready)
    return ready or frozenset(e for e in candidates if e.serving and e.terminating)


def _near(found: frozenset[Endpoint], node: ThisNode) -> frozenset[Endpoint]:
    """Hints for nodes, then for zones; a kind of hint counts only when each ready endpoint has it and one matches."""
    if not all(endpoint.ready for endpoint in found):
        return found
    if all(endpoint.for_nodes for endpoint in found):
        near = frozenset(endpoint for endpoint in found if node.name in endpoint.for_nodes)
        if near:
            return near
    if node.zone and all(endpoint.for_zones for endpoint in found):
        return frozenset(endpoint for endpoint in found if node.zone in endpoint.for_zones) or found
    return found
