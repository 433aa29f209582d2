"""What a plan may ask for: frozen values naming one API call each, and the one place that makes the call.

Owns the vocabulary. Must not decide anything: no retries, no reading of caches.
"""

from dataclasses import dataclass
from typing import Any

from kube.client.rest import Client
from kube.scheme import Resource

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Create an object; the body holds everything but apiVersion and kind."""

    resource: Resource
    body: JSON
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Patch one object, but only while it still has this UID (and this resourceVersion, if given)."""

    resource: Resource
    name: str
    uid: str
    body: JSON
    namespace: str | None = None
    kind: str = "merge"
    subresource: str | None = None
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete one object, but only while it still has this UID. grace in seconds, None for the object's own."""

    resource: Resource
    name: str
    uid: str
    namespace: str | None = None
    propagation: str | None = None
    grace: int | None = None
    version: str | None = None


Write = Create | Patch | Delete


async def apply(client: Client, write: Write) -> JSON:
    """Make the call a write stands for. Raises kube.status.ApiError or kube.client.errors.Unreachable."""
    match write:
        case Create():
            body = {"apiVersion": write.resource.api_version, "kind": write.resource.kind, **write.body}
            return await client.create(write.resource, body, namespace=write.namespace)
        case Patch():
            guard = {"uid": write.uid} | ({"resourceVersion": write.version} if write.version else {})
            body = {**write.body, "metadata": {**write.body.get("metadata", {}), **guard}}
            return await client.patch(
                write.resource,
                write.name,
                body,
                namespace=write.namespace,
                kind=write.kind,
                subresource=write.subresource,
            )
        case Delete():
            return await client.delete(
                write.resource,
                write.name,
                namespace=write.namespace,
                uid=write.uid,
                propagation=write.propagation,
                grace_period=write.grace,
                resource_version=write.version,
            )


def batches(count: int) -> list[int]:
    """Sizes of create batches: 1, 2, 4, ... so that a rejected template costs one call, not five hundred."""
    sizes, size = [], 1
    while count > 0:
        sizes.append(min(size, count))
        count -= sizes[-1]
        size *= 2
    return sizes
