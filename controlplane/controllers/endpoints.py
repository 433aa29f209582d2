"""The Endpoints controller: the old API's list of addresses behind each Service with a selector.

`plan` is pure. One object a Service, so every change rewrites it whole; new clients read slices.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from controlplane.controllers import backends, podstate, writes
from controlplane.controllers.backends import Port
from controlplane.controllers.services import ServiceLoop
from controlplane.projection import JSON, Endpoints, Pod, Service
from kube import scheme
from kube.runtime.component import Deps
from kube.status import ApiError, is_already_exists, is_not_found

MAX_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_RESERVED = frozenset((backends.HEADLESS, MANAGED_BY))


def plan(service: Service, pods: Sequence[Pod], current: Endpoints | None) -> writes.Create | writes.Patch | None:
    """The write that makes a Service's Endpoints show its pods, or None."""
    if not backends.has_endpoints(service) or service.metadata.deletion_timestamp:
        return None
    shown = [pod for pod in pods if service.spec.publish_not_ready_addresses or not pod.metadata.deletion_timestamp]
    cut = len(shown) > MAX_ADDRESSES
    # Ready pods come first, so that only unready ones are left out while there is a choice.
    shown = sorted(shown, key=lambda pod: not _is_ready(service, pod))[:MAX_ADDRESSES]
    subsets, labels = _subsets(service, shown), _labels(service)
    known = current.metadata.annotations if current else {}
    annotations: JSON = {OVER_CAPACITY: "truncated" if cut else None}
    same_capacity = known.get(OVER_CAPACITY) == annotations[OVER_CAPACITY]
    if current and same_capacity and list(current.subsets) == subsets and current.metadata.labels == labels:
        return None
    stamp = backends.trigger_time(service, pods)
    if backends.newer(stamp, [known.get(backends.TRIGGER_TIME)]):
        annotations[backends.TRIGGER_TIME] = stamp
    return _write(service, current, subsets=subsets, labels=labels, annotations=annotations)


def _write(
    service: Service, current: Endpoints | None, *, subsets: list[JSON], labels: dict[str, str], annotations: JSON
) -> writes.Create | writes.Patch:
    namespace, name = service.metadata.namespace, service.metadata.name
    if current is None:
        given = {key: value for key, value in annotations.items() if value}
        body = {"metadata": {"name": name, "labels": labels, "annotations": given}, "subsets": subsets}
        return writes.Create(resource=scheme.ENDPOINTS, namespace=namespace, body=body)
    meta = current.metadata
    stale = {key: None for key in meta.labels if key not in labels}
    return writes.Patch(
        resource=scheme.ENDPOINTS,
        namespace=namespace,
        name=name,
        uid=meta.uid,
        version=meta.resource_version,
        body={"metadata": {"labels": {**stale, **labels}, "annotations": annotations}, "subsets": subsets},
    )


def _is_ready(service: Service, pod: Pod) -> bool:
    return service.spec.publish_not_ready_addresses or podstate.is_ready(pod)


def _subsets(service: Service, pods: Iterable[Pod]) -> list[JSON]:
    """One subset for each set of ports; pods that serve the same ports share one."""
    family = backends.families(service)[0]
    grouped: dict[tuple[Port, ...], list[tuple[str, Pod]]] = defaultdict(list)
    for pod in pods:
        ip, ports = backends.address(pod, family), backends.ports(service, pod)
        if ip and (ports or not service.spec.ports):
            grouped[ports].append((ip, pod))
    return [_subset(service, ports, members) for ports, members in sorted(grouped.items())]


def _subset(service: Service, ports: tuple[Port, ...], members: Iterable[tuple[str, Pod]]) -> JSON:
    subset: JSON = {}
    for ip, pod in sorted(members, key=lambda member: (ip_address(member[0]).packed, member[1].metadata.uid)):
        kind = "addresses" if _is_ready(service, pod) else "notReadyAddresses"
        subset.setdefault(kind, []).append(_address(service, pod, ip))
    if ports:
        subset["ports"] = [{k: v for k, v in port.to_json().items() if v != ""} for port in ports]
    return subset


def _address(service: Service, pod: Pod, ip: str) -> JSON:
    shown: JSON = {"ip": ip, "targetRef": backends.reference(pod)}
    if pod.spec.node_name:
        shown["nodeName"] = pod.spec.node_name
    if name := backends.hostname(service, pod):
        shown["hostname"] = name
    return shown


def _labels(service: Service) -> dict[str, str]:
    labels = {key: value for key, value in service.metadata.labels.items() if key not in _RESERVED}
    labels[MANAGED_BY] = "endpoint-controller"
    return labels | ({backends.HEADLESS: ""} if backends.is_headless(service) else {})


class Controller:
    """Services and pods in, Endpoints out."""

    def __init__(self, deps: Deps) -> None:
        self._client = deps.client
        self._endpoints = deps.informers.get(scheme.ENDPOINTS, Endpoints)
        self._source = ServiceLoop("endpoints", deps=deps, reads=(self._endpoints,), update=self._update)
        self.loop = self._source.loop
        self._endpoints.subscribe(self._on_endpoints)

    def _on_endpoints(self, old: Endpoints | None, new: Endpoints | None) -> None:
        """Endpoints someone changed or removed are put right; those of no Service are left to look at in _update."""
        one = new or old
        if one:
            self.loop.queue.add(f"{one.metadata.namespace}/{one.metadata.name}")

    async def _update(self, key: str, service: Service | None, pods: Sequence[Pod]) -> None:
        current = self._endpoints.cache.get(key)
        if service is None:
            await self._remove(key, current)
            return
        write = plan(service, pods, current)
        if write is None:
            return
        try:
            await self.loop.write(key, write, informer=self._endpoints)
        except ApiError as e:
            if not is_already_exists(e):
                raise  # someone made it by hand meanwhile: its event brings the key back

    async def _remove(self, key: str, current: Endpoints | None) -> None:
        """Take away what this controller made for a Service that is gone; hand-made Endpoints stay."""
        if current is None or current.metadata.labels.get(MANAGED_BY) != "endpoint-controller":
            return
        meta = current.metadata
        deletion = writes.Delete(resource=scheme.ENDPOINTS, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        try:
            await self.loop.write(key, deletion, informer=self._endpoints)
        except ApiError as e:
            if not is_not_found(e):
                raise
