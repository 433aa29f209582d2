"""Which endpoints a connection may go to. PURE.

Follows upstream's choice: ready ones; if none is ready, those that serve while they terminate; under a Local policy
only those of this node. "Nobody at all" and "nobody here" differ: the first is refused, the second dropped.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.services.model import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The endpoints to balance over; when empty, `drop` tells silence from refusal."""

    usable: frozenset[Endpoint]
    drop: bool = False


def choose(endpoints: Iterable[Endpoint], *, node: str, local_only: bool, version: int) -> Choice:
    """The choice for cluster traffic of one IP version on this node."""
    ours = frozenset(endpoint for endpoint in endpoints if (6 if ":" in endpoint.address else 4) == version)
    everywhere = _available(ours)
    if not local_only:
        return Choice(usable=everywhere)
    here = _available(endpoint for endpoint in ours if endpoint.node == node)
    return Choice(usable=here, drop=bool(everywhere) and not here)


def _available(endpoints: Iterable[Endpoint]) -> frozenset[Endpoint]:
    candidates = frozenset(endpoints)
    ready = frozenset(endpoint for endpoint in candidates if endpoint.ready)
    return ready or frozenset(e for e in candidates if e.serving and e.terminating)
