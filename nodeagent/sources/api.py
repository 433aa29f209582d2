"""Pods the API has bound to this node; those that only mirror a static pod are told apart."""

from collections.abc import Callable
from typing import Protocol

from kube import scheme, types
from kube.client.informer import Informer, Informers
from nodeagent.pods import spec

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


class BoundPods:
    """The API's pods of this node without mirror pods."""

    def __init__(self, informer: Informer[types.Pod], *, mirrors: bool = False) -> None:
        self._informer = informer
        self._mirrors = mirrors

    @property
    def synced(self) -> bool:
        """See Source."""
        return self._informer.synced

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """See Source."""

        def fitting(pod: types.Pod | None) -> types.Pod | None:
            return pod if pod is not None and spec.is_mirror(pod) == self._mirrors else None

        def chosen(old: types.Pod | None, new: types.Pod | None) -> None:
            old, new = fitting(old), fitting(new)
            if old is not None or new is not None:
                handler(old, new)

        return self._informer.subscribe(chosen)


def informer(informers: Informers, *, node_name: str) -> Informer[types.Pod]:
    """The informer of this node's pods."""
    return informers.get(scheme.PODS, types.Pod, field_selector=f"spec.nodeName={node_name}")


def pods_of(informers: Informers, *, node_name: str) -> BoundPods:
    """The pods the API wants to run on this node."""
    return BoundPods(informer(informers, node_name=node_name))


def mirrors_of(informers: Informers, *, node_name: str) -> BoundPods:
    """The mirror pods of this node's static pods."""
    return BoundPods(informer(informers, node_name=node_name), mirrors=True)
