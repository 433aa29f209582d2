"""The EndpointSlice mirroring controller: shows hand-made Endpoints of Services without a selector as slices.

`plan` is pure. One slice for each IP version and set of ports. Endpoints that the Endpoints controller makes are not
mirrored: those Services have a selector, and slices of their own.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from controlplane.controllers import ownership, reconcile, writes
from controlplane.controllers.endpointslice import MANAGED_BY, SERVICE_NAME
from controlplane.projection import JSON, Endpoints, EndpointSlice, Service
from kube import scheme
from kube.client.informer import Informer
from kube.runtime.component import Deps

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_ADDRESSES = 1000
"""Of one subset; more are left out, as upstream does."""
WORKERS = 2
FAMILIES = {4: "IPv4", 6: "IPv6"}
_OWN = (MANAGED_BY, SERVICE_NAME, SKIP)

Group = tuple[str, tuple[tuple[tuple[str, object], ...], ...]]


def plan(
    endpoints: Endpoints | None, service: Service | None, slices: Iterable[EndpointSlice]
) -> tuple[writes.Write, ...]:
    """The writes that make the mirrored slices show the Endpoints."""
    existing = [each for each in slices if not each.metadata.deletion_timestamp]
    if endpoints is None or not mirrored(endpoints, service):
        return tuple(map(_deletion, existing))
    wanted = groups(endpoints)
    labels, annotations = _labels(endpoints), _annotations(endpoints)
    planned: list[writes.Write] = []
    for each in existing:
        found = wanted.pop(_group(each.address_type, each.ports), None)
        if found is None:
            planned.append(_deletion(each))
        elif list(each.endpoints) != found or each.metadata.labels != labels:
            planned.append(_patch(each, found, labels=labels, annotations=annotations))
    planned += [_creation(endpoints, group, found, labels, annotations) for group, found in wanted.items()]
    return tuple(planned)


def mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Whether slices are made of these Endpoints: they are not a lock, and their Service has no selector."""
    meta = endpoints.metadata
    if meta.deletion_timestamp or meta.labels.get(SKIP) == "true" or LEADER in meta.annotations:
        return False
    return service is not None and not service.spec.selector


def groups(endpoints: Endpoints) -> dict[Group, list[JSON]]:
    """What must be shown: by IP version and ports, each address once."""
    found: dict[Group, dict[str, JSON]] = {}
    for subset in endpoints.subsets:
        left = MAX_ADDRESSES
        for kind, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in (subset.get(kind) or ())[:left]:
                left -= 1
                family = _family(address.get("ip") or "")
                if family:
                    shown = found.setdefault(_group(family, subset.get("ports") or ()), {})
                    shown.setdefault(address["ip"], _endpoint(address, ready=ready))
    return {group: list(shown.values()) for group, shown in found.items()}


def _family(text: str) -> str:
    try:
        return FAMILIES[ip_address(text).version]
    except ValueError:
        return ""


def _endpoint(address: JSON, *, ready: bool) -> JSON:
    shown: JSON = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    return shown | {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}


def _group(family: str, ports: Iterable[JSON]) -> Group:
    plain = ({"protocol": "TCP", "name": ""} | {k: v for k, v in port.items() if v is not None} for port in ports)
    return family, tuple(sorted(tuple(sorted(port.items())) for port in plain))


def _labels(endpoints: Endpoints) -> dict[str, str]:
    own = {SERVICE_NAME: endpoints.metadata.name, MANAGED_BY: MANAGER}
    return {key: value for key, value in endpoints.metadata.labels.items() if key not in _OWN} | own


def _annotations(endpoints: Endpoints) -> dict[str, str]:
    return {key: value for key, value in endpoints.metadata.annotations.items() if key != LAST_APPLIED}


def _deletion(found: EndpointSlice) -> writes.Delete:
    meta = found.metadata
    return writes.Delete(resource=scheme.ENDPOINT_SLICES, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def _patch(found: EndpointSlice, shown: list[JSON], *, labels: JSON, annotations: JSON) -> writes.Patch:
    meta = found.metadata
    stale = {key: None for key in meta.labels if key not in labels}
    return writes.Patch(
        resource=scheme.ENDPOINT_SLICES,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        body={"endpoints": shown, "metadata": {"labels": {**stale, **labels}, "annotations": annotations}},
    )


def _creation(
    endpoints: Endpoints, group: Group, shown: list[JSON], labels: dict[str, str], annotations: dict[str, str]
) -> writes.Create:
    meta = endpoints.metadata
    owner = ownership.reference(scheme.ENDPOINTS, meta)
    body = {
        "metadata": {
            "generateName": f"{meta.name}-",
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "addressType": group[0],
        "endpoints": shown,
        "ports": [dict(port) for port in group[1]],
    }
    return writes.Create(resource=scheme.ENDPOINT_SLICES, namespace=meta.namespace, body=body)


class Controller:
    """Endpoints and Services in, slices out."""

    def __init__(self, deps: Deps) -> None:
        self._endpoints = deps.informers.get(scheme.ENDPOINTS, Endpoints)
        self._services = deps.informers.get(scheme.SERVICES, Service)
        self._slices = deps.informers.get(
            scheme.ENDPOINT_SLICES, EndpointSlice, label_selector=f"{MANAGED_BY}={MANAGER}"
        )
        self._of_service = self._slices.add_index(_service_key)
        reads: Sequence[Informer[object]] = (self._endpoints, self._services, self._slices)  # type: ignore[assignment]
        self.loop = reconcile.Loop(
            "endpointslicemirroring", deps=deps, reads=reads, reconcile=self._reconcile, workers=WORKERS
        )
        self._endpoints.subscribe(self._changed)
        self._services.subscribe(self._changed)
        self._slices.subscribe(self._on_slice)

    def _changed(self, old: Endpoints | Service | None, new: Endpoints | Service | None) -> None:
        one = new or old
        if one is not None:
            self.loop.queue.add(f"{one.metadata.namespace}/{one.metadata.name}")

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for each in (old, new):
            for key in _service_key(each) if each else ():
                self.loop.queue.add(key)

    async def _reconcile(self, key: str) -> None:
        found = plan(self._endpoints.cache.get(key), self._services.cache.get(key), self._of_service.get(key))
        for write in found:
            await self.loop.write(key, write, informer=self._slices)


def _service_key(found: EndpointSlice) -> list[str]:
    name = found.metadata.labels.get(SERVICE_NAME)
    return [f"{found.metadata.namespace}/{name}"] if name else []
