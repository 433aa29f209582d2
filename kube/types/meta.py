"""What every object carries: its metadata, owners, selectors and conditions.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

from kube.types.base import Projection


class OwnerReference(Projection):
    """The object that owns this one; the garbage collector follows it."""

    api_version: str = ""
    kind: str = ""
    block_owner_deletion: bool | None = None
    controller: bool | None = None
    name: str = ""
    uid: str = ""


class ObjectMeta(Projection):
    """Name, namespace, uid, labels, annotations and life-cycle marks of an object."""

    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    name: str = ""
    namespace: str = ""
    owner_references: tuple[OwnerReference, ...] = ()
    resource_version: str = ""
    uid: str = ""


class LabelSelectorRequirement(Projection):
    """One set-based condition of a label selector."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Projection):
    """Labels that must match; see `kube.labels.from_object`."""

    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
    match_labels: dict[str, str] = {}


class Condition(Projection):
    """A condition in the common form (Service, EndpointSlice and newer kinds)."""

    status: str = ""
    last_transition_time: str | None = None
    message: str = ""
    observed_generation: int | None = None
    reason: str = ""
    type: str = ""
