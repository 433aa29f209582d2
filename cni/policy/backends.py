"""Where a connection to a Service ends, for `explain`: each endpoint with its address, protocol and port. PURE.

Policies judge a connection by the endpoint that was chosen. Nothing else of this package knows Services.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kube.types import EndpointSlice, Service, decode

PREFIXES = ("svc/", "service/")
OWNER = "kubernetes.io/service-name"

Backend = tuple[str, str, int]


class UnknownService(Exception):
    """There is no such Service, port or endpoint; the message says which."""


def named(text: str) -> tuple[str, str] | None:
    """Namespace and name of `svc/name` or `svc/namespace/name`; None for what is no Service."""
    for prefix in PREFIXES:
        if text.startswith(prefix):
            namespace, sign, name = text.removeprefix(prefix).partition("/")
            return (namespace, name) if sign else ("default", namespace)
    return None


def of(found: Mapping[str, Sequence[Mapping[str, Any]]], key: tuple[str, str], *, port: str) -> Sequence[Backend]:
    """The ready endpoints behind a Service's port, `80`, `80/udp` or its name. Raises UnknownService."""
    label = "/".join(key)
    services = {(s.metadata.namespace, s.metadata.name): s for s in _read(found["services"], Service)}
    if key not in services:
        raise UnknownService(f"no service {label}")
    wanted, _, protocol = port.partition("/")
    chosen = [
        each
        for each in services[key].spec.ports
        if wanted in (str(each.port), each.name) and protocol.upper() in ("", each.protocol)
    ]
    if not chosen:
        there = ", ".join(f"{each.name or each.port}/{each.protocol.lower()}" for each in services[key].spec.ports)
        raise UnknownService(f"service {label} has no port {port!r}; it has {there or 'none'}")
    slices = [
        each
        for each in _read(found["endpointslices"], EndpointSlice)
        if (each.metadata.namespace, each.metadata.labels.get(OWNER)) == key
    ]
    backends = [each for piece in slices for each in _of_slice(piece, chosen[0].name)]
    if not backends:
        raise UnknownService(f"service {label} has no ready endpoint at port {port!r}")
    return sorted(set(backends))


def _of_slice(piece: EndpointSlice, port: str) -> Iterable[Backend]:
    numbers = [(each.protocol or "TCP", each.port) for each in piece.ports if (each.name or "") == port and each.port]
    ready = [each for each in piece.endpoints if each.conditions.ready is not False]
    return [(a, protocol.lower(), number or 0) for e in ready for a in e.addresses for protocol, number in numbers]


def _read(items: Sequence[Mapping[str, Any]], kind: type[Any]) -> Iterable[Any]:
    return [decode(json.dumps(item), kind) for item in items]
