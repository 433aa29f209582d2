"""Small core kinds: configuration, secrets, namespaces, service accounts, events.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import ObjectMeta
from kube.types.service import ObjectReference
from kube.types.volume import LocalObjectReference


class ConfigMap(Projection):
    """Configuration as text and bytes (base64 text in `binary_data`)."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    binary_data: dict[str, str] = {}
    data: dict[str, str] = {}
    immutable: bool | None = None


class Secret(Projection):
    """Confidential data; values are base64 text."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    data: dict[str, str] = {}
    immutable: bool | None = None
    string_data: dict[str, str] = {}
    type: str = ""


class NamespaceSpec(Projection):
    """Finalizers of a namespace."""

    finalizers: tuple[str, ...] = ()


class NamespaceCondition(Projection):
    """A condition of a namespace."""

    status: str = ""
    last_transition_time: str | None = None
    message: str = ""
    reason: str = ""
    type: str = ""


class NamespaceStatus(Projection):
    """Phase and conditions of a namespace."""

    conditions: tuple[NamespaceCondition, ...] = ()
    phase: str = ""


class Namespace(Projection):
    """A scope for names."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: NamespaceSpec = msgspec.field(default_factory=NamespaceSpec)
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)


class ServiceAccount(Projection):
    """An identity for pods."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    automount_service_account_token: bool | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    secrets: tuple[ObjectReference, ...] = ()


class EventSource(Projection):
    """Who reported an event."""

    component: str = ""
    host: str = ""


class EventSeries(Projection):
    """How often an event came again."""

    count: int | None = None
    last_observed_time: str | None = None


class Event(Projection):
    """Something that happened to an object."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    action: str | None = None
    count: int = 0
    event_time: str | None = None
    first_timestamp: str | None = None
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    last_timestamp: str | None = None
    message: str = ""
    reason: str = ""
    related: ObjectReference | None = None
    reporting_component: str | None = None
    reporting_instance: str | None = None
    series: EventSeries | None = None
    source: EventSource = msgspec.field(default_factory=EventSource)
    type: str = ""
