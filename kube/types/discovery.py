"""EndpointSlices: the addresses behind a service, in pieces.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import ObjectMeta
from kube.types.service import EndpointPort, ObjectReference


class EndpointConditions(Projection):
    """Ready, serving, terminating; None means unknown and counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(Projection):
    """A zone the endpoint shall serve."""

    name: str = ""


class ForNode(Projection):
    """A node the endpoint shall serve."""

    name: str = ""


class EndpointHints(Projection):
    """Who shall use the endpoint."""

    for_nodes: tuple[ForNode, ...] = ()
    for_zones: tuple[ForZone, ...] = ()


class Endpoint(Projection):
    """One endpoint and its addresses."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    deprecated_topology: dict[str, str] = {}
    hints: EndpointHints | None = None
    hostname: str | None = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None
    zone: str | None = None


class EndpointSlice(Projection):
    """Some endpoints of a service, of one address family."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
