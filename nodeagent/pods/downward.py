"""What a pod may learn about itself: the values of field and resource references. PURE.

Owns field paths, resource names and their text. Must not know whether a value goes to a variable or to a file.
Follows the downward API of Kubernetes 1.36.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from kube import quantity, types

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
_RESOURCE = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+)")
_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}

Quantities = Mapping[str, str | int | float]


class DownwardError(Exception):
    """A reference names a field, resource or container that cannot be read; the message says which."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a pod beside its object: addresses and the node's allocatable resources."""

    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    allocatable: Quantities = dataclasses.field(default_factory=dict)


_FIELDS: Mapping[str, Callable[[types.Pod, Facts], str]] = {
    "metadata.name": lambda pod, _: pod.metadata.name,
    "metadata.namespace": lambda pod, _: pod.metadata.namespace,
    "metadata.uid": lambda pod, _: pod.metadata.uid,
    "metadata.labels": lambda pod, _: format_map(pod.metadata.labels),
    "metadata.annotations": lambda pod, _: format_map(pod.metadata.annotations),
    "spec.nodeName": lambda pod, _: pod.spec.node_name,
    "spec.serviceAccountName": lambda pod, _: pod.spec.service_account_name,
    "status.hostIP": lambda _, facts: facts.host_ips[0] if facts.host_ips else "",
    "status.hostIPs": lambda _, facts: ",".join(facts.host_ips),
    "status.podIP": lambda _, facts: facts.pod_ips[0] if facts.pod_ips else "",
    "status.podIPs": lambda _, facts: ",".join(facts.pod_ips),
}


def field(path: str, pod: types.Pod, *, facts: Facts) -> str:
    """The text of one field. Raises DownwardError for a path that is not served."""
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        values = pod.metadata.labels if subscript[1] == "labels" else pod.metadata.annotations
        return values.get(subscript[2], "")
    read = _FIELDS.get(path)
    if read is None:
        raise DownwardError(f"unsupported fieldPath: {path}")
    return read(pod, facts)


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as a file shows them: one `key="value"` a line, sorted by key."""
    return "\n".join(f'{key}="{_quoted(values[key])}"' for key in sorted(values))


def _quoted(text: str) -> str:
    return "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)


def resource(
    reference: types.ResourceFieldSelector,
    pod: types.Pod,
    container: types.Container | types.EphemeralContainer | None,
    *,
    facts: Facts,
) -> str:
    """A container's limit or request, divided and rounded up. A missing limit is what the node can give.

    `container` is the one the reference is read in; None in a volume, where it must name its container.
    """
    match = _RESOURCE.fullmatch(reference.resource)
    if match is None:
        raise DownwardError(f"unsupported container resource : {reference.resource}")
    kind, name = match[1], match[2]
    target = _target(reference, pod, container)
    chosen = target.resources.limits if kind == "limits" else target.resources.requests
    amount: str | int | float = chosen.get(name, facts.allocatable.get(name, 0) if kind == "limits" else 0)
    divisor = quantity.parse(reference.divisor or 1) or quantity.parse(1)
    if name == "cpu":
        return str(-(-quantity.parse(amount).milli() // divisor.milli()))
    return str(-(-quantity.parse(amount).value() // divisor.value()))


def _target(
    reference: types.ResourceFieldSelector, pod: types.Pod, container: types.Container | types.EphemeralContainer | None
) -> types.Container | types.EphemeralContainer:
    if not reference.container_name:
        if container is None:
            raise DownwardError(f"resourceFieldRef {reference.resource}: containerName is required in a volume")
        return container
    for candidate in (*pod.spec.containers, *pod.spec.init_containers):
        if candidate.name == reference.container_name:
            return candidate
    raise DownwardError(f"container {reference.container_name} not found")
