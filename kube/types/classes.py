"""Classes pods refer to: priority and runtime.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import ObjectMeta
from kube.types.scheduling import Toleration


class PriorityClass(Projection):
    """A name for a priority."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    description: str | None = None
    global_default: bool = False
    preemption_policy: str | None = None
    value: int | None = None


class Overhead(Projection):
    """What a sandbox costs beside its containers."""

    pod_fixed: dict[str, str | int | float] = {}


class Scheduling(Projection):
    """Where pods of a runtime class may run."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class RuntimeClass(Projection):
    """A handler of the container runtime."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    handler: str = ""
    overhead: Overhead | None = None
    scheduling: Scheduling | None = None
