"""From pods to the Services that select them: what the Endpoints and EndpointSlice controllers share.

Owns the mapping of events to Service keys. Must not know what is written for a Service.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from controlplane.controllers import backends, reconcile
from controlplane.projection import Pod, Service
from kube import scheme
from kube.client.informer import Informer
from kube.runtime.component import Deps

WORKERS = 5
Update = Callable[[str, Service | None, Sequence[Pod]], Awaitable[None]]


class ServiceLoop:
    """A loop over Service keys ("namespace/name") that hands over the Service and the pods it selects."""

    def __init__(self, name: str, *, deps: Deps, reads: Sequence[Informer[Any]], update: Update) -> None:
        self._update = update
        self._services = deps.informers.get(scheme.SERVICES, Service)
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self.loop = reconcile.Loop(
            name,
            deps=deps,
            reads=(self._services, self._pods, *reads),
            reconcile=self._reconcile,
            workers=WORKERS,
        )
        self._services_in = self._services.add_index(lambda service: [service.metadata.namespace])
        self._pods_by_label = self._pods.add_index(_labels)
        self._pods_on = self._pods.add_index(lambda pod: [pod.spec.node_name] if pod.spec.node_name else [])
        self._services.subscribe(self._on_service)
        self._pods.subscribe(self._on_pod)

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        if service:
            self.loop.queue.add(_key(service))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if old and new and _shown(old) == _shown(new):
            return
        for pod in (old, new):
            if pod:
                for service in self._services_in.get(pod.metadata.namespace):
                    if backends.has_endpoints(service) and _selects(service, pod):
                        self._on_service(None, service)

    def look_at_node(self, node: str) -> None:
        """Look again at the Services of the pods on a node."""
        for pod in self._pods_on.get(node):
            self._on_pod(None, pod)

    async def _reconcile(self, key: str) -> None:
        if key == "default/kubernetes":
            return  # the API server's own
        service = self._services.cache.get(key)
        await self._update(key, service, self._selected(service) if service else ())

    def _selected(self, service: Service) -> Sequence[Pod]:
        """Pods by the rarest of the selector's labels, so that the cost follows the Service, not the namespace."""
        if not backends.has_endpoints(service):
            return ()
        pairs = service.spec.selector.items()
        namespace = service.metadata.namespace
        candidates = min((self._pods_by_label.get(f"{namespace}/{k}={v}") for k, v in pairs), key=len)
        found = backends.selected(service, candidates)
        return sorted(found, key=lambda pod: pod.metadata.name)


def _labels(pod: Pod) -> list[str]:
    return [f"{pod.metadata.namespace}/{key}={value}" for key, value in pod.metadata.labels.items()]


def _selects(service: Service, pod: Pod) -> bool:
    return service.spec.selector.items() <= pod.metadata.labels.items()


def _key(service: Service) -> str:
    return f"{service.metadata.namespace}/{service.metadata.name}"


def _shown(pod: Pod) -> tuple[object, ...]:
    """What of a pod can show in endpoints."""
    ready = next((c for c in pod.status.conditions if c.type == "Ready"), None)
    meta, spec, status = pod.metadata, pod.spec, pod.status
    return (
        meta.uid,
        meta.labels,
        meta.deletion_timestamp,
        spec.node_name,
        status.phase,
        status.pod_ip,
        status.pod_ips,
        ready.status if ready else None,
    )
