"""What the scheduler writes: bindings, the PodScheduled condition, and events about both.

Owns these writes. Must not decide anything.
"""

import asyncio

from controlplane.projection import JSON, Pod
from controlplane.scheduler.preempt import Victims
from kube import scheme
from kube.client.events import EventRecorder
from kube.client.rest import Client
from kube.runtime import clock
from kube.runtime.clock import Clock
from kube.status import ApiError, is_conflict, is_not_found

UNSCHEDULABLE, GATED = "Unschedulable", "SchedulingGated"
GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"


class Binder:
    """Tells the API server what was decided."""

    def __init__(self, client: Client, *, events: EventRecorder, clock: Clock) -> None:
        self._client, self._events, self._clock = client, events, clock

    async def bind(self, pod: Pod, node: str) -> None:
        """Bind a pod. The server sets nodeName and PodScheduled=True in one write, and refuses another pod's UID."""
        meta = pod.metadata
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._client.create(scheme.PODS, body, namespace=meta.namespace, name=meta.name, subresource="binding")
        message = f"Successfully assigned {meta.namespace}/{meta.name} to {node}"
        self._events.event(_about(pod), "Normal", "Scheduled", message)

    async def refuse(self, pod: Pod, message: str) -> None:
        """Say that, and why, no node will do."""
        self._events.event(_about(pod), "Warning", "FailedScheduling", message)
        await self.mark(pod, reason=UNSCHEDULABLE, message=message)

    async def make_room(self, pod: Pod, victims: Victims) -> None:
        """Nominate the node, then ask its victims to go, with all the grace they have."""
        await self.nominate(pod, victims.node)
        async with asyncio.TaskGroup() as group:
            for info in victims.pods:
                group.create_task(self._evict(pod, info.pod, victims.node))

    async def nominate(self, pod: Pod, node: str | None) -> None:
        """Say on a pod where room is being made for it; None takes that back."""
        meta = pod.metadata
        patch: JSON = {"metadata": {"uid": meta.uid}, "status": {"nominatedNodeName": node}}
        await self._client.patch(scheme.PODS, meta.name, patch, namespace=meta.namespace, subresource="status")

    async def _evict(self, pod: Pod, victim: Pod, node: str) -> None:
        meta = victim.metadata
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{pod.spec.scheduler_name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": clock.rfc3339(self._clock.now()),
        }
        patch: JSON = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                scheme.PODS, meta.name, patch, namespace=meta.namespace, kind="strategic", subresource="status"
            )
            await self._client.delete(scheme.PODS, meta.name, namespace=meta.namespace, uid=meta.uid)
        except ApiError as e:
            if not (is_not_found(e) or is_conflict(e)):
                raise
        self._events.event(_about(victim), "Normal", "Preempted", f"Preempted by pod {pod.metadata.uid} on node {node}")

    async def mark(self, pod: Pod, *, reason: str, message: str) -> None:
        """Set PodScheduled=False, unless the pod already says exactly that."""
        shown = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
        if shown and (shown.status, shown.reason, shown.message) == ("False", reason, message):
            return
        since = shown.last_transition_time if shown and shown.status == "False" else None
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since or clock.rfc3339(self._clock.now()),
        }
        meta = pod.metadata
        patch: JSON = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        await self._client.patch(
            scheme.PODS, meta.name, patch, namespace=meta.namespace, kind="strategic", subresource="status"
        )


def _about(pod: Pod) -> JSON:
    meta = pod.metadata
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
    }
