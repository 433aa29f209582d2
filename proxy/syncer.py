"""The proxy's loop: changed Services -> plan -> difference -> one transaction.

Fed by two informers; the key is a Service, so cost follows the change and not the cluster. A change is applied at once.
After a failed write everything is written anew. Must not know a backend's rules.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from kube.client.informer import Informer
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from kube.types import EndpointSlice, Service
from proxy.backends.protocol import Backend, BackendError
from proxy.metrics import Metrics
from proxy.rules import plan
from proxy.rules.plan import Changes, Rules, RuleSet
from proxy.services.model import SERVICE_NAME_LABEL, ServiceKey

log = logging.getLogger(__name__)

FULL_SYNC_SECONDS = 3600.0
PRESENCE_CHECK_SECONDS = 30.0
RETRY = (0.1, 30.0)


class Syncer:
    """Keeps a backend's rules as the Services and EndpointSlices say."""

    def __init__(
        self,
        backend: Backend,
        *,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        node: str,
        clock: Clock,
        metrics: Metrics,
        forget_flows: Callable[[Changes], Awaitable[None]],
    ) -> None:
        self._backend = backend
        self._services = services
        self._slices = slices
        self._by_service = slices.add_index(_service_of)
        self._node = node
        self._clock = clock
        self._metrics = metrics
        self._forget_flows = forget_flows
        self._applied = RuleSet()
        self._dirty: set[ServiceKey] = set()
        self._wake = asyncio.Event()
        self._full = True
        self.queued_at: float | None = None
        self.last_sync: datetime | None = None

    @property
    def synced(self) -> bool:
        """Whether all Services have been in the kernel once."""
        return self.last_sync is not None

    async def run(self) -> None:
        """First everything, once both lists are there; then change by change."""
        await self._services.wait_synced()
        await self._slices.wait_synced()
        with contextlib.ExitStack() as subscribed:
            subscribed.callback(self._services.subscribe(self._service_changed))
            subscribed.callback(self._slices.subscribe(self._slice_changed))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sync_forever())
                group.create_task(self._watch_presence())

    def request_full(self) -> None:
        """Has everything written anew."""
        self._full = True
        self._mark()

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is not None:
            self._dirty.add(ServiceKey(changed.metadata.namespace, changed.metadata.name))
            self._mark()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for changed in (old, new):
            for name in _service_of(changed) if changed is not None else ():
                self._dirty.add(ServiceKey(*name.split("/", 1)))
        self._mark()

    def _mark(self) -> None:
        if self.queued_at is None:
            self.queued_at = self._clock.monotonic()
        self._wake.set()

    async def _sync_forever(self) -> None:
        backoff = Backoff(*RETRY)
        self._mark()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._sync()
                backoff.reset("sync")
            except BackendError as error:
                self._metrics.failures.inc()
                delay = backoff.next("sync")
                log.error("rules could not be written, all are written anew in %.1f s: %s", delay, error)
                self._full = True
                await self._clock.sleep(delay)
                self._wake.set()

    async def _sync(self) -> None:
        begin = self._clock.monotonic()
        dirty, self._dirty = self._dirty, set()
        full, self._full = self._full, False
        keys = self._all_keys() | dirty if full else dirty
        wanted = {key: self._plan(key) for key in keys}
        changes = plan.difference(self._applied, wanted)
        if full:
            goal = RuleSet()
            for key, rules in wanted.items():
                goal.replace(key, rules)
            await self._backend.replace(goal)
            self._applied = goal
        elif changes:
            await self._backend.change(changes)
            for key, rules in wanted.items():
                self._applied.replace(key, rules)
        await self._forget_flows(changes)
        self._finished(begin, full=full)

    def _finished(self, begin: float, *, full: bool) -> None:
        self.queued_at = self._clock.monotonic() if self._wake.is_set() else None
        self.last_sync = self._clock.now()
        self._metrics.synced(self._clock.monotonic() - begin, full=full, at=self.last_sync)

    def _plan(self, key: ServiceKey) -> Rules:
        name = f"{key.namespace}/{key.name}"
        before = self._applied.services.get(key, {})
        return plan.plan(self._services.cache.get(name), self._by_service.get(name), node=self._node, before=before)

    def _all_keys(self) -> set[ServiceKey]:
        return {ServiceKey(*name.split("/", 1)) for name in self._services.cache} | set(self._applied.services)

    async def _watch_presence(self) -> None:
        """Somebody may flush all rules: they are back within half a minute, and hourly in any case."""
        elapsed = 0.0
        while True:
            await self._clock.sleep(PRESENCE_CHECK_SECONDS)
            elapsed += PRESENCE_CHECK_SECONDS
            try:
                gone = not await self._backend.present()
            except Exception as error:
                log.warning(
                    "cannot see whether our rules are there, next look in %d s: %s", PRESENCE_CHECK_SECONDS, error
                )
                continue
            if self.synced and (gone or elapsed >= FULL_SYNC_SECONDS):
                if gone:
                    log.warning("somebody removed our rules: writing all anew")
                elapsed = 0.0
                self.request_full()


def _service_of(found: EndpointSlice) -> Iterable[str]:
    name = found.metadata.labels.get(SERVICE_NAME_LABEL)
    return (f"{found.metadata.namespace}/{name}",) if name else ()
