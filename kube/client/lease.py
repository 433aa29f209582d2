"""Keeping a Lease fresh: the node's heartbeat.

Owns renewal and its back-off. Must not know what a missing renewal means to others.
"""

import logging
import random
from collections.abc import Mapping
from typing import Any

import kube.runtime.log
from kube import scheme, status
from kube.client.errors import ClientError
from kube.client.rest import Client
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock, rfc3339_micro

log = logging.getLogger(__name__)

RENEW_FRACTION = 0.25
JITTER = 0.04  # of the period; the kubelet spreads its renewals by as much


class LeaseKeeper:
    """Renews one Lease as `holder`, each quarter of its duration, as the kubelet does (40 s and 10 s)."""

    def __init__(
        self,
        client: Client,
        *,
        name: str,
        namespace: str,
        holder: str,
        duration: int,
        clock: Clock,
        owner: Mapping[str, Any] | None = None,
    ) -> None:
        self._client, self._name, self._namespace, self._holder = client, name, namespace, holder
        self._duration, self._clock = duration, clock
        self.owner = owner
        """ownerReference of the Lease; may be set later, when the Node has its uid."""
        self._current: dict[str, Any] | None = None
        self._complaint = ""
        self.renewed_at: float | None = None
        """Monotonic time of the last renewal, or None."""

    async def run(self) -> None:
        """Renew until cancelled."""
        backoff = Backoff(0.2, 7.0, jitter=0.5)
        while True:
            try:
                await self.renew()
            except (status.ApiError, ClientError) as error:
                self._current = None
                self._complain(error)
                await self._clock.sleep(backoff.next())
                continue
            self._complaint = ""
            backoff.reset()
            # Nodes that were told of the server's return together do not renew together for ever.
            await self._clock.sleep(self._duration * RENEW_FRACTION * (1 - random.uniform(0, JITTER)))

    async def renew(self) -> None:
        """One renewal; raises what the client raises."""
        if self._current is None:
            self._current = await self._find()
        if self._current is None:
            self._current = await self._client.create(scheme.LEASES, self._renewed({}), namespace=self._namespace)
        else:
            self._current = await self._client.update(scheme.LEASES, self._renewed(self._current))
        self.renewed_at = self._clock.monotonic()

    async def _find(self) -> dict[str, Any] | None:
        try:
            return await self._client.get(scheme.LEASES, self._name, namespace=self._namespace)
        except status.ApiError as error:
            if status.is_not_found(error):
                return None
            raise

    def _renewed(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {**lease.get("metadata", {}), "name": self._name, "namespace": self._namespace}
        if self.owner is not None:
            metadata["ownerReferences"] = [dict(self.owner)]
        spec = {
            **lease.get("spec", {}),
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._duration,
            "renewTime": rfc3339_micro(self._clock.now()),
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _complain(self, error: Exception) -> None:
        text = kube.runtime.log.describe(error)
        if text != self._complaint:
            self._complaint = text
            log.warning("lease %s/%s cannot be renewed, will try again: %s", self._namespace, self._name, text)
