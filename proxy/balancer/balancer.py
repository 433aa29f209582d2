"""The load balancer's loop: Services and Leases -> plan -> Leases, status, and which addresses we answer for.

Every node runs it. A holder that cannot renew stops answering before others begin: at most one node answers at a time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kube import kubeconfig, scheme, status
from kube.client.errors import ClientError
from kube.client.events import EventRecorder
from kube.client.http import HttpTransport
from kube.client.informer import Informer, Informers
from kube.client.rest import Client
from kube.runtime.clock import Clock, rfc3339_micro
from kube.runtime.component import Deps
from kube.types import EndpointSlice, Lease, Service
from proxy.balancer import claims
from proxy.balancer.claims import Claim
from proxy.balancer.config import LoadBalancerConfiguration
from proxy.balancer.link import Link, RawLink
from proxy.balancer.pool import Pool
from proxy.rules import plan as rules
from proxy.services.model import ServiceKey

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
REQUEST_SECONDS = 3.0
Slices = Callable[[ServiceKey], Iterable[EndpointSlice]]


def build(config: LoadBalancerConfiguration, deps: Deps, *, slices: Slices, leaving: Callable[[], bool]) -> "Balancer":
    """The balancer of this node, with the identity of its own kubeconfig. Raises KubeconfigError."""
    return Balancer(
        config,
        client=Client(HttpTransport(kubeconfig.load(Path(config.kubeconfig))), user_agent="nodeagent-load-balancer"),
        services=deps.informers.get(scheme.SERVICES, Service),
        slices=slices,
        leaving=leaving,
        link=RawLink(interface=config.interface, clock=deps.clock),
        events=deps.events,
        clock=deps.clock,
        node=deps.node_name,
    )


class Balancer:
    """One node's part of the load balancer."""

    def __init__(
        self,
        config: LoadBalancerConfiguration,
        *,
        client: Client,
        services: Informer[Service],
        slices: Slices,
        leaving: Callable[[], bool],
        link: Link,
        events: EventRecorder,
        clock: Clock,
        node: str,
    ) -> None:
        self._client, self._services, self._slices, self._leaving = client, services, slices, leaving
        self._link, self._events, self._clock, self._node = link, events, clock, node
        self._class = config.class_
        self._pool = Pool(config.addresses)
        self._informers = Informers(client, clock=clock)
        self._leases = self._informers.get(
            scheme.LEASES, Lease, namespace=claims.NAMESPACE, label_selector=f"{claims.LABEL}=true"
        )
        self._by_service = self._leases.add_index(_service_of)
        self._seen: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._exhausted: set[ServiceKey] = set()
        self._complaint = ""

    async def run(self) -> None:
        """Looks at all Services of the kind every half second, until cancelled."""
        async with asyncio.TaskGroup() as group:
            informing = group.create_task(self._informers.run())
            linking = group.create_task(self._link.run())
            try:
                await self._services.wait_synced()
                await self._leases.wait_synced()
                self._leases.subscribe(self._lease_changed)
                group.create_task(self._settle_forever())
                while True:  # whatever becomes of the requests: who cannot renew is silent in time
                    self._answer()
                    await self._clock.sleep(TICK_SECONDS / 2)
            finally:
                await self._stop()
                informing.cancel()
                linking.cancel()

    async def _settle_forever(self) -> None:
        while True:
            await self._round()
            await self._clock.sleep(TICK_SECONDS)

    async def _round(self) -> None:
        keys = {key for each in self._leases.cache.values() for key in _service_of(each)}
        keys |= {name for name, service in self._services.cache.items() if claims.served(service, class_=self._class)}
        for key in sorted(keys):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._settle(ServiceKey(*key.split("/", 1)))
                self._complaint = ""
            except (status.ApiError, ClientError, TimeoutError) as error:
                self._complain(key, error)
        self._answer()

    async def _settle(self, key: ServiceKey) -> None:
        service, found = self._services.cache.get("/".join(key)), self._claims(key)
        wanted = claims.plan(
            service,
            found,
            pool=self._pool,
            class_=self._class,
            node=self._node,
            eligible=self._eligible(key, service),
            taken=[each.metadata.annotations.get(claims.ADDRESS, "") for each in self._leases.cache.values()],
            now=self._clock.monotonic(),
        )
        for each in wanted.remove:
            await self._remove(each)
        for each in wanted.release:
            await self._hold(each, holder="")
        for each in wanted.take:
            if each.holder != self._node or self._due(each):
                await self._hold(each, holder=self._node)
        for version, offers in wanted.ask.items():
            await self._ask(key, version, offers)
        if service is not None:
            await self._report(service, self._claims(key))

    def _eligible(self, key: ServiceKey, service: Service | None) -> bool:
        """Under a Local policy only a node with endpoints may answer: others would drop what they are sent."""
        if service is None or self._leaving():
            return False
        if service.spec.external_traffic_policy != "Local":
            return True
        return rules.ready_here(service, self._slices(key), node=self._node) > 0

    def _claims(self, key: ServiceKey) -> list[Claim]:
        now = self._clock.monotonic()
        found = self._by_service.get("/".join(key))
        made = (claims.claim(each, seen=self._seen.get(each.metadata.name, now)) for each in found)
        return [each for each in made if each is not None]

    def _due(self, each: Claim) -> bool:
        last = self._renewed.get(each.address)
        return last is None or self._clock.monotonic() - last >= claims.RENEW_SECONDS

    async def _ask(self, key: ServiceKey, version: int, offers: Iterable[str]) -> None:
        for address in offers:
            self._exhausted.discard(key)
            try:
                await self._client.create(
                    scheme.LEASES, self._lease(key, address, holder=self._node), namespace=claims.NAMESPACE
                )
            except status.ApiError as error:
                if status.is_already_exists(error):
                    return  # another node, or another Service, was faster: the next round sees what became of it
                raise
            self._renewed[address] = self._clock.monotonic()
            return
        if key not in self._exhausted:
            self._exhausted.add(key)
            text = f"no free address of IPv{version} in the load balancer's pool"
            log.warning("%s/%s: %s", *key, text)
            reference = {"apiVersion": "v1", "kind": "Service", "namespace": key.namespace, "name": key.name}
            self._events.event(reference, "Warning", "AllocationFailed", text)

    async def _hold(self, each: Claim, *, holder: str) -> None:
        """Takes, renews or lets go of a claim; whoever changed it meanwhile wins."""
        name = claims.lease_name(each.address)
        if not holder:
            self._renewed.pop(each.address, None)
            self._answer()  # first silence, then the next one's turn
        begin, known = self._clock.monotonic(), self._leases.cache.get(f"{claims.NAMESPACE}/{name}")
        if known is None:
            return
        body = self._lease(each.service, each.address, holder=holder)
        body["metadata"]["resourceVersion"] = known.metadata.resource_version
        try:
            await self._client.update(scheme.LEASES, body)
        except status.ApiError as error:
            if status.is_conflict(error) or status.is_not_found(error):
                return
            raise
        if holder:
            self._renewed[each.address] = begin

    async def _remove(self, each: Claim) -> None:
        self._renewed.pop(each.address, None)
        self._answer()
        with contextlib.suppress(status.ApiError):
            await self._client.delete(scheme.LEASES, claims.lease_name(each.address), namespace=claims.NAMESPACE)

    async def _report(self, service: Service, found: Iterable[Claim]) -> None:
        """The holder of the first address writes the status."""
        ordered = sorted(found, key=lambda each: (each.version, each.address))
        wanted = claims.ingress(ordered)
        said = [{"ip": each.ip or "", "ipMode": each.ip_mode or ""} for each in service.status.load_balancer.ingress]
        served = claims.served(service, class_=self._class)
        if not served or not ordered or ordered[0].address not in self._renewed or wanted == said:
            return
        body: Mapping[str, Any] = {"status": {"loadBalancer": {"ingress": wanted}}}
        meta = service.metadata
        await self._client.patch(
            scheme.SERVICES, meta.name, dict(body), namespace=meta.namespace, kind="merge", subresource="status"
        )

    def _answer(self) -> None:
        now = self._clock.monotonic()
        self._link.answer_for({a for a, at in self._renewed.items() if now - at < claims.TRUSTED_SECONDS})

    def _lease(self, key: ServiceKey, address: str, *, holder: str) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": claims.lease_name(address),
                "namespace": claims.NAMESPACE,
                "labels": {claims.LABEL: "true"},
                "annotations": {claims.SERVICE: "/".join(key), claims.ADDRESS: address},
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": claims.DURATION_SECONDS,
                "renewTime": rfc3339_micro(self._clock.now()),
            },
        }

    def _lease_changed(self, old: Lease | None, new: Lease | None) -> None:
        name = (new or old or Lease()).metadata.name
        if new is None:
            self._seen.pop(name, None)
        elif old is None or old.spec != new.spec:
            self._seen[name] = self._clock.monotonic()
        found = claims.claim(new, seen=0.0) if new is not None else None
        if found is not None and found.holder != self._node:
            self._renewed.pop(found.address, None)

    def _complain(self, key: str, error: Exception) -> None:
        text = f"{key}: {error}"
        if text != self._complaint:
            self._complaint = text
            log.warning("a load balancer's address cannot be settled, will try again: %s", text)

    async def close(self) -> None:
        """Releases the connection."""
        await self._client.close()

    async def _stop(self) -> None:
        """On the way out addresses are let go, so that others need not wait."""
        held = [each for key in self._by_service.values() for each in self._claims(ServiceKey(*key.split("/", 1)))]
        self._link.answer_for(())
        with contextlib.suppress(status.ApiError, ClientError, TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS):
                for each in held:
                    if each.holder == self._node:
                        await self._hold(each, holder="")


def _service_of(found: Lease) -> Iterator[str]:
    made = claims.claim(found, seen=0.0)
    if made is not None:
        yield "/".join(made.service)
