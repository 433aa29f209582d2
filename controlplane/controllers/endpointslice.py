"""The EndpointSlice controller: shows the pods behind each Service with a selector, a hundred to a slice.

`plan` is pure and rewrites as few slices as it can: every proxy of the cluster reads every changed one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from controlplane.controllers import backends, ownership, podstate, writes
from controlplane.controllers.backends import Port
from controlplane.controllers.services import ServiceLoop
from controlplane.projection import JSON, EndpointSlice, Meta, Node, Pod, Service
from kube import scheme
from kube.runtime.component import Deps

MAX_ENDPOINTS = 100
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
ZONE = "topology.kubernetes.io/zone"
MANAGER = "endpointslice-controller.k8s.io"
SAME_ZONE, SAME_NODE = ("PreferClose", "PreferSameZone"), "PreferSameNode"
NO_ZONES: Mapping[str, str] = MappingProxyType({})
_RESERVED = frozenset((SERVICE_NAME, MANAGED_BY, backends.HEADLESS))

Group = tuple[str, tuple[Port, ...]]  # address family and ports: what all endpoints of one slice share


@dataclass(slots=True)
class _Draft:
    """A slice being filled: the one that exists, if any, and what it is to hold."""

    group: Group
    old: EndpointSlice | None = None
    endpoints: list[JSON] = field(default_factory=list)
    changed: bool = False

    @property
    def room(self) -> int:
        return MAX_ENDPOINTS - len(self.endpoints)


def plan(
    service: Service, pods: Sequence[Pod], slices: Iterable[EndpointSlice], *, zones: Mapping[str, str] = NO_ZONES
) -> tuple[writes.Write, ...]:
    """The writes that make a Service's slices show its pods. zones: by node name, for nodes that have one."""
    existing = [s for s in slices if not s.metadata.deletion_timestamp]
    if service.metadata.deletion_timestamp:
        return ()
    if not backends.has_endpoints(service):
        return tuple(map(_deletion, existing))
    wanted = _endpoints(service, pods, zones)
    groups = dict.fromkeys([*wanted, *map(_group, existing)])
    drafts = [draft for group in groups for draft in _fill(group, wanted.get(group, {}), existing)]
    stamp = backends.trigger_time(service, pods)
    known = [s.metadata.annotations.get(backends.TRIGGER_TIME) for s in existing]
    trigger = stamp if backends.newer(stamp, known) else None
    planned: list[writes.Write | None] = []
    for family in backends.families(service):
        of_family = [draft for draft in drafts if draft.group[0] == family]
        kept = [draft for draft in of_family if draft.endpoints] or of_family[:1] or [_Draft((family, ()))]
        planned += [_deletion(d.old) for d in of_family if d.old and not any(d is k for k in kept)]
        planned += [_write(service, draft, trigger) for draft in kept]
    stray = [s for s in existing if s.address_type not in backends.families(service)]
    return tuple(write for write in (*planned, *map(_deletion, stray)) if write)


def _endpoints(service: Service, pods: Iterable[Pod], zones: Mapping[str, str]) -> dict[Group, dict[str, JSON]]:
    """What must be shown: by group, endpoints by address."""
    wanted: dict[Group, dict[str, JSON]] = defaultdict(dict)
    for pod in pods:
        for family in backends.families(service):
            ip = backends.address(pod, family)
            if ip:
                wanted[family, backends.ports(service, pod)][ip] = _endpoint(
                    service, pod, ip, zones.get(pod.spec.node_name, "")
                )
    return wanted


def _endpoint(service: Service, pod: Pod, ip: str, zone: str) -> JSON:
    serving, terminating = podstate.is_ready(pod), bool(pod.metadata.deletion_timestamp)
    ready = service.spec.publish_not_ready_addresses or (serving and not terminating)
    shown: JSON = {
        "addresses": [ip],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": backends.reference(pod),
    }
    if pod.spec.node_name:
        shown["nodeName"] = pod.spec.node_name
    if zone:
        shown["zone"] = zone
    if ready and (hints := _hints(service, pod, zone)):
        shown["hints"] = hints
    if name := backends.hostname(service, pod):
        shown["hostname"] = name
    return shown


def _hints(service: Service, pod: Pod, zone: str) -> JSON:
    """For whom an endpoint is meant, where the Service asks for closeness: its own zone, or its own node."""
    asked = service.spec.traffic_distribution
    if asked not in (*SAME_ZONE, SAME_NODE):
        return {}
    hints: JSON = {"forZones": [{"name": zone}]} if zone else {}
    return hints | ({"forNodes": [{"name": pod.spec.node_name}]} if asked == SAME_NODE else {})


def _group(slice: EndpointSlice) -> Group:
    ports = (
        Port(p.get("name") or "", p.get("protocol") or "TCP", p.get("port") or 0, p.get("appProtocol") or "")
        for p in slice.ports
    )
    return slice.address_type, tuple(sorted(ports))


