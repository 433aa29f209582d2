"""Pods the API has bound to this node."""

from collections.abc import Callable
from typing import Protocol

from kube import scheme, types
from kube.client.informer import Informer, Informers

Handler = Callable[[types.Pod | None, types.Pod | None], None]


class Source(Protocol):
    """One place pods come from."""

    @property
    def synced(self) -> bool:
        """Whether it has told everything it had at the start: nothing may be removed before."""
        ...

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Calls `handler(old, new)` for each change, and for what is there already; returns the undo."""
        ...


def pods_of(informers: Informers, *, node_name: str) -> Informer[types.Pod]:
    """The informer of this node's pods."""
    return informers.get(scheme.PODS, types.Pod, field_selector=f"spec.nodeName={node_name}")
