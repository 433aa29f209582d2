"""The zone kept equal to the API: informers in, records out.

Owns which objects are read and what of them goes into the zone; must not know sockets.
"""

import contextlib
from collections.abc import Iterable, Sequence

from kube import scheme
from kube.client.informer import Informer, Informers
from proxy.dns import names, wire
from proxy.dns import zone as zones
from proxy.dns.config import DNSConfiguration
from proxy.dns.views import EndpointSlice, Namespace, Pod, Service
from proxy.dns.zone import Zone


class Feed:
    """Services, slices and namespaces; pods only where their names or namespaces are asked for."""

    def __init__(self, config: DNSConfiguration, zone: Zone, informers: Informers, *, searches: Sequence[str]) -> None:
        self._config = config
        self._zone = zone
        self._searches = [wire.encode_name(each) for each in searches]
        self._services = informers.get(scheme.SERVICES, Service)
        self._namespaces = informers.get(scheme.NAMESPACES, Namespace)
        self.slices: Informer[EndpointSlice] = informers.get(scheme.ENDPOINT_SLICES, EndpointSlice)
        self._by_service = self.slices.add_index(_service_of)
        self._pods: Informer[Pod] | None = None
        if config.autopath or config.pods == zones.VERIFIED:
            self._pods = informers.get(scheme.PODS, Pod)
            self._by_address = self._pods.add_index(_addresses_of)
        zone.all_ports = self._all_ports

    async def run(self, subscribed: contextlib.ExitStack) -> None:
        """Fills the zone and returns when it is complete; from then on it follows."""
        for wait in (self._services.wait_synced, self.slices.wait_synced, self._namespaces.wait_synced):
            await wait()
        if self._pods is not None:
            await self._pods.wait_synced()
        subscribed.callback(self._namespaces.subscribe(self._namespace_changed))
        subscribed.callback(self._services.subscribe(self._service_changed))
        subscribed.callback(self.slices.subscribe(self._slice_changed))
        if self._pods is not None and self._config.pods == zones.VERIFIED:
            subscribed.callback(self._pods.subscribe(self._pod_changed))
        self._zone.synced = True

    def addresses(self) -> tuple[str, ...]:
        """The addresses of the cluster DNS Service; none before the zone is complete."""
        service = self._services.cache.get(f"{self._config.namespace}/{self._config.service}")
        return tuple(names.addresses(service)) if service is not None and self._zone.synced else ()

    def search(self, client: str, name: bytes) -> Sequence[bytes]:
        """What else the pod at an address would ask for after `name`, the first of its search path, is missing."""
        pods = self._by_address.get(client)
        if not pods:
            return ()
        first = wire.encode_name(f"{pods[0].metadata.namespace}.svc.{self._zone.zone}")
        if not name.endswith(first) or len(name) <= len(first):
            return ()
        wanted = name[: -len(first)]
        if not _whole_labels(wanted):
            return ()
        rest = (first[1 + first[0] :], self._zone.suffix, *self._searches, b"\0")
        return [wanted + suffix for suffix in rest if len(wanted) + len(suffix) <= wire.MAX_NAME]

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        changed = new or old
        if changed is not None:
            self._zone.put_namespace(changed.metadata.name, present=new is not None)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is None:
            return
        key = f"{changed.metadata.namespace}/{changed.metadata.name}"
        self._zone.put(key, names.of_service(new, zone=self._zone.zone) if new else ())
        if old is None or new is None or old.spec != new.spec:
            for each in self._by_service.get(key):
                self._put_slice(each)
        if new is not None and key == f"{self._config.namespace}/{self._config.service}":
            self._zone.put("ns", names.name_server(new, zone=self._zone.zone))

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if new is not None:
            self._put_slice(new)
        elif old is not None:
            self._zone.put(_owner(old), ())

    def _put_slice(self, found: EndpointSlice) -> None:
        """A slice is an owner of its own, so that a change costs what it changes and not the whole Service."""
        service = next((self._services.cache[key] for key in _service_of(found) if key in self._services.cache), None)
        self._zone.put(_owner(found), names.of_slice(service, found, zone=self._zone.zone) if service else ())

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        changed = new or old
        if changed is not None:
            key = ("pod", changed.metadata.namespace, changed.metadata.name)
            self._zone.put(key, names.pod_records(new, zone=self._zone.zone) if new else ())

    def _all_ports(self, name: bytes) -> Iterable[bytes]:
        labels = wire.decode_name(name).rstrip(".").split(".", 2)
        if len(labels) < 3 or labels[2] != f"svc.{self._zone.zone}":
            return ()
        key = f"{labels[1]}/{labels[0]}"
        service = self._services.cache.get(key)
        if service is None:
            return ()
        return dict.fromkeys(names.all_ports(service, self._by_service.get(key), zone=self._zone.zone))


def _whole_labels(name: bytes) -> bool:
    place = 0
    while place < len(name):
        place += 1 + name[place]
    return place == len(name)


def _owner(found: EndpointSlice) -> tuple[str, str, str]:
    return ("slice", found.metadata.namespace, found.metadata.name)


def _service_of(found: EndpointSlice) -> Iterable[str]:
    name = found.metadata.labels.service_name
    return (f"{found.metadata.namespace}/{name}",) if name else ()


def _addresses_of(pod: Pod) -> Iterable[str]:
    return () if pod.spec.host_network else tuple(address.ip for address in pod.status.pod_ips)
