"""The proxy's loop: changed Services -> plan -> difference -> one transaction.

Fed by two informers; the key is a Service, so cost follows the change and not the cluster. A change is applied at once.
After a failed write everything is written anew. Must not know a backend's rules.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from datetime import datetime

from kube.client.informer import Informer
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from kube.types import EndpointSlice, Service
from proxy.backends.protocol import Backend, BackendError
from proxy.metrics import FAMILIES, Metrics
from proxy.rules import plan
from proxy.rules.plan import Changes, Frontend, Rules, RuleSet
from proxy.services import tracker
from proxy.services.model import ServiceKey, ThisNode

log = logging.getLogger(__name__)

FULL_SYNC_SECONDS = 3600.0
PRESENCE_CHECK_SECONDS = 30.0
REPAIR_PAUSE_SECONDS = 1.0
RETRY = (0.1, 30.0)
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class Syncer:
    """Keeps a backend's rules as the Services and EndpointSlices say."""

    def __init__(
        self,
        backend: Backend,
        *,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        node: ThisNode,
        clock: Clock,
        metrics: Metrics,
        forget_flows: Callable[[Changes], Awaitable[None]],
    ) -> None:
        self._backend = backend
        self._services = services
        self._slices = slices
        self._by_service = slices.add_index(_service_of)
        self._node = node
        self._ranges: tuple[str, ...] = ()
        self._clock = clock
        self._metrics = metrics
        self._forget_flows = forget_flows
        metrics.watch(lambda: self._applied)
        self._applied = RuleSet()
        self._dirty: set[ServiceKey] = set()
        self._waiting: dict[Frontend, set[ServiceKey]] = {}
        self._triggers: list[datetime] = []
        self._started = clock.now()
        self._wake = asyncio.Event()
        self._synced = asyncio.Event()
        self._full = True
        self.queued_at: float | None = None
        self.last_sync: datetime | None = None

    @property
    def synced(self) -> bool:
        """Whether all Services have been in the kernel once."""
        return self.last_sync is not None

    async def wait_synced(self) -> None:
        """Waits until `synced`; the caller sets the deadline."""
        await self._synced.wait()

    @property
    def applied(self) -> RuleSet:
        """What was written last. Read only."""
        return self._applied

    async def run(self) -> None:
        """First everything, once both lists are there; then change by change."""
        await self._services.wait_synced()
        await self._slices.wait_synced()
        with contextlib.ExitStack() as subscribed:
            subscribed.callback(self._services.subscribe(self._service_changed))
            subscribed.callback(self._slices.subscribe(self._slice_changed))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sync_forever())
                group.create_task(self._repair_forever())
                group.create_task(self._renew_forever())

    def request_full(self) -> None:
        """Has everything written anew."""
        self._full = True
        self._mark()

    def place(self, node: ThisNode) -> None:
        """Our node's zone or addresses: what all rules depend on."""
        if node != self._node:
            self._node = node
            self.request_full()

    def limit(self, ranges: tuple[str, ...]) -> None:
        """The blocks that cluster addresses are taken from."""
        if ranges != self._ranges:
            self._ranges = ranges
            self.request_full()

    def slices_of(self, key: ServiceKey) -> list[EndpointSlice]:
        """The EndpointSlices of a Service."""
        return self._by_service.get(f"{key.namespace}/{key.name}")

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is not None:
            self._metrics.service_changed()
            self._dirty.add(ServiceKey(changed.metadata.namespace, changed.metadata.name))
            self._mark()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for changed in (old, new):
            key = tracker.service_of(changed) if changed is not None else None
            if key is not None:
                self._dirty.add(key)
        self._metrics.endpoints_changed()
        triggered = _trigger(new)
        if triggered is not None and triggered >= self._started:
            self._triggers.append(triggered)
        self._mark()

    def _mark(self) -> None:
        if self.queued_at is None:
            self.queued_at = self._clock.monotonic()
            self._metrics.queued(self._clock.now())
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
                self._metrics.failed(full=self._full)
                delay = backoff.next("sync")
                log.error("rules could not be written, all are written anew in %.1f s: %s", delay, error)
                self._full = True
                await self._clock.sleep(delay)
                self._wake.set()

    async def _sync(self) -> None:
        begin = self._clock.monotonic()
        dirty, self._dirty = self._dirty, set()
        triggers, self._triggers = self._triggers, []
        full, self._full = self._full, False
        self._metrics.taken()
        wanted = self._wanted(self._all_keys() | dirty if full else dirty)
        changes = plan.difference(self._applied, wanted)
        if full:
            goal = RuleSet(ranges=self._ranges)
            for key, rules in wanted.items():
                goal.replace(key, rules)
            await self._backend.replace(goal)
            self._applied = goal
        elif changes:
            await self._backend.change(changes)
            for key, rules in wanted.items():
                self._applied.replace(key, rules)
        self._next_in_line(changes)
        await self._forget_flows(changes)
        touched = FAMILIES if full else {frontend.version for frontend in changes.ports}
        self._finished(begin, full=full, versions=touched, triggers=triggers)

    def _finished(self, begin: float, *, full: bool, versions: Collection[int], triggers: Iterable[datetime]) -> None:
        self.queued_at = self._clock.monotonic() if self._wake.is_set() else None
        self.last_sync = self._clock.now()
        self._synced.set()
        self._metrics.synced(
            self._clock.monotonic() - begin, full=full, at=self.last_sync, versions=versions, triggers=triggers
        )

    def _wanted(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, Rules]:
        """What these Services get; a frontend that two of them want belongs to one, the other waits for it."""
        planned = {key: self._plan(key) for key in keys}
        settled, contested = plan.settle(self._applied, planned)
        for frontend in contested:
            losers = {key for key, rules in planned.items() if frontend in rules and frontend not in settled[key]}
            if not losers <= self._waiting.get(frontend, set()):
                names = ", ".join(f"{key.namespace}/{key.name}" for key in sorted(losers))
                log.warning(
                    "%s %s:%d is another Service's: not served for %s", frontend.protocol, *frontend[::2], names
                )
            self._waiting.setdefault(frontend, set()).update(losers)
        return settled

    def _next_in_line(self, changes: Changes) -> None:
        """Who waits for a frontend that has become free is planned again."""
        for frontend, (_, new) in changes.ports.items() if self._waiting else ():
            if new is None:
                self._dirty |= self._waiting.pop(frontend, set())
        if self._dirty:
            self._mark()

    def _plan(self, key: ServiceKey) -> Rules:
        service = self._services.cache.get(f"{key.namespace}/{key.name}")
        before = self._applied.services.get(key, {})
        return plan.plan(service, self.slices_of(key), node=self._node, before=before)

    def _all_keys(self) -> set[ServiceKey]:
        return {ServiceKey(*name.split("/", 1)) for name in self._services.cache} | set(self._applied.services)

    async def _repair_forever(self) -> None:
        """Rules that somebody else removed or changed are back at once; where that is not told, after a look."""
        complained = False
        while True:
            try:
                done = await self._backend.damaged()
            except BackendError as error:
                if not complained:
                    log.warning("our rules are looked at every %d s only: %s", PRESENCE_CHECK_SECONDS, error)
                complained = True
                await self._clock.sleep(PRESENCE_CHECK_SECONDS)
                done = "" if await self._present() else "gone"
            if done and self.synced:
                log.warning("somebody touched our rules (%s): writing all anew", done)
                self.request_full()
                await self._clock.sleep(REPAIR_PAUSE_SECONDS)

    async def _present(self) -> bool:
        try:
            return await self._backend.present()
        except BackendError as error:
            log.warning("cannot see whether our rules are there: %s", error)
            return True

    async def _renew_forever(self) -> None:
        while True:
            await self._clock.sleep(FULL_SYNC_SECONDS)
            self.request_full()


def _service_of(found: EndpointSlice) -> Iterator[str]:
    key = tracker.service_of(found)
    if key is not None:
        yield "/".join(key)


def _trigger(found: EndpointSlice | None) -> datetime | None:
    """When the change behind a slice happened, as its controller noted it."""
    text = found.metadata.annotations.get(TRIGGER_ANNOTATION) if found else None
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return parsed if parsed and parsed.tzinfo else None
