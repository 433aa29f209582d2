"""A kubelet that only reports: every pod bound to its node is Running and Ready at once, and gone when asked to go.

For tests of the control plane: no containers, no addresses that anyone could reach.
"""

import asyncio
from typing import Any

from kube import scheme, status
from kube.client.informer import Informers
from kube.client.rest import Client
from kube.runtime.clock import Clock, rfc3339, rfc3339_micro


class FakeKubelet:
    """One node. `hold` keeps new pods from becoming ready, `silent` stops the heartbeat and all reports."""

    def __init__(self, client: Client, name: str, *, clock: Clock, cpu: str = "4", pods: int = 110) -> None:
        self.client, self.name, self.hold, self.silent = client, name, False, False
        self._clock, self._cpu, self._pods = clock, cpu, pods
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._addresses = iter(range(2, 60_000))

    async def run(self) -> None:
        """Register, then report until cancelled."""
        await self.register()
        informers = Informers(self.client, clock=self._clock)
        mine = informers.get(scheme.PODS, field_selector=f"spec.nodeName={self.name}")
        mine.subscribe(lambda old, new: self._queue.put_nowait(new) if new else None)
        async with asyncio.TaskGroup() as group:
            group.create_task(informers.run())
            group.create_task(self._heartbeat())
            while True:
                pod = await self._queue.get()
                try:
                    await self._report(pod)
                except status.ApiError as error:
                    if not (status.is_not_found(error) or status.is_conflict(error)):
                        raise

    async def register(self) -> None:
        """Create the node and say that it is ready."""
        meta = {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}}
        await self.client.create(scheme.NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta})
        amounts = {"cpu": self._cpu, "memory": "8Gi", "pods": str(self._pods)}
        await self.say_ready("True", amounts)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self.name, "renewTime": rfc3339_micro(self._clock.now())},
        }
        await self.client.create(scheme.LEASES, lease)

    async def say_ready(self, value: str, amounts: dict[str, str] | None = None) -> None:
        """Report the node's Ready condition, and what it has."""
        now = rfc3339(self._clock.now())
        ready = {"type": "Ready", "status": value, "reason": "KubeletReady", "lastHeartbeatTime": now}
        body: dict[str, Any] = {"conditions": [{**ready, "lastTransitionTime": now}]}
        if amounts:
            body |= {"capacity": amounts, "allocatable": amounts}
        await self.client.patch(scheme.NODES, self.name, {"status": body}, kind="strategic", subresource="status")

    async def _heartbeat(self) -> None:
        while True:
            await self._clock.sleep(10.0)
            if not self.silent:
                renewed = {"spec": {"renewTime": rfc3339_micro(self._clock.now())}}
                await self.client.patch(scheme.LEASES, self.name, renewed, namespace="kube-node-lease")

    async def _report(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        if self.silent:
            return
        if meta.get("deletionTimestamp"):
            await self.client.delete(
                scheme.PODS, meta["name"], namespace=meta["namespace"], grace_period=0, uid=meta["uid"]
            )
        elif pod.get("status", {}).get("phase", "Pending") == "Pending":
            body = {"metadata": {"uid": meta["uid"]}, "status": self._running(pod)}
            await self.client.patch(
                scheme.PODS, meta["name"], body, namespace=meta["namespace"], kind="strategic", subresource="status"
            )

    def _running(self, pod: dict[str, Any]) -> dict[str, Any]:
        now, ready = rfc3339(self._clock.now()), "False" if self.hold else "True"
        number = next(self._addresses)
        address = f"10.{sum(self.name.encode()) % 200}.{number // 250}.{number % 250 + 1}"
        containers = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": not self.hold,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for container in pod["spec"]["containers"]
        ]
        return {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now,
            "conditions": [
                {"type": kind, "status": ready, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")
            ],
            "containerStatuses": containers,
        }

    async def release(self) -> None:
        """Make ready what was held."""
        self.hold = False
        found = await self.client.list(scheme.PODS, field_selector=f"spec.nodeName={self.name}")
        for pod in found["items"]:
            if not pod["metadata"].get("deletionTimestamp"):
                body = {"status": {"conditions": self._running(pod)["conditions"]}}
                meta = pod["metadata"]
                await self.client.patch(
                    scheme.PODS, meta["name"], body, namespace=meta["namespace"], kind="strategic", subresource="status"
                )

    async def end_all(self) -> None:
        """Report every pod that was asked to go as gone, and speak again."""
        self.silent = False
        found = await self.client.list(scheme.PODS, field_selector=f"spec.nodeName={self.name}")
        for pod in found["items"]:
            if pod["metadata"].get("deletionTimestamp"):
                await self._report(pod)
