"""What users are told of one pod: its status, made anew at each look and remembered until the API sends it back.

It decides nothing about the pod; `status/generate` words the status, this keeps what it is worded from.
"""

import asyncio
from typing import Any, Final

import msgspec

from kube import types
from kube.runtime import clock
from nodeagent.pods import changes, observed, plan, resizing, spec
from nodeagent.pods.kit import Kit
from nodeagent.status import generate, report

Json = dict[str, Any]
PASSING: Final = 0.3
"""Seconds a state must last to be worth a write of its own while a container is being started."""


class Reporting:
    """The status of one pod. `waiting` says why containers do not run, by name."""

    def __init__(self, pod: types.Pod, kit: Kit) -> None:
        self._uid = pod.metadata.uid
        self._kit = kit
        self._started_at = clock.rfc3339(kit.clock.now())
        self._messages: dict[str, str] = {}
        self.status: Json | None = None
        self.typed: types.PodStatus | None = None
        """The same, as it is read."""
        self.waiting: dict[str, report.Waiting] = {}

    def with_status(self, pod: types.Pod) -> types.Pod:
        """The pod with the status this agent last gave it, which the API may not have sent back yet."""
        if self.typed is None:
            return pod
        conditions = (*self.typed.conditions, *changes.theirs(pod))
        return msgspec.structs.replace(pod, status=msgspec.structs.replace(self.typed, conditions=conditions))

    async def publish(
        self,
        pod: types.Pod,
        seen: observed.Observed,
        *,
        end: plan.End | None,
        resizing: resizing.Resizing,
        final: bool,
        soon: bool,
    ) -> None:
        """Has the status written, unless it is there already. Not `soon`: it is about to change."""
        await self._read_messages(pod, seen)
        for container in seen.running:
            self.waiting.pop(container.name, None)
        known = self.with_status(pod)
        given = report.Report(
            seen=seen,
            now=clock.rfc3339(self._kit.clock.now()),
            start_time=self._started_at,
            waiting=self.waiting,
            results=self._kit.probes.results(self._uid),
            messages=self._messages,
            host_ips=self._kit.facts.host_ips,
            end=end,
            final=final,
            granted=resizing.granted,
            in_force=resizing.force,
            resizing=resizing.conditions(),
        )
        self.status = generate.status(known, given)
        self.typed = msgspec.convert(self.status, types.PodStatus)
        self._kit.statuses.publish(known, self.status, delay=0.0 if soon else PASSING)

    async def _read_messages(self, pod: types.Pod, seen: observed.Observed) -> None:
        """Termination messages of containers that have ended since, each read once."""
        fresh = [c for c in seen.containers if c.state == "exited" and c.id not in self._messages]
        if not fresh:
            return
        logs = self._kit.files.logs_of(pod)
        count = len(list(spec.every(pod)))
        found = await asyncio.to_thread(self._kit.files.messages, self._uid, fresh, logs=logs, containers=count)
        kept = {c.id for c in seen.containers}
        self._messages = {id_: text for id_, text in self._messages.items() if id_ in kept}
        self._messages |= {c.id: found.get(c.id, "") for c in fresh}
