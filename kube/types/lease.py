"""Leases: who is alive, who leads.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import ObjectMeta


class LeaseSpec(Projection):
    """Holder and times of a lease; durations in seconds."""

    acquire_time: str | None = None
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    preferred_holder: str | None = None
    renew_time: str | None = None
    strategy: str | None = None


class Lease(Projection):
    """A heartbeat, or a lock among replicas."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)