def _fill(group: Group, wanted: dict[str, JSON], existing: Sequence[EndpointSlice]) -> list[_Draft]:
    """Keep endpoints where they are; put new ones where a slice changes anyway, else where they fit, else anew.

    A group may end without endpoints; at most its empty drafts are then left.
    """
    missing = dict(wanted)
    drafts = [_keep(slice, missing) for slice in existing if _group(slice) == group]
    rest = list(missing.values())
    for draft in sorted((d for d in drafts if d.changed), key=lambda d: d.room):
        rest = _pour(draft, rest)
    fitting = [d for d in drafts if not d.changed and d.room >= len(rest)]
    if rest and fitting:
        rest = _pour(min(fitting, key=lambda d: d.room), rest)
    while rest:
        drafts.append(_Draft(group))
        rest = _pour(drafts[-1], rest)
    return drafts


def _keep(slice: EndpointSlice, missing: dict[str, JSON]) -> _Draft:
    """What stays in a slice; endpoints it keeps are taken out of missing."""
    draft = _Draft(_group(slice), slice)
    for endpoint in slice.endpoints:
        new = missing.pop((endpoint.get("addresses") or [""])[0], None)
        draft.changed = draft.changed or new != endpoint
        if new:
            draft.endpoints.append(new)
    return draft


def _pour(draft: _Draft, endpoints: list[JSON]) -> list[JSON]:
    room = draft.room
    if endpoints and room:
        draft.endpoints.extend(endpoints[:room])
        draft.changed = True
    return endpoints[room:]


def _labels(service: Service) -> dict[str, str]:
    labels = {key: value for key, value in service.metadata.labels.items() if key not in _RESERVED}
    labels |= {SERVICE_NAME: service.metadata.name, MANAGED_BY: MANAGER}
    return labels | ({backends.HEADLESS: ""} if backends.is_headless(service) else {})


def _write(service: Service, draft: _Draft, trigger: str | None) -> writes.Write | None:
    labels = _labels(service)
    annotations = {backends.TRIGGER_TIME: trigger} if trigger else {}
    if draft.old is None:
        return _creation(service, draft, labels=labels, annotations=annotations)
    meta = draft.old.metadata
    if not draft.changed and meta.labels == labels:
        return None
    stale = {key: None for key in meta.labels if key not in labels}
    return _patch(meta, {"endpoints": draft.endpoints}, labels={**stale, **labels}, annotations=annotations)


def _creation(service: Service, draft: _Draft, *, labels: dict[str, str], annotations: dict[str, str]) -> writes.Create:
    meta = {
        "generateName": f"{service.metadata.name}-",
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [ownership.reference(scheme.SERVICES, service.metadata)],
    }
    body = {
        "metadata": meta,
        "addressType": draft.group[0],
        "endpoints": draft.endpoints,
        "ports": [port.to_json() for port in draft.group[1]],
    }
    return writes.Create(resource=scheme.ENDPOINT_SLICES, namespace=service.metadata.namespace, body=body)


def _deletion(slice: EndpointSlice) -> writes.Delete:
    meta = slice.metadata
    return writes.Delete(resource=scheme.ENDPOINT_SLICES, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def _patch(meta: Meta, body: JSON, *, labels: JSON, annotations: dict[str, str]) -> writes.Patch:
    return writes.Patch(
        resource=scheme.ENDPOINT_SLICES,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        body={**body, "metadata": {"labels": labels, "annotations": annotations}},
    )


class Controller:
    """Services and pods in, slices out."""

    def __init__(self, deps: Deps) -> None:
        self._slices = deps.informers.get(
            scheme.ENDPOINT_SLICES, EndpointSlice, label_selector=f"{MANAGED_BY}={MANAGER}"
        )
        self._nodes = deps.informers.get(scheme.NODES, Node)
        reads = (self._slices, self._nodes)
        self._source = ServiceLoop("endpointslice", deps=deps, reads=reads, update=self._update)
        self.loop = self._source.loop
        self._of_service = self._slices.add_index(_service_key)
        self._slices.subscribe(self._on_slice)
        self._nodes.subscribe(self._on_node)

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for slice in (old, new):
            for key in _service_key(slice) if slice else ():
                self.loop.queue.add(key)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        """A node that gets or changes its zone changes what is said of the pods on it."""
        before, after = (one.metadata.labels.get(ZONE, "") if one else "" for one in (old, new))
        if new and before != after:
            self._source.look_at_node(new.metadata.name)

    def _zone(self, node: str) -> str:
        found = self._nodes.cache.get(node)
        return found.metadata.labels.get(ZONE, "") if found else ""

    async def _update(self, key: str, service: Service | None, pods: Sequence[Pod]) -> None:
        if service is None:
            return  # the garbage collector takes the slices of a deleted Service
        zones = {pod.spec.node_name: self._zone(pod.spec.node_name) for pod in pods}
        for write in plan(service, pods, self._of_service.get(key), zones=zones):
            await self.loop.write(key, write, informer=self._slices)


def _service_key(slice: EndpointSlice) -> list[str]:
    name = slice.metadata.labels.get(SERVICE_NAME)
    return [f"{slice.metadata.namespace}/{name}"] if name else []
