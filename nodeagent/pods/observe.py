"""Looking at the runtime: one pod in full when it matters, all pods cheaply to see which have changed.

Where the runtime tells events they wake pods at once and the listing is only a safety net; where it does not, the
listing each second is what sees a container end.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Final

import kube.runtime.log
from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import labels, records, runtime
from nodeagent.pods import observed

log = logging.getLogger(__name__)

LIST_PERIOD: Final = 1.0
LIST_PERIOD_WITH_EVENTS: Final = 30.0
EVENTS_RETRY: Final = 1.0
Fingerprint = frozenset[tuple[str, str]]


class Observer:
    """The runtime's view of pods. `on_change` is called with the uid of a pod to look at."""

    def __init__(self, runtime: runtime.Runtime, *, clock: Clock, on_change: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._on_change = on_change
        self._prints: dict[str, Fingerprint] = {}
        self._ended: dict[str, records.Container] = {}
        self._has_events = False
        self._failing = False

    async def pod(self, uid: str) -> observed.Observed:
        """Everything about one pod; raises RuntimeFault. Ended containers are asked about only once."""
        selector = {labels.POD_UID: uid}
        boxes = await self._runtime.sandboxes.list(labels=selector)
        listed = await self._runtime.containers.list(labels=selector)
        self._prints[uid] = fingerprint(boxes, listed)
        full = [await self._full(container) for container in listed]
        newest = max((s for s in boxes if s.ready), key=lambda s: s.created_at, default=None)
        if newest is not None:
            boxes = [await self._runtime.sandboxes.status(s.id) if s is newest else s for s in boxes]
        return observed.of(uid, boxes, full)

    async def sandbox(self, before: observed.Observed, sandbox_id: str) -> observed.Observed:
        """`before`, with a sandbox that was just made: one question instead of a whole look."""
        new = await self._runtime.sandboxes.status(sandbox_id)
        return self._noted(observed.of(before.uid, [new, *before.sandboxes], before.containers))

    async def containers(self, before: observed.Observed, ids: Sequence[str]) -> observed.Observed:
        """`before`, with these containers as they are now; a new one belongs to the newest sandbox."""
        boxes = {c.id: c.sandbox_id for c in before.containers}
        newest = before.sandbox.id if before.sandbox else ""
        fresh = [
            dataclasses.replace(await self._runtime.containers.status(id_), sandbox_id=boxes.get(id_, newest))
            for id_ in ids
        ]
        others = [c for c in before.containers if c.id not in ids]
        return self._noted(observed.of(before.uid, before.sandboxes, [*fresh, *others]))

    def _noted(self, seen: observed.Observed) -> observed.Observed:
        self._prints[seen.uid] = fingerprint(seen.sandboxes, seen.containers)
        return seen

    async def _full(self, listed: records.Container) -> records.Container:
        known = self._ended.get(listed.id)
        if known is not None:
            return known
        status = await self._runtime.containers.status(listed.id)
        found = dataclasses.replace(status, sandbox_id=listed.sandbox_id)
        if found.state == "exited":
            self._ended[found.id] = found
        return found

    async def everything(self) -> dict[str, str]:
        """Every pod the runtime has: uid -> namespace/name."""
        boxes = await self._runtime.sandboxes.list()
        return {s.uid: f"{s.namespace}/{s.name}" for s in boxes if s.labels.get(labels.POD_UID)}

    def forget(self, uid: str) -> None:
        """Forgets a pod that is gone."""
        self._prints.pop(uid, None)

    async def run(self) -> None:
        """Looks for changes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events())
            group.create_task(self._relist())

    async def _follow_events(self) -> None:
        while True:
            try:
                async for event in self._runtime.events():
                    self._has_events = True
                    self._on_change(event.pod_uid)
            except errors.RuntimeUnimplemented:
                log.info("the runtime tells no events; listing each %g s instead", LIST_PERIOD)
                return
            except errors.RuntimeFault as e:
                log.debug("runtime events ended: %s", e)
            self._has_events = False
            await self._clock.sleep(EVENTS_RETRY)

    async def _relist(self) -> None:
        while True:
            try:
                await self._compare()
                self._failing = False
            except errors.RuntimeFault as e:
                if not self._failing:
                    log.warning("the runtime does not answer, pods are left as they are: %s", e)
                self._failing = True
            except Exception as e:
                kube.runtime.log.failure(log, "listing pods failed", e)
            await self._clock.sleep(LIST_PERIOD_WITH_EVENTS if self._has_events else LIST_PERIOD)

    async def _compare(self) -> None:
        boxes = await self._runtime.sandboxes.list()
        containers = await self._runtime.containers.list()
        by_box: dict[str, list[records.Sandbox]] = {}
        by_container: dict[str, list[records.Container]] = {}
        for sandbox in boxes:
            by_box.setdefault(sandbox.labels.get(labels.POD_UID, ""), []).append(sandbox)
        for container in containers:
            by_container.setdefault(container.labels.get(labels.POD_UID, ""), []).append(container)
        alive = {c.id for c in containers}
        self._ended = {id_: c for id_, c in self._ended.items() if id_ in alive}
        for uid in (by_box.keys() | by_container.keys() | self._prints.keys()) - {""}:
            seen = fingerprint(by_box.get(uid, []), by_container.get(uid, []))
            if self._prints.get(uid, frozenset()) != seen:
                self._prints[uid] = seen
                self._on_change(uid)


def fingerprint(boxes: Sequence[records.Sandbox], containers: Sequence[records.Container]) -> Fingerprint:
    """Changes when anything the planner cares about may have changed."""
    return frozenset([*((s.id, str(s.ready)) for s in boxes), *((c.id, c.state) for c in containers)])
